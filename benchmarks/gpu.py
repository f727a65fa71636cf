"""What does a layer on a simulated chip cost on a GPU, against the digital layer that it simulates?

Rivals: torch.nn.functional.linear in float32 and in bfloat16 on the same GPU, same shapes, same run. Besides: normals,
and programming with drift and 1/f noise. Needs a CUDA device and Triton; without them it says so and measures nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.hardware import Hardware
from aimc_sim.randomness import key_of, row_ids
from benchmarks import tile_product
from benchmarks.harness import Row, main
from benchmarks.tile_product import gaussian, layer

CASES = tile_product.CASES
REPEATS = 31
NORMALS, SIDE = 1 << 24, 2048
SMALLEST = {"CASES": tile_product.SMALLEST["CASES"], "REPEATS": 1, "NORMALS": 1 << 12, "SIDE": 256}


def milliseconds(call: Callable[[], object], rival: Callable[[], object]) -> tuple[float, float]:
    """Medians of both on the device's own clock, taken in turn."""
    import torch

    times: list[list[float]] = [[], []]
    for repeat in range(REPEATS + 3):
        for which, what in enumerate((call, rival)):
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            what()
            stop.record()
            stop.synchronize()
            if repeat >= 3:
                times[which].append(start.elapsed_time(stop))
    return statistics.median(times[0]), statistics.median(times[1])


def products() -> list[Row]:
    """Every case of the processor's benchmark."""
    import torch

    from aimc_sim.kernels import triton
    from aimc_sim.torch_bridge.device import device_tiles

    rows = []
    for batch, k, n, tile_rows, noisy, _ in CASES:
        x = torch.from_numpy(gaussian((batch, k), 2)).cuda()
        w = torch.from_numpy(gaussian((n, k), 1)).cuda()
        tiles = device_tiles(layer(k, n, tile_rows, noisy), "cuda")
        ids = torch.from_numpy(row_ids(np.arange(batch), 0)).cuda()
        xb, wb = x.bfloat16(), w.bfloat16()
        name = f"{batch} × {k} × {n}, {tile_rows} rows" + (", read noise" if noisy else "")
        for kind, left, right in (("float32", x, w), ("bfloat16", xb, wb)):
            ours, theirs = milliseconds(
                lambda: triton.tile_matmul(x, tiles, ids),  # noqa: B023
                lambda: torch.nn.functional.linear(left, right),  # noqa: B023
            )
            rows.append(Row(f"{name}: {ours:.3f} ms", ours / theirs, f"of {kind} linear"))
    return rows


def noise() -> list[Row]:
    """Normals against torch's own, and cells."""
    import torch

    from aimc_sim.kernels import triton

    key = key_of(1)
    counter = torch.zeros((NORMALS // 4, 4), dtype=torch.int32, device="cuda")
    counter[:, 0] = torch.arange(NORMALS // 4, device="cuda")
    held = torch.empty(NORMALS, device="cuda")
    ours, theirs = milliseconds(lambda: triton.normals(counter, key), lambda: held.normal_())
    w = gaussian((SIDE, SIDE), 3)
    hardware = Hardware.load({"device": "pcm-hermes-2", "tile": {"rows": 256}})
    array = CellMatrix(w, hardware, seed=1, t_s=86_400.0).arrays[0]
    on_device, bounds = torch.from_numpy(w).cuda(), array.tile_map.row_bounds
    cells, _ = milliseconds(
        lambda: triton.effective_weights(on_device, bounds, array.tables, array.sites()),
        lambda: held.normal_(),
    )
    return [
        Row(f"normals, {NORMALS >> 20} M float32", ours / NORMALS * 1e6, "ns each"),
        Row("normals against torch.randn", ours / theirs, "times"),
        Row("programming, drift and 1/f noise, two devices", cells / w.size * 1e6, "ns a weight"),
    ]


def measure() -> tuple[list[Row], Any]:
    """Products and noise, or one row that says what is missing."""
    import torch

    from aimc_sim.kernels import triton

    if not torch.cuda.is_available() or not triton.available("cuda"):
        return [Row("no CUDA device with Triton: nothing measured", float("nan"), "")], []
    torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
    return [*products(), *noise()], None


if __name__ == "__main__":
    main(__doc__.splitlines()[0] if __doc__ else "", measure)
