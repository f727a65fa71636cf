"""How wrong is read noise through wires? A simulated σ against cells that fluctuate and a network that is solved again.

    python -m benchmarks.wires_noise [--draws N] [--json]

The simulator adds up G_eff²/G of the cells, input by input (`aimc_sim.wires.fluctuating_conductance`). Truth 1: the
exact first order, every cell's effect on every current by central differences of G_eff. Truth 2: N draws of all cells,
and G_eff of each solved anew. Inputs: all on; every other one on; signs in turn; the first or the middle row alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of
from aimc_sim.wires import effective_conductance, fluctuating_conductance
from benchmarks.harness import command_line

F64 = npt.NDArray[np.float64]
G_MAX_US = 20.7
SIGMA = 0.0175  # of g_max at g_max, fresh in every product (aihwkit's PCM_READ)
RATIOS = (1e-5, 1e-4, 1e-3, 5e-3)  # r / R_min, R_min = 1 / g_max
SIZES = ((16, 16), (32, 32), (24, 48))
DRAWS = 2000
SMALLEST = {"SIZES": ((4, 4), (4, 6)), "RATIOS": (1e-4,), "DRAWS": 8}
STEP = 1e-4  # µS, of the central differences


def cells(rows: int, cols: int) -> F64:
    """µS, evenly spread over [0.01, 1]·g_max without a visible order."""
    spread = np.arange(rows * cols) * 0.6180339887498949 % 1.0
    return np.asarray(G_MAX_US * (0.01 + 0.99 * spread).reshape(rows, cols))


def inputs(rows: int) -> dict[str, F64]:
    """Voltages by name, each (rows,)."""
    row = np.arange(rows)
    patterns = {
        "all on": row >= 0, "every other": row % 2 == 1, "middle row": row == rows // 2, "first row": row == 0,
    }  # fmt: skip
    return {
        **{name: on.astype(np.float64) for name, on in patterns.items()},
        "signs": np.where(row % 2, 1.0, -1.0),
    }


def sigma_simulated(g_us: F64, ohm: float, volts: F64) -> F64:
    """σ (cols,) µA of each current, as the simulator has it."""
    noisy = fluctuating_conductance(g_us, effective_conductance(g_us, ohm, ohm))
    return np.asarray(SIGMA * np.sqrt(volts**2 @ noisy * G_MAX_US))


def sensitivity(g_us: F64, ohm: float) -> F64:
    """dG_eff/dG (cells, rows, cols): every cell's effect on every entry of G_eff."""
    moved = STEP * np.eye(g_us.size).reshape(-1, *g_us.shape)
    high, low = (effective_conductance(g_us + sign * moved, ohm, ohm) for sign in (1, -1))
    return np.asarray((high - low) / (2 * STEP))


def sigma_first_order(slopes: F64, g_us: F64, volts: F64) -> F64:
    """σ (cols,) µA of each current, every cell's fluctuation through the whole network."""
    effect = np.einsum("k,ckj->cj", volts, slopes)
    return np.asarray(SIGMA * np.sqrt(g_us.ravel() @ effect**2 * G_MAX_US))


def fluctuating(g_us: F64, ohm: float, draws: int, seed: int = 1) -> F64:
    """G_eff (draws, rows, cols) µS of cells that have fluctuated, each solved anew."""
    count = draws * g_us.size
    counter = np.zeros((-(-count // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    z = normals(counter, key_of(seed)).ravel()[:count].reshape(draws, *g_us.shape).astype(np.float64)
    moved = np.maximum(g_us + SIGMA * np.sqrt(g_us * G_MAX_US) * z, 0)
    return effective_conductance(moved, ohm, ohm)


def measure(draws: int = DRAWS) -> Iterator[dict[str, Any]]:
    """One record an array, a resistance and an input."""
    for rows, cols in SIZES:
        g = cells(rows, cols)
        for ratio in RATIOS:
            ohm = ratio * 1e6 / G_MAX_US
            loss = 1 - effective_conductance(g, ohm, ohm).sum(axis=0) / g.sum(axis=0)
            slopes, drawn = sensitivity(g, ohm), fluctuating(g, ohm, draws)
            for name, volts in inputs(rows).items():
                simulated, exact = sigma_simulated(g, ohm, volts), sigma_first_order(slopes, g, volts)
                solved = np.einsum("k,nkj->nj", volts, drawn).std(axis=0)
                ratios = simulated / exact
                yield {
                    "array": f"{rows} × {cols}", "r_over_r_min": ratio, "inputs": name,
                    "largest_loss": float(loss.max()), "lowest": float(ratios.min()),
                    "median": float(np.median(ratios)), "highest": float(ratios.max()),
                    "of_bound": float(((ratios - 1) / (1 / (1 - loss) - 1)).max()),
                    "first_order_over_solved": float(np.sqrt(np.mean((exact / solved) ** 2))),
                }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line((__doc__ or "").splitlines()[0], globals(), arguments)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    found = list(measure(given.draws))
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print(
        "σ of a column's current, simulated over exact: lowest, median, highest of the columns; share of the bound"
    )
    print(
        f"{'array':>8} {'r/R_min':>8} {'inputs':>12} {'lost':>6}  low    median high   bound  first order / solved anew"
    )
    for row in found:
        print(
            f"{row['array']:>8} {row['r_over_r_min']:8g} {row['inputs']:>12} {row['largest_loss']:6.1%}  "
            f"{row['lowest']:.3f}  {row['median']:.3f}  {row['highest']:.3f}  {row['of_bound']:5.2f}  "
            f"{row['first_order_over_solved']:.3f}"
        )


if __name__ == "__main__":
    main()
