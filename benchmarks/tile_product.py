"""What does a layer on a simulated chip cost, against the digital layer that it simulates?

Rival: torch.nn.functional.linear in float32 (and, for information, bfloat16), same shapes, same run. The whole chain:
8-bit DAC, programmed and drifted weights, 8-bit ADC, in-tile scales, digital sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware import Hardware
from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of, row_ids
from aimc_sim.tiles.matrix import TiledMatrix
from benchmarks.harness import Pair, Row, main, side_by_side

CASES = [  # batch, K, N, rows per tile, read noise, goal
    (512, 2048, 2048, 512, False, 0.55),
    (512, 2048, 2048, 256, False, 0.65),
    (512, 2048, 8192, 512, False, 0.50),
    (32, 2048, 2048, 512, False, 0.50),
    (1, 2048, 2048, 512, False, 0.70),
    (512, 2048, 2048, 512, True, 1.30),
]
SMALLEST = {"CASES": [(4, 64, 64, 32, False, 0.55), (1, 64, 64, 32, True, 1.30)]}


def gaussian(shape: tuple[int, int], seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Standard normals of our own."""
    count = shape[0] * shape[1]
    counter = np.zeros(((count + 3) // 4, 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    return normals(counter, key_of(seed)).ravel()[:count].reshape(shape)


def layer(k: int, n: int, rows: int, read_noise: bool = False) -> TiledMatrix:
    """A K × N layer on a chip a day after programming."""
    hardware = Hardware.load({
        "device": "pcm-hermes-2", "tile": {"rows": rows, "cols": rows}, "dac": {}, "compensation": {},
        "read_noise": {} if read_noise else False,
        "adc": {"full_scale": {"rule": "lambda", "lambda_": 12.0}},
    })  # fmt: skip
    return CellMatrix(gaussian((n, k), 1), hardware, seed=1, t_s=86_400.0).tiles()


def case(batch: int, k: int, n: int, tile_rows: int, read_noise: bool) -> tuple[Pair, Pair]:
    """The chain against float32 linear and against bfloat16 linear."""
    import torch

    tiles, x = layer(k, n, tile_rows, read_noise), gaussian((batch, k), 2)
    ids = row_ids(np.arange(batch), 0)
    w, tx = torch.from_numpy(gaussian((n, k), 1)), torch.from_numpy(x)
    wb, xb = w.bfloat16(), tx.bfloat16()
    repeats = 15 if batch > 64 else 101
    with torch.inference_mode():
        return (
            side_by_side(
                lambda: tile_matmul(x, tiles, ids), lambda: torch.nn.functional.linear(tx, w), repeats
            ),
            side_by_side(
                lambda: tile_matmul(x, tiles, ids), lambda: torch.nn.functional.linear(xb, wb), repeats
            ),
        )


def measure() -> tuple[list[Row], list[dict[str, Any]]]:
    """Every case, as rows and as JSON."""
    rows, data = [], []
    for batch, k, n, tile_rows, read_noise, goal in CASES:
        full, half = case(batch, k, n, tile_rows, read_noise)
        name = f"{batch} × {k} × {n}, {tile_rows} rows" + (", read noise" if read_noise else "")
        rows.append(Row(name, full.ratio, "of float32 linear", goal))
        times = f"    {full.a_s * 1e3:.2f} ms against {full.b_s * 1e3:.2f} ms; bfloat16"
        rows.append(Row(times, half.ratio, "of bfloat16 linear"))
        figures = {"ratio": full.ratio, "goal": goal, "ratio_bfloat16": half.ratio}
        data.append({"batch": batch, "k": k, "n": n, "rows": tile_rows, "read_noise": read_noise, **figures})
    return rows, data


if __name__ == "__main__":
    main(__doc__.splitlines()[0] if __doc__ else "", measure)
