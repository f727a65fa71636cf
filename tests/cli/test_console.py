"""Progress in a pipe: a line where a stage begins and one every so often, and none when it is to be quiet."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from aimc_sim.cli import console


class Heard(io.StringIO):
    """A pipe that says when its third line has come."""

    def __init__(self) -> None:
        super().__init__()
        self.thrice = threading.Event()

    def flush(self) -> None:
        if self.getvalue().count("\n") >= 3:
            self.thrice.set()


@pytest.mark.under_load
def test_a_long_stage_is_heard_of_again(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, before = Heard(), threading.active_count()
    monkeypatch.setattr(sys, "stderr", heard)
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.01)
    with console.progress_bars() as report:
        report("scoring", 0, 4)
        report("scoring", 1, 4)
        heard.thrice.clear()
        heard.truncate(heard.seek(0))
        assert heard.thrice.wait(300)
    assert heard.getvalue().startswith("scoring: 1/4 25\u202f%, ")
    assert threading.active_count() == before, "no line after the end"


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress_bars(quiet=True) as report:
        report("scoring", 0, 4)
    assert capsys.readouterr().err == ""
