"""Progress in a pipe: a line where a stage begins and one every so often, and none when it is to be quiet."""

from __future__ import annotations

import time

import pytest

from aimc_sim.cli import console


def test_a_long_stage_is_heard_of_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.01)
    with console.progress_bars() as report:
        report("scoring", 0, 4)
        report("scoring", 1, 4)
        deadline = time.monotonic() + 20
        shown = ""
        while "1/4 25" not in shown and time.monotonic() < deadline:
            time.sleep(0.01)
            shown += capsys.readouterr().err
    assert shown.startswith("scoring: 0/4 0")
    assert "scoring: 1/4 25\u202f%, " in shown
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().err == "", "no line after the end"


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress_bars(quiet=True) as report:
        report("scoring", 0, 4)
    assert capsys.readouterr().err == ""
