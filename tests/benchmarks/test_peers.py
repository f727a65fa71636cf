"""The comparison with other simulators: what it does when they are there, fail, die, hang, or cannot be installed."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim.errors import BadInput

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """benchmarks.peers on small shapes."""
    monkeypatch.syspath_prepend(str(ROOT))
    peers = import_module("benchmarks.peers")
    for name, value in {"SIZE": 64, "LAYER": 64, "CASES": [(3, False), (3, True)], "BUDGET_S": 0.0}.items():
        monkeypatch.setattr(peers, name, value)
    return peers


class Fake:
    """A simulator with made-up figures; fails where it is told to."""

    def __init__(self, ratio: float, fails: str = "") -> None:
        self.ratio, self.fails = ratio, fails

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        if do == self.fails:
            return {"failed": "RuntimeError: no"}
        if do == "prepare":
            return {"error": 0.1}
        if do == "round":
            return {"ratio": self.ratio, "a_s": self.ratio, "b_s": 1.0}
        if request["scratch"]:
            return {"programming": 100.0, "drift": None, "both": 0.5}
        return {"programming": 2.0 * self.ratio, "drift": 1.0 * self.ratio, "both": self.ratio}


def ready(bench: Any, **reasons: str) -> Any:
    return bench.Environment(Path("python"), {"aihwkit": "9.1"}, reasons, "2.0")


def table(rows: Sequence[Any]) -> dict[str, Any]:
    return {row.name.strip(): row for row in rows}


def test_the_table_has_every_ratio_and_says_who_is_absent(bench: Any, tmp_path: Path) -> None:
    field = {
        bench.OURS: Fake(0.5),
        "aihwkit, Torch tile": Fake(3.0),
        "aihwkit, C++ tile": Fake(9.0, fails="prepare"),
    }
    peers = ready(bench, **{"aihwkit-lightning": "no wheel"})
    found = bench.products(field, bench.Inputs(tmp_path), rounds=3)
    rows = table(bench.product_rows(found, peers))
    assert rows["3 × 64 × 64: aimc-sim"].value == 0.5
    assert rows["3 × 64 × 64, read noise: aimc-sim"].value == 0.5
    assert rows["aihwkit 9.1, Torch tile"].value == 3.0
    assert rows["aihwkit 9.1, Torch tile (one σ for all outputs)"].value == 3.0
    assert rows["fastest of them"].value == 6.0
    assert rows["fastest of them"].met

    absent = table(bench.absent_rows(found, peers))
    assert math.isnan(absent["aihwkit-lightning"].value)
    assert absent["aihwkit-lightning"].unit == "not installable: no wheel"
    assert absent["aihwkit 9.1, C++ tile"].unit.startswith("did not run: RuntimeError: no; its wheel is made")
    json.dumps(found, allow_nan=False)


def test_a_simulator_that_fails_midway_is_a_row_of_that_case(bench: Any, tmp_path: Path) -> None:
    field = {bench.OURS: Fake(0.5), "aihwkit-lightning": Fake(2.0)}
    found = bench.products(field, bench.Inputs(tmp_path), rounds=1)
    found[-1] |= {"failed": "RuntimeError: no", "ratio": None}
    (row,) = bench.absent_rows(found, ready(bench))
    assert row.name == "aihwkit-lightning (3, read noise)"


def test_every_benchmarked_shape_keeps_its_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    bench = import_module("benchmarks.peers")
    found = [
        {"batch": batch, "read_noise": noise, "simulator": bench.OURS, "ratio": 1.0}
        for batch, noise in bench.CASES
    ]
    goals = [row.goal for row in bench.product_rows(found, bench.Environment(Path("python")))]
    assert goals == [0.55, None, 0.5, 0.7, 1.3, None, None, None]


def test_programming_compares_each_step_and_both_one_after_the_other(bench: Any, tmp_path: Path) -> None:
    field = {bench.OURS: Fake(1.0), "aihwkit, Torch tile": Fake(4.0)}
    result = bench.programming(field, bench.Inputs(tmp_path), rounds=1)
    rows = bench.programming_rows(result, ready(bench))
    assert [row.value for row in rows if row.name.strip() == "faster"] == [4.0, 4.0, 12.0]
    assert [row.value for row in rows if row.unit == "MiB"] == [100.0, 100.0]

    broken = bench.programming({bench.OURS: Fake(1.0), "aihwkit, Torch tile": Fake(4.0, "program")},
                               bench.Inputs(tmp_path), rounds=1)  # fmt: skip
    (row,) = bench.programming_rows(broken, ready(bench))
    assert row.unit == "not measured: RuntimeError: no"
    (row,) = bench.programming_rows(
        bench.programming({bench.OURS: Fake(1.0)}, bench.Inputs(tmp_path), 1), ready(bench)
    )
    assert row.unit == "not measured: not installed"


def test_our_side_answers_as_a_peer_does(bench: Any, tmp_path: Path) -> None:
    inputs, ours = bench.Inputs(tmp_path), bench.Ours()
    arrays = {"w": inputs.file(64, 64, 1), "x": inputs.file(3, 64, 2)}
    for read_noise in (False, True):
        prepared = ours.ask(do="prepare", maker=bench.OURS, tile_rows=32, read_noise=read_noise, **arrays)
        assert 0.01 < prepared["error"] < 0.5
        assert set(ours.ask(do="round", budget_s=0.0)) == {"ratio", "a_s", "b_s"}
    for scratch in (False, True):
        assert set(ours.ask(do="program", w=arrays["w"], scratch=scratch)) == {"programming", "both"}


def test_the_worker_answers_every_line(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = import_module("benchmarks.peers_worker")
    monkeypatch.setitem(worker.MAKERS, "exact", lambda w, rows, noise: lambda x: x @ w.T)
    inputs = bench.Inputs(tmp_path)
    prepare = {"do": "prepare", "maker": "exact", "w": inputs.file(64, 64, 1), "x": inputs.file(3, 64, 2),
               "tile_rows": 32, "read_noise": False}  # fmt: skip
    requests = [
        prepare,
        {"do": "round", "budget_s": 0.0},
        {**prepare, "maker": "nobody"},
        {"do": "program", "w": prepare["w"], "scratch": False},
    ]
    answers = io.StringIO()
    worker.serve(worker.Worker(), [json.dumps(request) for request in requests], answers)
    said = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert said[0]["error"] < 1e-5
    assert set(said[1]) == {"ratio", "a_s", "b_s"}
    assert said[2] == {"failed": "KeyError: 'nobody'"}
    assert said[3]["failed"].startswith("ModuleNotFoundError")


@pytest.mark.under_load
@pytest.mark.parametrize(
    ("program", "limit_s", "answer"),
    [
        ("print(input())", 300.0, {"do": "prepare", "batch": 1}),
        ("input(); raise SystemExit(7)", 300.0, {"failed": "its process ended with code 7"}),
        ("import time; time.sleep(600)", 0.5, {"failed": "its process ended with code -9"}),
    ],
)
def test_a_process_that_dies_or_hangs_has_failed(
    bench: Any, program: str, limit_s: float, answer: dict[str, Any]
) -> None:
    peer = bench.Peer([sys.executable, "-c", program], limit_s)
    try:
        assert peer.ask(do="prepare", batch=1) == answer
        assert peer.ask(do="round")["failed"].startswith("its process ended")
    finally:
        peer.close()


class Pip:
    """Stands for every program that the installation starts."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.commands: list[str] = []
        self.installed: dict[str, str] = {}

    def __call__(self, command: Sequence[str], variables: dict[str, str]) -> tuple[int, str]:
        line = " ".join(command)
        self.commands.append(line)
        if any(word in line for word in self.broken):
            return 1, "Collecting it\nERROR: No matching distribution found\nsome advice"
        if "venv" in command:
            folder = Path(command[-1])
            (folder / "bin").mkdir(parents=True)
            (folder / "bin" / "python").touch()
            (folder / "pyvenv.cfg").touch()
        elif "install" in command:
            self.installed |= {name.split("==")[0]: "1.0" for name in command[4:] if not name.startswith("-")}
        elif "importlib.metadata" in line:
            return 0, json.dumps({name: self.installed.get(name) for name in command[3:]})
        return 0, "/a/folder"


