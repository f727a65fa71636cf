"""IR drop of many equal arrays at once, in torch: on a GPU where there is one, on the CPU as well.

Rows are eliminated from the top, a block of one row's columns at a time, for all arrays together. What lies above a cut
of the bit lines gives the current J = S·V - Y·v for input voltages V and bit-line voltages v at the cut:

    a row of cells     A = (1 + g·R)⁻¹·g,  S ← [S, A·1],  Y ← Y + A      R: resistances of its word line
    a segment below    M = (1 + r·Y)⁻¹,    S ← M·S,       Y ← M·Y        r: resistance of a bit line's segment

Only conductances and resistances are added and multiplied, never 1/r, so wires may be ideal and cells may be off.
The convention is that of `aimc_sim.wires`; everything is float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64
from aimc_sim.errors import BadInput
from aimc_sim.wires import Drive, Network, Sense, checked_cells

if TYPE_CHECKING:
    import torch

AT_ONCE = 1 << 31  # bytes of arrays and scratch that are in the device's memory at a time


def effective_conductance(
    g_us: npt.ArrayLike, r_row_ohm: float, r_col_ohm: float, *, drive: Drive = "left", sense: Sense = "bottom",
    r_driver_ohm: float = 0.0, r_sense_ohm: float = 0.0, device: str | torch.device | None = None,
    at_once: int | None = None,
) -> F64:  # fmt: skip
    """Compute G_eff (…, rows, cols) float64 µS of equal arrays g_us (…, rows, cols) µS, computed in torch.

    Arguments as for `aimc_sim.wires.effective_conductance`, which it agrees with to about 1e-13 of an array's largest.
    device: of torch; None: the first GPU, or the CPU without one. at_once: arrays per batch; None: what 2 GB hold.
    Raises BadInput as that one does, and for a device that torch does not have.
    """
    import torch

    network = Network(r_row_ohm, r_col_ohm, drive, sense, r_driver_ohm, r_sense_ohm)
    cells = checked_cells(g_us, "g_us")
    where = _device(device)
    if network.ideal:
        return cells.astype(np.float64)
    if at_once is not None and (type(at_once) is not int or at_once < 1):
        raise BadInput(
            "at_once", got=at_once, why="a batch holds arrays", do="give a whole number of at least 1"
        )
    rows, cols = cells.shape[-2:]
    stack = cells.reshape(-1, rows, cols)
    least = min(rows, cols)
    batch = at_once or max(1, AT_ONCE // (8 * least * (3 * max(rows, cols) + 5 * least)))
    out = np.empty(stack.shape)
    for first in range(0, len(stack), batch):
        part = torch.from_numpy(np.ascontiguousarray(stack[first : first + batch], np.float64)).to(where)
        out[first : first + batch] = reduce_arrays(part, network).cpu().numpy()
    return out.reshape(cells.shape)


def reduce_arrays(g_us: torch.Tensor, network: Network) -> torch.Tensor:
    """Compute G_eff µS of g_us (arrays, rows, cols) float64 µS ≥ 0, on the tensor's device. The elimination itself."""
    g, net = _turn(g_us, network)
    back = [axis for axis, flipped in ((1, net.sense == "top"), (2, net.drive == "right")) if flipped]
    out = _eliminate(g.flip(back), net).flip(back)
    return out.transpose(1, 2).contiguous() if net is not network else out


def _turn(g: torch.Tensor, network: Network) -> tuple[torch.Tensor, Network]:
    """The array with its short side along the rows that are eliminated: by reciprocity, drivers and senses change
    places with the transpose."""
    if g.shape[2] <= g.shape[1]:
        return g, network
    ends: dict[str, Drive] = {"bottom": "right", "top": "left", "both": "both"}
    senses: dict[str, Sense] = {"left": "top", "right": "bottom", "both": "both"}
    turned = Network(
        network.col_ohm, network.row_ohm, ends[network.sense], senses[network.drive], network.sense_ohm,
        network.driver_ohm)  # fmt: skip
    return g.transpose(1, 2), turned


def _eliminate(g: torch.Tensor, net: Network) -> torch.Tensor:
    """Compute G_eff of g (arrays, rows, cols), driven at the left or at both ends,
    sensed at the bottom or at both ends.
    """
    import torch

    arrays, rows, cols = g.shape
    options: Any = {"dtype": g.dtype, "device": g.device}
    one = torch.eye(cols, **options)
    word, r = _word_line(net, cols, **options), net.col_ohm * 1e-6
    first = r + net.sense_ohm * 1e-6  # of a terminal and the segment next to it
    both = net.sense == "both"
    if both and not r:  # both ends of an ideal wire are one terminal
        both, first = False, first / 2
    s, y = torch.zeros((arrays, cols, rows), **options), torch.zeros((arrays, cols, cols), **options)
    top, lower = torch.zeros_like(s), torch.zeros_like(y)  # current of the upper terminals: top·V + lower·v
    if both:
        y += one / first
        lower += one / first
    for i in range(rows):
        cells = g[:, i, :, None]
        row = torch.linalg.solve(one + cells * word, cells * one)
        s[:, :, i] += row.sum(dim=2)
        y += row
        segment = first if i == rows - 1 else r
        if not segment:
            continue
        parts = [s[:, :, : i + 1], y, *([lower.transpose(1, 2)] if both else [])]
        moved = torch.linalg.solve(one + segment * y, torch.cat(parts, dim=2)).split(
            [p.shape[2] for p in parts], 2
        )
        s[:, :, : i + 1], y = moved[:2]
        if both:  # v = v below + r·J
            top[:, :, : i + 1] += segment * (lower @ moved[0])
            lower = moved[2].transpose(1, 2)
    return (s + top).transpose(1, 2)


def _word_line(net: Network, cols: int, **options: Any) -> torch.Tensor:
    """Return R (cols, cols) megohms: by how much a current out of column k lowers the word line at column j."""
    import torch

    r, end = net.row_ohm * 1e-6, net.driver_ohm * 1e-6
    left = end + r * torch.arange(1, cols + 1, **options)
    near = torch.minimum(left[:, None], left[None, :])
    if net.drive != "both":
        return near
    whole = 2 * end + r * (cols + 1)
    right = left.flip(0)  # megohms to the other end
    return near * torch.minimum(right[:, None], right[None, :]) / whole if whole else torch.zeros_like(near)


def _device(wanted: str | torch.device | None) -> torch.device:
    import torch

    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(
            "device", got=str(wanted), why=str(error).splitlines()[0], do='use "cpu", or leave it out'
        ) from None
    return device
