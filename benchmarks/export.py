"""How long does it take to turn a checkpoint into a calibrated weight file, and how much memory?

    python -m benchmarks.export [CHECKPOINT] [--json]

A process of its own starts Python, imports everything, reads SmolLM2-135M-Instruct (or CHECKPOINT), streams its
tensors to disk, lets the model write 1,024 tokens, collects the moments of every matrix's input on them, syncs and
renames. Rival: none does this; the goals are ours. Goals, for SmolLM2 on 2 cores: 30 s, 2.0 GB peak.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, command_line, missed, python
from benchmarks.tiny_model import language_model

GOAL_S, GOAL_GB = 30.0, 2.0
TOKENS = 1024  # that the model writes, to calibrate on
SMALLEST = {"TOKENS": 64}


def run(checkpoint: str, target: str) -> dict[str, Any]:
    """Export here; the stages' seconds, and the process's own peak: VmHWM, which counts mapped pages of the file."""
    start = time.perf_counter()
    from aimc_sim.exporting import export

    stages, first = {"import": time.perf_counter() - start}, dict[str, float]()

    def progress(stage: str, done: int, total: int) -> None:
        first.setdefault(stage, time.perf_counter())
        stages[stage] = time.perf_counter() - first[stage]

    file = export(checkpoint, target, calibration_tokens=TOKENS, progress=progress)
    (peak,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    tokens = int(file.calibration.token_ids.size)  # type: ignore[union-attr]
    return {"peak_gb": int(peak) * 1024 / 1e9, "stages_s": stages, "tokens": tokens}


def measure(checkpoint: str, smoke: bool = False) -> dict[str, Any]:
    """One export in a fresh process: seconds from its start to its end, megabytes a second, peak gigabytes."""
    with tempfile.TemporaryDirectory(prefix="aimc-export-") as folder:
        target = Path(folder) / "model.aimc"
        start = time.perf_counter()
        done = python("benchmarks.export", [checkpoint, "--to", str(target), *["--smoke"] * smoke])
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(done.stderr)
        size = target.stat().st_size
    inside = json.loads(done.stdout)
    return {
        "name": "export",
        "checkpoint": Path(checkpoint).name,
        "seconds": seconds,
        "goal_seconds": GOAL_S,
        "megabytes_per_second": size / 1e6 / seconds,
        "file_mb": size / 1e6,
        "goal_peak_gb": GOAL_GB,
        **inside,
    }


def main() -> None:
    """Print one row, or JSON with --json; exit 1 when a goal is missed."""
    parser = command_line(__doc__ or "", globals())
    parser.add_argument("checkpoint", nargs="?", help="folder, GGUF file or model id; default SmolLM2")
    parser.add_argument("--json", action="store_true", help="print a list with one object")
    parser.add_argument("--to", help=argparse.SUPPRESS)  # the export itself, in a process of its own
    options = parser.parse_args()
    if options.to:
        print(json.dumps(run(options.checkpoint, options.to)))
        return
    with tempfile.TemporaryDirectory(prefix="aimc-export-") as folder:
        checkpoint = options.checkpoint or str(language_model(options.smoke, Path(folder)))
        row = measure(checkpoint, options.smoke)
    figures = [Row("time", row["seconds"], "s", GOAL_S), Row("peak memory", row["peak_gb"], "GB", GOAL_GB)]
    met = all(figure.met for figure in figures)
    if options.json:
        print(json.dumps([row | {"met": met}], indent=2))
    else:
        stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in row["stages_s"].items())
        print(f"{'export':<10} {'seconds':>9} {'goal':>6} {'MB/s':>7} {'peak GB':>8} {'goal':>5}")
        print(
            f"{'':<10} {row['seconds']:>9.1f} {GOAL_S:>6.0f} {row['megabytes_per_second']:>7.1f} "
            f"{row['peak_gb']:>8.2f} {GOAL_GB:>5.1f}   {'met' if met else 'MISSED'}"
        )
        print(f"file {row['file_mb']:.0f} MB, {row['tokens']} calibration tokens; {stages}")
    if missed(figures):
        sys.exit(1)


if __name__ == "__main__":
    main()