def test_the_environment_is_made_once_with_the_torch_that_runs_here(bench: Any, tmp_path: Path) -> None:
    import torch

    pip, folder = Pip(), tmp_path / "peers"
    made = bench.environment(folder, run=pip)
    assert set(made.versions) == {"aihwkit", "aihwkit-lightning"}
    assert not made.reasons
    installs = [line for line in pip.commands if " install " in line]
    assert f"torch=={torch.__version__}" in installs[0], "torch comes first, and is ours"
    assert all(f"-c {folder / 'torch.txt'}" in line for line in installs[1:])

    pip.commands.clear()
    assert bench.environment(folder, run=pip) == made
    assert not [line for line in pip.commands if " install " in line]


@pytest.mark.parametrize(
    ("broken", "without"),
    [
        ("--only-binary aihwkit aihwkit", {"aihwkit"}),
        ("torch==", {"aihwkit", "aihwkit-lightning"}),
        ("-m venv", {"aihwkit", "aihwkit-lightning"}),
    ],
)
def test_what_cannot_be_installed_is_a_reason(
    bench: Any, tmp_path: Path, broken: str, without: set[str]
) -> None:
    made = bench.environment(tmp_path / "peers", run=Pip(broken))
    assert made.reasons == dict.fromkeys(without, "No matching distribution found")


def test_a_folder_that_holds_something_else_is_left_alone(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="holds something else"):
        bench.environment(tmp_path, run=Pip())
    assert bench.main(["--venv", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_sources_are_compiled_once_against_that_torch(bench: Any, tmp_path: Path) -> None:
    pip, folder = Pip(), tmp_path / "peers"
    bench.environment(folder, build=True, run=pip)
    (compiled,) = [line for line in pip.commands if "--no-binary" in line]
    assert "--no-build-isolation" in compiled
    pip.commands.clear()
    bench.environment(folder, build=True, run=pip)
    assert not [line for line in pip.commands if "--no-binary" in line]

    failing = bench.environment(tmp_path / "other", build=True, run=Pip("--no-binary"))
    assert failing.versions, "the wheels still serve"
    assert failing.reasons == {"aihwkit from its sources": "No matching distribution found"}


def test_the_inputs_are_drawn_once(bench: Any, tmp_path: Path) -> None:
    inputs = bench.Inputs(tmp_path)
    first = np.load(inputs.file(4, 8, 1))
    assert first.shape == (4, 8)
    assert np.array_equal(first, np.load(inputs.file(4, 8, 1)))
