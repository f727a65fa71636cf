"""doctor: what is here, what is missing, and that a broken core is noticed."""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from aimc_sim.cli import machine
from aimc_sim.cli.app import app

RUN = CliRunner()


def invoke(*args: str) -> Any:
    return RUN.invoke(app, ["doctor", *args])


def test_doctor_on_a_sound_machine() -> None:
    done = invoke("--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["problems"] == []
    assert report["self_test"] == "ok"
    assert report["versions"]["torch"] == importlib.metadata.version("torch")
    assert report["threads"]["kernels"] >= 1
    assert set(report["processor"]["flags"]) == set(machine.CPU_FLAGS)
    assert {"llm", "eval", "report", "train", "cluster", "dev"} == set(report["extras"])
    assert report["extras"]["dev"]["missing"] == []
    text = invoke().stdout
    assert "self-test    ok" in text
    assert "tile engine" in text
    assert "int8 engine" in text


def test_a_missing_extra_gets_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_transformers(name: str) -> str:
        if name == "transformers":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_transformers)
    done = invoke()
    assert done.exit_code == 0, "an extra is not the core"
    assert "lacks transformers: pip install 'aimc-sim[llm]'" in done.stdout


def test_a_broken_core_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(machine, "_self_test", broken)
    monkeypatch.setattr(machine, "_requirements", lambda: (["numpy", "no-such-package"], {}))
    done = invoke()
    assert done.exit_code == 1
    assert "problem: no-such-package is not installed: pip install no-such-package" in done.stdout
    assert "problem: self-test: RuntimeError: no compiler" in done.stdout
