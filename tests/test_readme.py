"""The README does what it says: its Python runs as it stands, and its table names every command."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

from aimc_sim.cli.app import COMMANDS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SMALLER = (("chips=20", "chips=2, sequences=2, length=16"), ("margin=0.5", "margin=50"))


def test_the_road_in_ten_lines_runs(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aimc_sim.models.smollm2_path", lambda: tiny_checkpoint)
    exec(compile(BLOCKS[0], "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()
    assert (tmp_path / "model.h5").exists()


@pytest.mark.parametrize("block", BLOCKS[1:], ids=["verdict and cost", "training"])
def test_the_other_python_runs_beside_it(
    block: str,
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a tiny model, with fewer chips and samples."""
    monkeypatch.chdir(tmp_path)
    Path("model.h5").symlink_to(tiny_weights)
    for old, new in SMALLER:
        block = block.replace(old, new)
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_table_names_every_command() -> None:
    assert set(re.findall(r"^\| `aimc-sim (\w+)", README, re.MULTILINE)) == set(COMMANDS)


def test_the_readme_names_every_extra_and_the_model_by_name() -> None:
    listed = README[README.index("pip install -c constraints.txt -e '.[llm]'") :]
    for extra in importlib.metadata.metadata("aimc-sim").get_all("Provides-Extra") or ():
        assert f"`{extra}`" in listed or f"[{extra}]" in listed, extra
    assert "CHECKPOINT is a Hugging Face folder, a GGUF file, or `smollm2`" in README
