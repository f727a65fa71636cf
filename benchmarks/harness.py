"""How everything here is timed: two things in turn, A B A B, and the median of the ratios pair by pair.

On a shared machine seconds drift, but both sides of a pair drift together. A row carries its goal and its unit.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from importlib import import_module
from types import FunctionType
from typing import IO, Any

_smoke = False  # whether --smoke was given: see `shrink`


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
    times: list[tuple[float, float]] = [(seconds(a), seconds(b)) for _ in range(_times(repeats))]
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
    return statistics.median(seconds(call) for _ in range(_times(repeats)))


def _times(repeats: int) -> int:
    return 1 if _smoke else repeats


def shrink(*benchmarks: dict[str, Any]) -> None:
    """Put the smallest sizes of benchmarks in place, each given by its globals; and let everything be timed once.

    A benchmark's ``SMALLEST`` holds new values for constants of its own, by name. Nothing else is different: what is
    computed and printed is what the usual size computes and prints; but `python` and `start` start no process.
    """
    global _smoke
    _smoke = True
    for names in benchmarks:
        smallest = names.get("SMALLEST", {})
        unknown = sorted(set(smallest) - set(names))
        if unknown:
            raise KeyError(f"{names['__name__']}.SMALLEST names what is not there: {', '.join(unknown)}")
        names.update(smallest)


def command_line(
    description: str, benchmark: dict[str, Any], arguments: Sequence[str] | None = None
) -> argparse.ArgumentParser:
    """A parser with --smoke, for the benchmark with these globals.

    Where --smoke is among the arguments, the smallest sizes are in place when this returns, so that defaults of other
    options may be constants of the benchmark.
    """
    if "--smoke" in (sys.argv[1:] if arguments is None else arguments):
        shrink(benchmark)
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--smoke", action="store_true", help="the smallest size: does it run? Exits 0 on missed goals"
    )
    return parser


def missed(rows: Iterable[Row]) -> bool:
    """Whether a goal is missed; never with --smoke, whose figures say nothing."""
    return not _smoke and any(row.met is False for row in rows)


def python(
    module: str, arguments: Sequence[str], variables: Mapping[str, str] | None = None, *, stderr: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module arguments`` with variables beside those that there are → its code, stdout and stderr.

    stderr: whether it is kept, and not shown while the module runs.
    With --smoke the module's ``main`` runs here instead: a new process would spend seconds on imports.
    """
    if _smoke:
        out, err = io.StringIO(), io.StringIO()
        code = _here(module, arguments, variables or {}, out, err if stderr else sys.stderr)
        return subprocess.CompletedProcess([module, *arguments], code, out.getvalue(), err.getvalue())
    line, environment = [sys.executable, "-m", module, *arguments], {**os.environ, **(variables or {})}
    pipe = subprocess.PIPE
    return subprocess.run(
        line, stdout=pipe, stderr=pipe if stderr else None, text=True, check=False, env=environment
    )


@dataclass(frozen=True)
class Ended:
    """Stands for a process that has ended."""

    returncode: int

    def poll(self) -> int:
        """Return the code that it ended with."""
        return self.returncode

    def wait(self) -> int:
        """Return the code that it ended with."""
        return self.returncode

    def terminate(self) -> None:
        """Do nothing: it has ended."""


def start(
    module: str, arguments: Sequence[str], log: IO[str], variables: Mapping[str, str]
) -> subprocess.Popen[str] | Ended:
    """Start ``python -m module arguments``, which writes to the log; with --smoke run it here, as `python` does."""
    if _smoke:
        return Ended(_here(module, arguments, variables, log, log))
    return process(module, arguments, log, variables)


def process(
    module: str, arguments: Sequence[str], log: IO[str], variables: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Start ``python -m module arguments``, which writes to the log, in a process whatever the size."""
    line, environment = [sys.executable, "-m", module, *arguments], {**os.environ, **variables}
    return subprocess.Popen(line, stdout=log, stderr=log, text=True, env=environment)


def _here(
    module: str, arguments: Sequence[str], variables: Mapping[str, str], out: IO[str], err: IO[str]
) -> int:
    """Run a module's ``main`` with the words and variables of a process → the code that it would end with."""
    words, environment = sys.argv, dict(os.environ)
    sys.argv = [module, *arguments]
    os.environ.update(variables)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            import_module(module).main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = words
        os.environ.clear()
        os.environ.update(environment)
    return 0


def two_threads() -> None:
    """Goals are stated for two threads, so that is what is measured, whatever the machine has; --smoke holds none."""
    if _smoke:
        return
    import torch

    from aimc_sim.kernels.parallel import set_num_threads

    torch.set_num_threads(2)
    set_num_threads(2)


def torch_threads(count: int) -> None:
    """Let torch compute with so many threads; with --smoke with those that it has: more would wait for each other."""
    if not _smoke:
        import torch

        torch.set_num_threads(count)


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


def main(question: str, measure: FunctionType, arguments: Sequence[str] | None = None) -> list[Row]:
    """Command line of one benchmark: a table, or with --json what `measure` returns second."""
    parser = command_line(question, measure.__globals__, arguments)
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
