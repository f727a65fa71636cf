"""A plan as a file, its families of devices, and the command that reads it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aimc_sim.cli.app import app
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.signoff.design.plan_file import Asked, AskedTask, Expect, read_plan, resolve, variants_of
from aimc_sim.signoff.execution.run import JOURNAL
from aimc_sim.signoff.statistics import Expected, needed, power

PLAN = """
weights = "tiny.h5"
hardware = "hermes-256"
device = "all-pcm"
times = "1m,1d"
margin = 50.0
chips = 2

[[task]]
label = "samples"
sequences = 3
length = 12

[[task]]
label = "page"
text = "page.txt"
context = 32
metric = "loss"
margin = 40.0

[expect]
effect = 1.0
chip_sd = 2.0
item_sd = 5.0
"""


def invoke(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def folder(tiny_weights: Path, tmp_path: Path) -> Path:
    (tmp_path / "tiny.h5").symlink_to(tiny_weights)
    (tmp_path / "page.txt").write_text("The quick brown fox jumps over the lazy dog. " * 3)
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path


def test_a_plan_file_runs_every_task_on_every_device(folder: Path) -> None:
    done = invoke("signoff", folder / "plan.toml", "--chips", 1, "--times", "1m", "-o", folder / "out")
    assert done.exit_code == 0, done.stderr
    assert "pcm-afm is left out: its source gives no law of drift" in done.stderr
    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert [(part["hardware"], part["task"]) for part in summary["parts"]] == [
        (f"hermes-256, {device}", task)
        for device in ("pcm-hermes-1", "pcm-hermes-2", "pcm-ibm2019")
        for task in ("samples", "page")
    ]
    report = folder / "out" / "hermes-256--pcm-ibm2019" / "page" / "report.json"
    found = json.loads(report.read_text())
    assert found["verdict"]["metric"] == "loss"
    assert found["statistics"]["p_holm"] >= found["statistics"]["p_value"]
    line = shlex.split(summary["command"])
    assert line[-2:] == ["-o", "OUT"]
    again = invoke(*line[1:-1], folder / "again", "--json")
    assert json.loads(again.stdout)["parts"] == summary["parts"]


def test_a_dry_run_says_what_the_margin_needs_and_computes_nothing(folder: Path) -> None:
    done = invoke("signoff", folder / "plan.toml", "--dry-run", "--json", "-o", folder / "out")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cells"] == 2 + 3 * 2 * (1 + 2 * 2)
    samples, page = found["power"]
    # Each task's own items and margin: three samples, and 135 letters, each a token, in windows of 32.
    assert [(each["task"], each["with_items"], each["margin"]) for each in found["power"]] == [
        ("samples", 3, 50.0),
        ("page", 5, 40.0),
    ]
    expected = Expected(1.0, 2.0, 5.0, 0.0)
    for each in (samples, page):
        assert each["of_this_study"] == power(expected, 2, each["with_items"], each["margin"], 0.0125)
    assert samples["chips_needed"] == needed(expected, 50.0, items=3, alpha=0.0125).chips
    assert not needed(expected, 40.0, chips=2, alpha=0.0125).enough, "of two chips, at half the alpha"
    assert page["items_needed"] is None
    assert not (folder / "out").exists()


def test_what_a_plan_expects_is_in_nats_unless_all_its_tasks_ask_questions() -> None:
    plans, own = Expect(effect=1.0, chip_sd=1.0, item_sd=1.0), Expect(effect=0.1, chip_sd=0.1, item_sd=0.1)
    text, asks, asks_with = AskedTask(), AskedTask(harness="a"), AskedTask(harness="b", expect=own)
    assert Asked(expect=plans, task=(text, asks, asks_with)).expectations == (plans, None, own)
    assert Asked(expect=plans, task=(asks, asks_with)).expectations == (plans, own)


def test_a_journal_in_the_folder_is_resumed_or_refused(folder: Path) -> None:
    line = (
        "signoff",
        folder / "tiny.h5",
        "--margin",
        50,
        "--sequences",
        2,
        "--length",
        8,
        "-o",
        folder / "o",
    )
    first = invoke(*line, "--chips", 1, "--times", "1m")
    assert first.exit_code == 0, first.stderr
    before = (folder / "o" / "report.json").read_text()
    assert invoke(*line, "--chips", 1, "--times", "1m").exit_code == 0
    report, again = json.loads(before), json.loads((folder / "o" / "report.json").read_text())
    for document in (report, again):
        del document["timings"]
    assert report == again
    other = invoke(*line, "--chips", 2, "--times", "1m")
    assert other.exit_code == 2
    assert "it belongs to another plan: seeds was [0] and is [0, 1]" in other.stderr
    assert "--restart" in other.stderr
    assert invoke(*line, "--chips", 2, "--times", "1m", "--restart").exit_code == 0
    assert (folder / "o" / f"{JOURNAL}.old").exists()


def test_families_leave_out_what_cannot_take_part() -> None:
    chosen, left_out = variants_of([Hardware.load("hermes-256")], "all-pcm", (0.0, 86400.0))
    assert [hardware.device.name for hardware in chosen] == ["pcm-hermes-1", "pcm-hermes-2", "pcm-ibm2019"]
    assert {line.split()[0] for line in left_out} == {"pcm-afm", "pcm-afm-td", "pcm-joshi"}
    named, _ = variants_of([Hardware.load("hermes-256")], "pcm-joshi, pcm-ibm2019", (0.0,))
    assert [hardware.device.name for hardware in named] == ["pcm-joshi", "pcm-ibm2019"]
    with pytest.raises(BadInput, match="no device is of that family"):
        variants_of([Hardware.load("hermes-256")], "all-pmc", (0.0,))
    with pytest.raises(BadInput, match="none of the family can take part"):
        variants_of([Hardware.load("hermes-256")], "all-pcm", (1e12,))


def test_a_device_by_name_must_cover_the_times() -> None:
    with pytest.raises(BadInput, match="time for device"):
        resolve(Asked(margin=1.0, device="pcm-joshi"), "0" * 64, Hardware.load("hermes-256"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chip = 5", "chips"),
        ("margin = 1.0\nlooks = [3, 5]\nchips = 8", "end the looks with the number of chips"),
        ("margin = 1.0\nlooks = [5, 3]", "each look sees more chips"),
        ("chips = 5", "--margin"),
        ("margin = 1.0\n[[task]]\n[[task]]", "two are called 'text'"),
        ('margin = 1.0\n[[task]]\nlabel = "a/b"', "without a slash"),
        ('margin = 1.0\nhardware = ["hermes-256", "hermes-256"]', "Next: list it once"),
        ('margin = 1.0\ndevice = "pcm-hermes-1,pcm-hermes-1"', "two are called 'hermes-256, pcm-hermes-1'"),
        ('margin = 1.0\ntimes = "1d,,1y"', "missing beside a comma"),
    ],
)
def test_what_is_wrong_in_a_plan_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(BadInput, match=message) as refused:
        resolve(read_plan(tmp_path / "plan.toml"), "0" * 64, Hardware.load("hermes-256"))
    assert len(str(refused.value)) < 400, "no tables"


def test_two_entries_of_one_name_are_named_and_another_name_mends_it(tmp_path: Path) -> None:
    mine, text = tmp_path / "mine.toml", 'base = "hermes-256"\nname = "{}"\n[tile]\nrows = 128\n'
    mine.write_text(text.format("hermes-256"))
    (tmp_path / "plan.toml").write_text('margin = 1.0\nhardware = ["hermes-256", "mine.toml"]')
    asked, default = read_plan(tmp_path / "plan.toml"), Hardware.load("ideal")
    with pytest.raises(BadInput) as refused:
        resolve(asked, "0" * 64, default, tmp_path)
    assert str(refused.value) == (
        "hardware: got ['hermes-256', 'mine.toml']. both are called 'hermes-256', and a report goes by its hardware's "
        "name. Next: change `name` in mine.toml, or add one."
    )
    mine.write_text(text.format("mine"))
    assert [each.label for each in resolve(asked, "0" * 64, default, tmp_path).plan.variants] == [
        "hermes-256",
        "mine",
    ]


def test_options_that_a_plan_file_decides_are_refused(folder: Path) -> None:
    done = invoke("signoff", folder / "plan.toml", "--length", 8, "-o", folder / "out")
    assert done.exit_code == 2
    assert "put it into a [[task]] table" in done.stderr
    for option, value in (("--workers", 0), ("--looks", "three"), ("--engine", "cloud")):
        done = invoke("signoff", folder / "tiny.h5", "--margin", 1, option, value, "-o", folder / "out")
        assert done.exit_code == 2, option
