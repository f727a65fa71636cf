"""How everything here is timed: two things in turn, A B A B, and the median of the ratios pair by pair.

On a shared machine seconds drift, but both sides of a pair drift together. A row carries its goal and its unit.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One measured figure (NaN: it could not be measured); goal None: no bar. ``at_least``: larger is better."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None or math.isnan(self.value):
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass(frozen=True)
class Pair:
    """Medians in seconds of A and B, and of the ratios A/B."""

    a_s: float
    b_s: float
    ratio: float


def side_by_side(
    a: Callable[[], object], b: Callable[[], object], repeats: int = 15, warmup: int = 2
) -> Pair:
    """Time a and b in turn after a warm-up."""
    for _ in range(warmup):
        a()
        b()
    times: list[tuple[float, float]] = [(seconds(a), seconds(b)) for _ in range(repeats)]
    return Pair(
        statistics.median(t[0] for t in times),
        statistics.median(t[1] for t in times),
        statistics.median(x / y for x, y in times),
    )


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median_seconds(call: Callable[[], object], repeats: int = 7, warmup: int = 1) -> float:
    """Median wall time of a call after a warm-up."""
    for _ in range(warmup):
        call()
    return statistics.median(seconds(call) for _ in range(repeats))


def two_threads() -> None:
    """Goals are stated for two threads, so that is what is measured, whatever the machine has."""
    import torch

    from aimc_sim.kernels.parallel import set_num_threads

    torch.set_num_threads(2)
    set_num_threads(2)


def machine() -> str:
    """The machine in one line."""
    import torch

    from aimc_sim.kernels import tile_engine
    from aimc_sim.kernels.parallel import num_threads

    return (
        f"{_processor()}, {num_threads()} threads (torch {torch.get_num_threads()}), Python "
        f"{platform.python_version()}, torch {torch.__version__}, tile engine {tile_engine.name()}"
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def show(title: str, rows: Sequence[Row]) -> None:
    """A table on stdout."""
    print(f"\n{title}")
    width = max(len(row.name) for row in rows)
    for row in rows:
        goal = "" if row.goal is None else f"  goal {'≥' if row.at_least else '≤'} {row.goal:g}"
        verdict = {None: "", True: "  met", False: "  NOT MET"}[row.met]
        value = "–" if math.isnan(row.value) else f"{row.value:.4g}"
        print(f"  {row.name:<{width}}  {value:>10} {row.unit}{goal}{verdict}")


def main(
    question: str, measure: Callable[[], tuple[list[Row], Any]], arguments: Sequence[str] | None = None
) -> list[Row]:
    """Command line of one benchmark: a table, or with --json what `measure` returns second."""
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    two_threads()
    rows, data = measure()
    if options.json:
        print(json.dumps(data if data is not None else [asdict(row) for row in rows]))
    else:
        print(machine())
        show(question, rows)
    return rows
