"""What does the 16-bit grid of effective weights cost, matrix by matrix?

    python -m benchmarks.grid [WEIGHT_FILE] [--hardware NAME] [--json]

Integer tiles hold each effective weight (programmed and drifted) as one of 65,535 steps of peak/32767, peak being the
largest of its column in its tile. Against the same weights without the grid, in float64: the signal-to-noise ratio of
the weights, and of the outputs for the inputs that the digital model gives on the calibration text. Beside it what a
uniform error of one step would give, and what the cells themselves do to the outputs (rival and measure: the grid must
be nothing beside them). WEIGHT_FILE: by default SmolLM2-135M-Instruct, exported first. Explained in docs/physics.md.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim import Hardware, WeightFile
from aimc_sim.chip.mapping import tile_map
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.torch_bridge import load_digital
from aimc_sim.torch_bridge.inputs import read_inputs, spread
from benchmarks.harness import command_line, machine
from benchmarks.tiny_model import weight_file

TOKENS = 64  # of the calibration text, spread evenly
SEED, DAY = 1, 86_400.0
STEPS = 32_767
SMALLEST = {"TOKENS": 8}
FIGURES = {"weights_db": "weights", "theory_db": "theory", "outputs_db": "outputs", "cells_db": "cells"}
F64 = npt.NDArray[np.float64]


def db(signal: F64, noise: F64) -> float:
    """Ratio of the energies in decibels."""
    return float(10 * np.log10(np.square(signal).sum() / np.square(noise).sum()))


def theory_db(held: F64, bounds: npt.NDArray[np.int64]) -> float:
    """What an error uniform within one step of peak/32767 gives: held (N, K) weights of tiles cut at bounds."""
    noise = 0.0
    for a, b in zip(bounds[:-1], bounds[1:], strict=True):
        step = np.abs(held[:, a:b]).max(axis=1) / STEPS
        noise += float((b - a) * np.square(step).sum() / 12)
    return float(10 * np.log10(np.square(held).sum() / noise))


def inputs(file: WeightFile) -> dict[str, F64]:
    """What each matrix sees on the calibration text, (TOKENS, K)."""
    seen: dict[str, F64] = {}

    def see(name: str, x: Any) -> None:
        seen[name] = x[spread(TOKENS, len(x))].astype(np.float64)

    names = [matrix.name for matrix in file.matrices]
    read_inputs(load_digital(file), file.calibration.token_ids, names, see)
    return seen


def measure(file: WeightFile, hardware: Hardware) -> list[dict[str, Any]]:
    """Signal-to-noise ratios of every matrix on one chip, a day after programming."""
    bare = hardware.model_copy(update={"dac": None, "adc": None, "read_noise": None})
    grid, exact = (
        bare.model_copy(update={"tile": bare.tile.model_copy(update={"weight_grid": kind})})
        for kind in ("int16", "float32")
    )
    found, seen = [], inputs(file)
    for matrix in file.matrices:
        w, x = file.weight(matrix.name), seen[matrix.name]

        def held(spec: Hardware, w: Any = w, ordinal: int = matrix.ordinal) -> F64:
            # Without converters the tiles are the weights as they act, column scales and compensation included.
            weights = CellMatrix(w, spec, SEED, DAY, ordinal).tiles().weights
            assert weights is not None
            return weights.astype(np.float64)

        on_grid, off_grid = held(grid), held(exact)
        y = x @ off_grid.T
        found.append({
            "name": matrix.name,
            "role": matrix.role,
            "weights_db": db(off_grid, on_grid - off_grid),
            "theory_db": theory_db(off_grid, tile_map(matrix.rows, matrix.cols, hardware.tile).row_bounds),
            "outputs_db": db(y, x @ (on_grid - off_grid).T),
            "cells_db": db(x @ w.T.astype(np.float64), y - x @ w.T.astype(np.float64)),
        })  # fmt: skip
    return found


def show(found: list[dict[str, Any]]) -> None:
    """Minimum, median and maximum by role."""
    print(f"{'role':<8} {'matrices':>8}" + "".join(f"  {name:^20}" for name in FIGURES.values()))
    print(" " * 17 + f"  {'min':>6} {'med':>6} {'max':>6}" * len(FIGURES) + "   dB")
    for role in [*dict.fromkeys(item["role"] for item in found), "all"]:
        items = [item for item in found if role in (item["role"], "all")]
        cells = ""
        for key in FIGURES:
            values = [item[key] for item in items]
            cells += f"  {min(values):>6.1f} {statistics.median(values):>6.1f} {max(values):>6.1f}"
        print(f"{role:<8} {len(items):>8}{cells}")


def main() -> None:
    """Print the table, or JSON with --json: one object a matrix."""
    parser = command_line(__doc__ or "", globals())
    parser.add_argument("file", nargs="?", help="weight file; default: SmolLM2, exported now")
    parser.add_argument("--hardware", default="hermes-256", help="a preset, or a TOML file")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aimc-grid-") as folder:
        file = weight_file(options.file, options.smoke, Path(folder))
        found = measure(file, Hardware.load(options.hardware))
    if options.json:
        print(json.dumps(found))
        return
    print(machine())
    show(found)


if __name__ == "__main__":
    main()
