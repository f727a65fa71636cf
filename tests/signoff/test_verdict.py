"""The front door: `sign_off` and `compare` from Python, with what they return."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import aimc_sim
from aimc_sim.cli.app import load
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.signoff import proposal
from aimc_sim.signoff.proposal import propose, sign_off
from aimc_sim.signoff.verdict import Verdict
from aimc_sim.weightfile import WeightFile
from helpers.studies import run_trials

SMALL: dict[str, Any] = {"chips": 2, "sequences": 3, "length": 12, "times": "1m"}
TASK = '[[task]]\nlabel = "{}"\nsequences = 6\nlength = 21\n'
MARGIN = 0.562  # of which the fake bench is as sure as p = 0.02


@pytest.fixture
def faked(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans run on the fake bench."""

    def run(plan: Any, weights: WeightFile, **_: Any) -> Any:
        bench = fake.FakeBench()
        return run_trials(plan, bench, bench.items(plan))

    monkeypatch.setattr(proposal, "run_plan", run)


@pytest.mark.usefixtures("faked")
def test_three_tasks_that_would_pass_alone_do_not_pass_together(tiny_weights: Path, tmp_path: Path) -> None:
    """Holm's correction reaches the verdict, the files and what is printed."""
    plan = tmp_path / "plan.toml"
    asked: dict[str, Any] = {"plan": plan, "margin": MARGIN, "chips": 4, "times": [60, "1d"]}
    plan.write_text(TASK.format("one"))
    alone = aimc_sim.sign_off(tiny_weights, **asked)
    assert alone.passed
    assert round(alone.document()["statistics"]["p_value"], 2) == 0.02
    plan.write_text("".join(map(TASK.format, ("one", "two", "three"))))
    together = aimc_sim.sign_off(tiny_weights, **asked, output=tmp_path / "out")
    assert not together.passed
    assert together.summary == "0 of 3 parts are within their margins."
    assert str(together).splitlines()[4] == "FAIL"
    assert "alone it would pass" in together.document("two")["verdict"]["summary"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["pass"] is False
    assert (tmp_path / "out" / "junit.xml").read_text().count("<failure") == 3
    with pytest.raises(BadInput, match="3 parts are so called, of one on hermes-256, two on hermes-256"):
        together.document()


def test_every_option_of_the_command_is_an_argument() -> None:
    """Under the same name; `sign_off` has more: a plan beside weights, and progress."""
    command: Any = load("signoff")
    options = {part.name for part in command.params} - {"file", "dry_run", "as_json", "help"}
    arguments = inspect.signature(sign_off).parameters
    assert options | {"weights", "plan", "progress"} == set(arguments)
    assert set(proposal.OF_THE_PLAN) | set(proposal.OF_A_TASK) | set(proposal.OF_THE_RUN) <= set(arguments)
    shown = {part.name: part.default for part in command.params}
    assert {name: shown[name] for name in ("engine", "stream", "restart")} == {
        name: arguments[name].default for name in ("engine", "stream", "restart")
    }


@pytest.mark.parametrize(
    "same",
    [
        {"times": ["1h", 86400.0]},
        {"times": (3600, "1d")},
        {"hardware": "hermes-256"},
        {"hardware": Hardware.load("hermes-256")},
        {"hardware": {"base": "hermes-256", "name": "hermes-256"}},
        {"hardware": [Hardware.load("hermes-256")]},
        {"looks": [2, 3]},
        {"looks": "2,3"},
    ],
    ids=str,
)
def test_arguments_say_the_same_in_several_forms(tiny_weights: Path, same: dict[str, Any]) -> None:
    base = {"margin": 1.0, "times": "1h,1d", "chips": 3}
    looks = {"looks": (2, 3)} if "looks" in same else {}
    plans = [
        propose(tiny_weights, **options).resolved.plan for options in ({**base, **looks}, {**base, **same})
    ]
    assert plans[0] == plans[1]


def test_what_no_command_can_say_has_no_command(tiny_weights: Path) -> None:
    weights = WeightFile(tiny_weights)
    assert propose(weights, margin=1.0, hardware="pcm-512").command.startswith(
        f"aimc-sim signoff {tiny_weights} "
    )
    assert propose(weights, margin=1.0, hardware=Hardware.load("pcm-512")).command == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"^margin\. .* Next: give margin"),
        ({"margin": -1.0}, "^margin: got -1.0"),
        ({"margin": 1.0, "text": "page.txt", "text_seed": 3}, "^text_seed: got 3.* text names .* leave out text_seed"),
        ({"margin": 1.0, "looks": "three"}, "^looks: got 'three'"),
        ({"margin": 1.0, "workers": 0}, "^workers: got 0"),
        ({"margin": 1.0, "engine": "cloud"}, "^engine: got 'cloud'"),
        ({"margin": 1.0, "times": [-1.0]}, "^time: got -1.0"),
        ({"margin": 1.0, "times": []}, "^times: "),
        ({"margin": 1.0, "previous": "nowhere"}, "^sign-off: got 'nowhere'"),
    ],
)  # fmt: skip
def test_errors_name_arguments_and_nothing_is_written(
    tiny_weights: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        sign_off(tiny_weights, **options, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_something_has_to_be_signed_off() -> None:
    with pytest.raises(BadInput, match="nothing says what to sign off"):
        sign_off(margin=1.0)


@pytest.fixture(scope="module")
def verdict(tiny_weights: Path) -> Verdict:
    """Two chips of a tiny model, in memory alone."""
    return sign_off(tiny_weights, margin=50.0, **SMALL)


def test_a_verdict_shows_itself_as_the_terminal_does(verdict: Verdict, tiny_weights: Path) -> None:
    assert verdict.passed
    assert verdict.summary.startswith("After 1 minute the mean KL divergence from the digital model is ")
    shown = str(verdict)
    for words in (
        "converters only (ideal cells)",
        "2 chips, 1m",
        "  seed 1",
        "\nPASS\n",
        verdict.summary[:100],
    ):
        assert words in shown
    assert "PASS" in verdict._repr_html_()
    assert verdict.to_dict() is verdict.document("text", "hermes-256")
    assert verdict.paths == ()
    assert f"signoff {tiny_weights} --chips 2" in verdict.to_dict()["command"]


def test_a_verdict_is_compared_with_another_and_with_its_folder(
    verdict: Verdict, tiny_weights: Path, tmp_path: Path
) -> None:
    with_files = sign_off(
        WeightFile(tiny_weights), margin=50.0, **SMALL, output=tmp_path / "new", previous=verdict
    )
    assert [path.name for path in with_files.paths] == [
        "report.json",
        "report.html",
        "report.md",
        "junit.xml",
    ]
    assert with_files.document()["previous"]["times"][0]["mean"] == 0.0
    assert f"against {tiny_weights.name}, text on hermes-256: After 1 minute" in str(with_files)
    comparison = aimc_sim.compare(tmp_path / "new", verdict, margin=1.0, output=tmp_path / "diff")
    assert comparison.passed
    assert comparison.document["before"]["name"] == "new"
    assert "PASS" in str(comparison)
    assert comparison.summary in str(comparison).replace("\n", " ")
    assert json.loads(comparison.paths[0].read_text())["pass"] is True
    assert aimc_sim.compare(verdict, with_files).passed is None
    with pytest.raises(BadInput, match=r"^task: got 'arc'"):
        aimc_sim.compare(verdict, with_files, task="arc")
