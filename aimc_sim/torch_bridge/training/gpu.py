"""The training product away from the CPU: torch's own operations, tile by tile, with noise from Triton's kernels.

The noise of a tile is drawn by its key right before its product and dropped after it. Codes travel as the inputs'
dtype, which holds 8 bits exactly, so half precision uses the tensor cores.
"""

from __future__ import annotations

import numpy as np
import torch

from aimc_sim.errors import BadInput
from aimc_sim.kernels import triton as kernels
from aimc_sim.randomness import Stream, site_word
from aimc_sim.torch_bridge.training import reference as formula
from aimc_sim.torch_bridge.training.exact import matrix_of
from aimc_sim.torch_bridge.training.plan import EVENT, ORDINAL, SEED_HIGH, SEED_LOW, Plan

Tensor = torch.Tensor


def compute_weights(weight: Tensor, key: Tensor, plan: Plan, noisy: bool) -> tuple[Tensor, Tensor]:
    """Return (with noise, without), (N, K) float32 on the device of the weight,
    on their steps where they are quantised.
    """
    base = weight.detach().float().contiguous()
    if plan.weight_max_code:
        base = formula.fake_quantise(base, plan.weight_max_code)
    if not noisy or plan.noise == "none":
        return base, base
    if not kernels.available(base.device.type):
        raise BadInput(
            "weight noise",
            got=str(base.device),
            why="it is drawn by Triton's kernels there, which do not run",
            do="install triton, or train on the CPU",
        )
    words = [int(word) for word in key.tolist()]
    seed = np.array(words[SEED_LOW : SEED_HIGH + 1], np.uint32)
    if plan.noise == "gaussian":
        site = site_word(Stream.TRAINING, words[ORDINAL])
        return kernels.noisy_weights(base, plan.ends, plan.gamma, words[EVENT], site, seed), base
    # tables and sites: the same for every column
    cells = matrix_of(base[:1], None, None, key, plan).arrays[0]
    cell_weights = kernels.effective_weights(base, plan.ends, cells.tables, cells.sites())
    full = torch.repeat_interleave(
        cell_weights.column_max.t(), torch.from_numpy(np.diff(plan.ends)).to(base.device), dim=1
    )
    return cell_weights.effective * full, base


def forward(
    x: Tensor, weight: Tensor, input_range: Tensor | None, full_scale: Tensor | None, key: Tensor, plan: Plan
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the same as `cpu.forward`."""
    held, target = compute_weights(weight, key, plan, noisy=True)
    y, beyond = formula.forward(x.detach(), held, target, input_range, full_scale, plan)
    bits = (
        pack(beyond)
        if plan.mask_bytes
        else torch.zeros((plan.tiles, x.shape[0], 0), dtype=torch.uint8, device=x.device)
    )
    return y, bits, beyond.sum(dim=(1, 2))


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, input_range: Tensor | None, key: Tensor, bits: Tensor, saturated: Tensor,
    plan: Plan, need_x: bool, need_w: bool, need_range: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Compute the same as `cpu.backward`."""
    through, _ = compute_weights(weight, key, plan, noisy=plan.noisy_backward)
    beyond = unpack(bits, plan.cols) if plan.mask_bytes else None
    to_x, to_w, slopes = formula.backward(grad, x.detach(), through, input_range, beyond, plan)
    static = plan.range_kind == "static" and need_range
    return (
        to_x if need_x else x.new_empty(0),
        to_w.to(weight.dtype) if need_w else weight.new_empty(0),
        slopes.float() if static else x.new_empty(0, dtype=torch.float32),
    )


def pack(beyond: Tensor) -> Tensor:
    """Pack (…, N) bool → (…, ⌈N/8⌉) uint8, column j in bit j & 7 of byte j >> 3."""
    n = beyond.shape[-1]
    padded = torch.nn.functional.pad(beyond.to(torch.uint8), (0, -n % 8)).reshape(*beyond.shape[:-1], -1, 8)
    powers = torch.tensor([1 << i for i in range(8)], dtype=torch.uint8, device=beyond.device)
    packed: Tensor = (padded * powers).sum(dim=-1).to(torch.uint8)
    return packed


def unpack(bits: Tensor, cols: int) -> Tensor:
    """The other way."""
    powers = torch.tensor([1 << i for i in range(8)], dtype=torch.uint8, device=bits.device)
    return ((bits.unsqueeze(-1) & powers) != 0).flatten(-2)[..., :cols]
