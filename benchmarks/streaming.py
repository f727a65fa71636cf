"""How much memory does it take to score a model of three billion parameters on a chip?

    python -m benchmarks.streaming -o DIR [--layers N] [--tokens N] [--hardware NAME] [--keep] [--json]

Random weights in the shapes of Llama-3.2-3B, bfloat16, are written and exported, as in ``benchmarks.billion`` but with
keyed token ids for calibration. Then one process calibrates the converters, programs a chip and scores the text against
the digital model (negative log-likelihood, KL, agreement), both layer by layer. Peak: VmHWM of that process, so all
that it had in memory at once, mapped pages of files included; what the system keeps in its page cache besides is not
counted. Rival: the same chip unstreamed, whose tiles alone are computed here from their bytes a weight; goal: 3 GB (10⁹
bytes). It needs 14 GB of disk in DIR, and removes what it wrote unless --keep is given.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.kernels.philox import philox4x32
from aimc_sim.randomness import key_of
from benchmarks import billion
from benchmarks.harness import Row, command_line, machine, missed, python, show

GOAL_GB = 3.0
SEED, DAY = 1, 86_400.0
CONFIG: dict[str, Any] = billion.CONFIG | {
    "hidden_size": 3072, "num_hidden_layers": 28, "head_dim": 128, "num_attention_heads": 24,
}  # fmt: skip
SMALLEST = {"CONFIG": CONFIG | billion.SMALL, "TOKENS": 64}
TOKENS, WINDOW = 256, 64
CALIBRATION_TOKENS = 64


def token_ids(sequences: int, length: int, seed: int) -> npt.NDArray[np.int32]:
    """(sequences, length) keyed token ids: with random weights no text is likelier than another."""
    counter = np.zeros((sequences * length, 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    words = philox4x32(counter, key_of(seed))[:, 0] % CONFIG["vocab_size"]
    return words.astype(np.int32).reshape(sequences, length)


def step(name: str, folder: Path, layers: int, tokens: int, hardware: str) -> dict[str, Any]:
    """Run one step here; what it found, its seconds without imports, and the peak of this process in bytes."""
    with billion.fresh_ranges(folder):
        return _step(name, folder, layers, tokens, hardware)


def _step(name: str, folder: Path, layers: int, tokens: int, hardware: str) -> dict[str, Any]:
    from aimc_sim import WeightFile, export, program
    from aimc_sim.evaluate.metrics import Reference, score
    from aimc_sim.evaluate.windows import from_sequences
    from aimc_sim.torch_bridge.streaming import StreamedModel

    start = time.perf_counter()
    found: dict[str, Any]
    if name == "build":
        found = billion.build(folder / "checkpoint", layers, CONFIG)
    elif name == "export":
        ids = token_ids(1, CALIBRATION_TOKENS, 0)
        file = export(folder / "checkpoint", folder / "model.h5", hardware, token_ids=ids)
        shutil.rmtree(folder / "checkpoint")
        found = {"file_bytes": file.path.stat().st_size}
    else:
        file = WeightFile(folder / "model.h5")
        windows = from_sequences(token_ids(-(-tokens // WINDOW), WINDOW + 1, 1))
        state = program(file, SEED).at(DAY)
        found = {"calibrate_s": time.perf_counter() - start, "calibrate_peak_bytes": billion.peak_bytes()}
        begun = time.perf_counter()
        with Reference(StreamedModel(file), windows, len(windows)) as reference:
            found["digital_s"] = time.perf_counter() - begun
            begun = time.perf_counter()
            scores = score(StreamedModel(file, state), windows, len(windows), reference=reference)
        weights = sum(matrix.rows * matrix.cols for matrix in file.matrices)
        tiles = state.tiles(file.matrices[0].name)
        found |= {
            "chip_s": time.perf_counter() - begun, "scored_tokens": windows.scored_tokens, "loss": scores.loss,
            "kl": scores.kl_nats, "agreement": scores.agreement,
            "unstreamed_bytes": tiles.nbytes / (tiles.rows * tiles.cols) * weights,
        }  # fmt: skip
    return {"step": name, "seconds": time.perf_counter() - start, "peak_bytes": billion.peak_bytes(), **found}


def rows(found: list[dict[str, Any]]) -> list[Row]:
    """The table: of the building its size and time, of the scoring peak and seconds of each part."""
    table = []
    details = {
        "parameters": ("parameters", 1e-9, "10⁹"), "file_bytes": ("weight file", 1e-9, "GB"),
        "unstreamed_bytes": ("tiles of the whole chip, unstreamed", 1e-9, "GB"),
        "calibrate_peak_bytes": ("peak memory until the ranges are known", 1e-9, "GB"),
        "calibrate_s": ("calibrating, once a file and hardware", 1, "s"),
        "digital_s": ("scoring the digital model", 1, "s"),
        "chip_s": ("programming and scoring a chip", 1, "s"), "scored_tokens": ("scored", 1, "tokens"),
        "loss": ("loss", 1, "nats"), "kl": ("KL", 1, "nats"),
    }  # fmt: skip
    for item in found:
        goal = GOAL_GB if item["step"] == "score" else None
        table.append(Row(f"{item['step']}: peak memory", item["peak_bytes"] / 1e9, "GB", goal))
        table.append(Row("    time", item["seconds"], "s"))
        table += [
            Row(f"    {name}", item[key] * factor, unit)
            for key, (name, factor, unit) in details.items()
            if key in item
        ]
    return table


def measure(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every step in turn, each in a process of its own; a file that --keep left is scored again."""
    found = []
    names = ("score",) if (folder / "model.h5").exists() else ("build", "export", "score")
    for name in names:
        words = ["--step", name, "-o", str(folder), "--layers", str(options.layers)]
        words += ["--tokens", str(options.tokens), "--hardware", options.hardware]
        done = python("benchmarks.streaming", [*words, *["--smoke"] * options.smoke])
        if done.returncode:
            sys.exit(done.stderr)
        found.append(json.loads(done.stdout) | {"goal_bytes": GOAL_GB * 1e9 if name == "score" else None})
    return found


def main() -> None:
    """Print the table, or JSON with --json; exit 1 when the goal is missed."""
    parser = command_line(__doc__ or "", globals())
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the files meanwhile")
    parser.add_argument("--layers", type=int, default=CONFIG["num_hidden_layers"], help="fewer: a trial")
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"to score, in windows of {WINDOW}")
    parser.add_argument("--hardware", default="hermes-256", help="a preset, or a TOML file")
    parser.add_argument("--keep", action="store_true", help="leave the weight file for another run")
    parser.add_argument("--json", action="store_true", help="print a list with one object a step")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.output / "aimc-streaming"
    if options.step:
        found = step(options.step, options.output, options.layers, options.tokens, options.hardware)
        print(json.dumps(found))
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        results = measure(folder, options)
    finally:
        if not options.keep:
            shutil.rmtree(folder)
    table = rows(results)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        print(machine())
        show((__doc__ or "").splitlines()[0], table)
    if missed(table):
        sys.exit(1)


if __name__ == "__main__":
    main()
