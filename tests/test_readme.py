"""The README does what it says: its Python runs as it stands, and its table names every command."""

from __future__ import annotations

import importlib.metadata
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


def test_the_readme_names_every_extra_and_the_model_by_name() -> None:
    listed = README[README.index("pip install -c constraints.txt -e '.[llm]'") :]
    for extra in importlib.metadata.metadata("aimc-sim").get_all("Provides-Extra") or ():
        assert f"`{extra}`" in listed or f"[{extra}]" in listed, extra
    assert "CHECKPOINT is a Hugging Face folder, a GGUF file, or `smollm2`" in README
