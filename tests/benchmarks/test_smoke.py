"""Every benchmark runs: each is started with --smoke, its smallest size, ends well and prints what it is there for.

The benchmarks are those modules of the folder that can be run, so that a new one cannot be forgotten. How fast they are
at that size says nothing, and nothing here asks.
"""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
RUNNABLE = sorted(
    path.stem for path in FOLDER.glob("*.py") if 'if __name__ == "__main__":' in path.read_text("utf-8")
)
WORKERS = [name for name in RUNNABLE if name.endswith("_worker")]  # answer questions that a benchmark asks
BENCHMARKS = [name for name in RUNNABLE if name not in WORKERS]
NEEDS = {"harness_tasks": "lm_eval", "reproduce_small": "matplotlib", "reproduce_smollm2": "matplotlib",
         "size_example": "matplotlib"}  # fmt: skip
SAYS = {  # a piece of what is printed, where it is not the first line of the module
    "__main__": "How fast is the noise",
    "export": "calibration tokens",
    "grid": "theory",
    "harness_tasks": "Tasks through lm-evaluation-harness",
    "remedies": "| compensation | nothing | tile | column | affine |",
    "reproduce_small": "recovery (published)",
    "reproduce_smollm2": "recovery (published)",
    "signoff": "Calibration over 2 simulated studies a regime",
    "size_example": "designs stay below 1 W",
    "wires_noise": "first order / solved anew",
}
ENDS = {  # with these words and this code, where what a benchmark compares with is not there
    "lightning": (2, "aihwkit-lightning. it is not there, and --smoke installs nothing"),
}
SLOW = {"__main__", "reproduce_small", "reproduce_smollm2", "signoff_resume"}
CASES = [
    pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
    for name in BENCHMARKS
    if name not in NEEDS or find_spec(NEEDS[name])
]
PROFILER = re.compile(r"profiler|^USDT|^STAGE:", re.IGNORECASE | re.MULTILINE)


@pytest.fixture
def usual_sizes() -> Iterator[None]:
    """Puts everything back that --smoke changes: sizes of modules, threads, the environment."""
    import torch

    from aimc_sim.kernels.parallel import num_threads, set_num_threads

    modules = [
        import_module(f"benchmarks.{path.stem}") for path in FOLDER.glob("*.py") if path.stem[0] != "_"
    ]
    kept = [(vars(module), dict(vars(module))) for module in modules]
    threads, environment = (torch.get_num_threads(), num_threads()), dict(os.environ)
    yield
    for names, values in kept:
        names.update(values)
    torch.set_num_threads(threads[0])
    set_num_threads(threads[1])
    os.environ.clear()
    os.environ.update(environment)
    if (
        "accelerate.state" in sys.modules
    ):  # a process trains in one precision; what comes next may want another
        sys.modules["accelerate.state"].AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def words(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """What a benchmark is asked for, beside --smoke."""

    def of(name: str) -> list[str]:
        out = str(tmp_path / "out")
        if name == "sweep":
            return [str(request.getfixturevalue("tiny_weights")), "-o", out]
        if name == "harness_tasks":
            rows = request.getfixturevalue("local_tasks")
            rows.write_rows(tmp_path / "arc_easy" / "test.jsonl", rows.choice_rows(4))
            pairs = [
                {"goal": f"Open {n}", "sol1": "Turn it.", "sol2": "Pull it off.", "label": n % 2}
                for n in range(4)
            ]
            rows.write_rows(tmp_path / "piqa" / "validation.jsonl", pairs)
            return ["--rows", str(tmp_path), "--model", str(request.getfixturevalue("tiny_weights"))]
        return {
            "lightning": ["--venv", out],
            "peers": ["--venv", out],
            "reproduce_small": ["--workers", "1", "-o", out],
            "reproduce_smollm2": ["--workers", "1", "-o", out],
            "size_example": [out],
            "streaming": ["-o", out],
        }.get(name, [])

    return of


@pytest.mark.parametrize("name", CASES)
def test_a_benchmark_runs_at_its_smallest_size(
    name: str,
    words: Any,
    usual_sizes: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = FOLDER / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), "--smoke", *words(name)])
    monkeypatch.syspath_prepend(str(FOLDER.parent))
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))  # of the processes that it starts
    code = _run(path)
    out, err = capfd.readouterr()
    wanted, says = ENDS.get(name, (0, SAYS.get(name) or _question(path)))
    assert code == wanted, err
    assert says in (err if name in ENDS else out)
    assert "Traceback" not in out + err
    assert not PROFILER.search(out + err), "torch's profiler speaks of itself"


def _run(path: Path) -> Any:
    """Run a module as Python runs one that it is given → the code that it ends with, or its last words."""
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    return 0


def _question(path: Path) -> str:
    """The first line of a module."""
    return path.read_text("utf-8").partition("\n")[0].removeprefix('"""').removesuffix('"""')


@pytest.mark.parametrize("name", [*WORKERS, "lightning"])
def test_a_worker_answers_until_there_are_no_more_questions(
    name: str, usual_sizes: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER.parent))
    monkeypatch.setattr(sys, "argv", [name, "--serve" if name == "lightning" else "1"])
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"do": "nothing"}\n{"do": "nothing"}\n'))
    code = _run(FOLDER / f"{name}.py")
    out, err = capfd.readouterr()
    assert code == 0, err
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["failed"].partition(":")[0] for answer in answers] == ["AttributeError"] * 2
    assert "Traceback" not in err


def test_smallest_sizes_are_given_to_constants_that_there_are(usual_sizes: None) -> None:
    from benchmarks.harness import shrink

    with pytest.raises(KeyError, match="names what is not there: LENGHT"):
        shrink({"__name__": "mine", "LENGTH": 1, "SMALLEST": {"LENGHT": 1}})
    shrink(sizes := {"__name__": "mine", "LENGTH": 100, "SMALLEST": {"LENGTH": 1}})
    assert sizes["LENGTH"] == 1


def test_goals_are_held_at_the_usual_size_only(usual_sizes: None) -> None:
    from benchmarks.harness import Row, missed, shrink

    late = [Row("time", 2.0, "s", goal=1.0)]
    assert missed(late)
    shrink()
    assert not missed(late)
    assert late[0].met is False, "the table still says so"


@pytest.mark.parametrize("words", [["--version"], ["sing"]])
def test_with_smoke_a_command_runs_here_as_it_would_in_a_process(usual_sizes: None, words: list[str]) -> None:
    from benchmarks.harness import python, shrink

    there = python("aimc_sim.cli.app", words)
    shrink()
    here = python("aimc_sim.cli.app", words)
    assert (here.returncode, here.stdout, here.stderr) == (there.returncode, there.stdout, there.stderr)
