"""The README does what it says: its Python runs as it stands, and its table names every command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from aimc_sim.cli.app import COMMANDS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_of_the_readme_runs(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 10, "the road in ten lines"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aimc_sim.models.smollm2_path", lambda: tiny_checkpoint)
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert capsys.readouterr().out.strip()
    assert (tmp_path / "model.h5").exists()


def test_the_table_names_every_command() -> None:
    assert set(re.findall(r"^\| `aimc-sim (\w+)", README, re.MULTILINE)) == set(COMMANDS)
