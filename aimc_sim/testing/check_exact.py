"""What holds to the last bit: a chip is a function of its seed, a cell of its site, and a sum of its terms."""

from __future__ import annotations

import numpy as np

from aimc_sim.aliases import F64
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.devices import Device
from aimc_sim.hardware import Compensation, Hardware, Tile
from aimc_sim.testing.bench import Bench
from aimc_sim.testing.report import Findings
from aimc_sim.testing.samplers import DeviceSampler, ProgrammedCells

SIDE = 144
PARTS = (
    (100, 1),
    (1, 77),
    (37, 50),
    (129, 130),
)  # rows and columns of the parts that must not know of the rest
SUM_ERROR = 1e-5  # of the sum of magnitudes: float32 sums thousands of cells to better


def check_exact(bench: Bench, findings: Findings) -> None:
    """Check that the same seed is the same chip; a part programmed alone; times in another order; column sums."""
    shape = bench.block(SIDE, SIDE)
    one, two = bench.program(shape), bench.program(shape)
    fields = _read_everything(bench, one, shape, backwards=False)
    again = _read_everything(bench, two, shape, backwards=True)
    findings.exact(
        "determinism",
        np.array_equal(fields["programmed"], again["programmed"]),
        "same seed, same conductances",
    )
    changed = [name for name in fields if not np.array_equal(fields[name], again[name])]
    findings.exact(
        "determinism: order of times", not changed, f"changed when asked in another order: {changed}"
    )
    changed = []
    for rows, cols in PARTS:
        part = _read_everything(bench, bench.program((rows, cols)), (rows, cols), backwards=False)
        changed += [
            f"{name} of {rows} x {cols}"
            for name in part
            if not np.array_equal(part[name], fields[name][:rows, :cols])
        ]
    findings.exact(
        "determinism: parts", not changed,
        f"cells that change when programmed without the rest: {', '.join(changed[:4]) or 'none'}",
    )  # fmt: skip


def check_sums(bench: Bench, findings: Findings, cells: ProgrammedCells, shape: tuple[int, int]) -> None:
    """Check column_sums(t_s) against the float64 sum of drifted(t_s), where the sampler adds up at all."""
    if not hasattr(cells, "column_sums") or not bench.shows(cells, "drifted"):
        findings.skip("sums", "the sampler has no column_sums(t_s)")
        return
    t_s = bench.times[-1] if bench.times else 0.0
    drifted = bench.get(cells, "drifted", shape, t_s)
    sums = np.asarray(cells.column_sums(t_s), np.float64)
    room = SUM_ERROR * np.abs(drifted).sum(axis=0)
    off = np.abs(sums - drifted.sum(axis=0)) if sums.shape == room.shape else np.full(room.shape, np.inf)
    worst = float((off / np.maximum(room, 1e-300)).max()) * SUM_ERROR
    findings.exact(
        "sums", bool((off <= room).all()), f"column sums are off by up to {worst:.2g} of their size"
    )


def check_chain(bench: Bench, findings: Findings) -> None:
    """Check this project's own road from cells to tiles: the fused kernel, the cuts into tiles, the compensation's
    sums.
    """
    sampler = bench.sampler
    assert isinstance(sampler, DeviceSampler)
    device = sampler.device
    base = bench.program((200, 48))
    t_s = bench.times[-1] if bench.times else 0.0
    matrix = base.matrix_of(device, t_s)  # type: ignore[attr-defined]
    cells = matrix.cells()
    fused = np.array_equal(matrix.effective_weights(), cells.effective)
    findings.exact("chain: fused kernel", fused, "effective weights equal the readable formula, bit for bit")
    w = matrix.w.copy()
    w[:, ::32] = 1.0  # every tile of 64 rows keeps its column's scale
    whole, cut = (_tile(device, w, bench.seed, t_s, rows).cells() for rows in (None, 64))
    same = np.array_equal(whole.programmed, cut.programmed) and np.array_equal(whole.now, cut.now)
    findings.exact("chain: tiles", same, "cutting a matrix into tiles changes no cell")
    _compensation(findings, device, w, bench.seed, t_s)


def _tile(device: Device, w: F64, seed: int, t_s: float, rows: int | None) -> CellMatrix:
    tile = Tile(rows=rows, weight_grid="float32")
    hardware = Hardware(name="tiles", device=device, tile=tile, compensation=Compensation(per="column"))
    return CellMatrix(np.ascontiguousarray(w, dtype=np.float32), hardware, seed=seed, t_s=t_s)


def _compensation(findings: Findings, device: Device, w: F64, seed: int, t_s: float) -> None:
    """Check that the digital factor is Σ|weight| as programmed over Σ|weight| now, before 1/f noise, column by
    column.
    """
    quiet = _tile(device.model_copy(update={"flicker": None}), w, seed, t_s, 64)
    cells, bounds = quiet.cells(), quiet.tile_map.row_bounds
    span = device.g_max_us - device.g_min_us
    p = cells.programmed.astype(np.float64)
    weight = p[0] if device.domain == "weight" else p[0] - p[1]
    before = np.add.reduceat(np.abs(weight / span), bounds[:-1], axis=1)
    after = np.add.reduceat(np.abs(cells.effective.astype(np.float64)), bounds[:-1], axis=1)
    alpha = np.repeat(before / after, np.diff(bounds), axis=1)
    expected = cells.effective * alpha  # every column's largest weight is 1
    found = quiet.tiles().weights
    assert found is not None
    off = float(np.abs(found - expected).max())
    findings.exact("sums", off <= SUM_ERROR * float(np.abs(expected).max()),
                   f"weights after drift compensation are off by up to {off:.2g} of full scale")  # fmt: skip


def _read_everything(
    bench: Bench, cells: ProgrammedCells, shape: tuple[int, int], *, backwards: bool
) -> dict[str, F64]:
    """Read every field that the sampler has at the bench's times, asked for in either order."""
    asked: list[tuple[str, float]] = []
    times = (0.0, *bench.times)
    for what in ("drifted", "at"):
        if bench.shows(cells, what):
            asked += [(what, t) for t in (times if what == "drifted" else times[-1:])]
    out = {"programmed": bench.get(cells, "programmed", shape)} if not backwards else {}
    for what, t_s in reversed(asked) if backwards else asked:
        out[f"{what}({t_s:g} s)"] = bench.get(cells, what, shape, t_s)
    return out if not backwards else out | {"programmed": bench.get(cells, "programmed", shape)}
