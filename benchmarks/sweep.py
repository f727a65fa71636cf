"""How long do a sweep with measured accuracy, a sensitivity profile and a placement take?

    python -m benchmarks.sweep model.h5 -o FOLDER [--step sweep|sensitivity|place|all]

The bar: 60 designs with measured noise and 10 with measured perplexity within 30 minutes on 2 cores, on a fresh folder
and without cached converter ranges. The sensitivity profile states its budget of forward passes and its seconds; the
placement has to win back half of the loss beyond converters with 90 % of the weights in tiles, on chips of other seeds.
"""

from __future__ import annotations

import json
import resource
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimc_sim.kernels._jit import cache_root
from benchmarks.harness import Row, command_line, machine, python, seconds, show

GOAL_S = 1800.0
AXES = (
    "--rows",
    "128:1024",
    "--adc-bits",
    "5:9",
    "--dac-bits",
    "6:8",
    "--adcs-per-tile",
    "1:256",
)  # 60 designs
SWEPT: tuple[str, ...] = ()  # more options of each step: none at the usual size
PROFILED: tuple[str, ...] = ()
PLACED: tuple[str, ...] = ()
_FEW = ("--workers", "1", "--tokens", "32", "--chips", "1")
SMALLEST = {
    "AXES": ("--rows", "128", "--adc-bits", "7:8"), "SWEPT": (*_FEW, "--points", "1"),
    "PROFILED": (*_FEW, "--forwards", "20"), "PLACED": (*_FEW, "--forwards", "20", "--unseen", "1"),
}  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """Seconds on the clock, seconds of processors (what a loaded machine does not change much), JSON of a command."""

    took: float
    busy: float
    found: dict[str, Any]

    def rows(self, name: str, goal: float | None = None) -> list[Row]:
        """The time, and what of it was work."""
        return [Row(name, self.took, "s", goal), Row("    processor time of all processes", self.busy, "s")]


def command(arguments: list[str], cache: Path) -> Ran:
    """Run a command in a process of its own, with an empty cache of converter ranges."""
    shared = cache / "aimc-sim" / "numba"  # compiled kernels are an installation's, not a sweep's
    shared.parent.mkdir(exist_ok=True)
    if not shared.exists():
        shared.symlink_to(cache_root())
    out: list[subprocess.CompletedProcess[str]] = []
    before = _busy()
    took = seconds(
        lambda: out.append(
            python("aimc_sim.cli.app", [*arguments, "--json"], {"XDG_CACHE_HOME": str(cache)}, stderr=False)
        )
    )
    if out[0].returncode not in (0, 1):
        raise SystemExit(f"aimc-sim {' '.join(arguments)} failed")
    return Ran(took, _busy() - before, json.loads(out[0].stdout))


def _busy() -> float:
    """Processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(file: Path, hardware: str, folder: Path, step: str) -> list[Row]:
    """Rows of the steps that are asked for."""
    rows = []
    common = [str(file), "--hardware", hardware]
    with tempfile.TemporaryDirectory(prefix="aimc-ranges-") as cache:
        if step in ("sweep", "all"):
            ran = command(
                ["size", *common, *AXES, "--metric", "ppl", *SWEPT, "-o", str(folder / "sweep")], Path(cache)
            )
            found = ran.found
            rows += [
                *ran.rows("sweep", GOAL_S),
                Row("    points on cost", found["points"], ""),
                Row("    designs with measured noise", found["designs_with_noise"], "", 60, at_least=True),
                Row("    designs with perplexity", found["designs_with_perplexity"], "", 10, at_least=True),
            ]
        if step in ("sensitivity", "all"):
            ran = command(["sensitivity", *common, *PROFILED, "-o", str(folder / "place")], Path(cache))
            found = ran.found
            rows += [
                *ran.rows("sensitivity"),
                Row("    forward passes", found["forward_passes"], "", found["plan"]["forwards"]),
                Row("    matrices measured", sum(m["measured"] for m in found["matrices"]), ""),
            ]
        if step in ("place", "all"):
            ran = command(
                ["place", *common, "--budget", "40%", *PLACED, "-o", str(folder / "place")], Path(cache)
            )
            found = ran.found
            by_loss, gap = 100 * found["recovered_by_metric"]["loss"], found["gap_share"]
            rows += [
                *ran.rows("placement"),
                Row("    recovered on unseen chips", 100 * found["recovered_share"], "%", 50, at_least=True),
                Row("    of the loss, nats per token", by_loss, "%", 50, at_least=True),
                Row("    weights analog", 100 * found["analog_share"], "%", 90, at_least=True),
                *([] if gap is None else [Row("    gap to the bound, of the energy", 100 * gap, "%")]),
            ]
    return rows


def main() -> None:
    """Command line."""
    parser = command_line(__doc__ or "", globals())
    parser.add_argument("file", type=Path, help="a weight file")
    parser.add_argument("--hardware", default="hermes-256")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder, fresh for a fair time")
    parser.add_argument("--step", choices=("sweep", "sensitivity", "place", "all"), default="all")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = measure(options.file, options.hardware, options.output, options.step)
    print(machine())
    show(__doc__.splitlines()[0] if __doc__ else "", rows)


if __name__ == "__main__":
    main()
