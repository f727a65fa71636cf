"""Documents do not point at nothing, and commands that they show exist with the options that they use."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from aimc_sim.cli.app import COMMANDS, load
from aimc_sim.hardware import Hardware
from aimc_sim.testing.ledger import uncharged

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", prose)]
    missing = [link for link in links if link and "://" not in link and not (page.parent / link).exists()]
    named = re.findall(r"`((?:aimc_sim|kernels|models|docs|tests|benchmarks)/[\w./-]*)`", prose)
    missing += [name for name in named if not (ROOT / name).exists() and "NAME" not in name]
    assert not missing


def shown_commands() -> list[tuple[str, str]]:
    found = []
    for page, name in zip(PAGES, IDS, strict=True):
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"(?:^|`|^ {4}|\$ )(aimc-sim [^`\n|#]+)", text, re.MULTILINE):
            found.append((name, line.strip()))
    return found


@pytest.mark.parametrize(("page", "line"), shown_commands())
def test_commands_that_documents_show_exist(page: str, line: str) -> None:
    words = shlex.split(line.replace("…", ""))[1:]
    if (
        not words or words[0].startswith(("-", "COMMAND")) or line == "aimc-sim weight file"
    ):  # the format's name
        return
    assert words[0] in COMMANDS, f"{page}: {line}"
    command: Any = load(words[0])
    if hasattr(command, "commands") and len(words) > 1 and words[1] in command.commands:
        command = command.commands[words[1]]
    known = {option for part in command.params for option in [*part.opts, *part.secondary_opts]} | {
        "--help",
        "--debug",
    }
    used = {word.split("=")[0] for word in words if re.fullmatch(r"-{1,2}[a-z][\w-]*(=.*)?", word)}
    assert used <= known, f"{page}: {line}"


HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_examples_of_the_how_to_guides_run(
    page: Path,
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """TOML is checked as hardware (beside the CSV that the page shows), Python runs beside a weight file and a text."""
    blocks = re.findall(r"```(\w+)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("model.h5").symlink_to(tiny_weights)
    Path("page.txt").write_text("To be, or not to be, that is the question. " * 8, encoding="utf-8")
    for kind, text in blocks:
        if kind == "csv":
            Path("cells.csv").write_text(text, encoding="utf-8")
    with uncharged():
        for kind, text in blocks:
            if kind == "toml":
                Path("mine.toml").write_text(text, encoding="utf-8")
                Hardware.load("mine.toml")
            elif kind == "python":
                exec(compile(text, page.name, "exec"), {})
    assert {kind for kind, _ in blocks} <= {"csv", "toml", "python"}


def test_the_example_of_the_sign_off_page_runs(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a checkpoint to a verdict and one of its chips, with fewer chips and a margin for a model without sense."""
    (block,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "signoff.md").read_text("utf-8"), re.DOTALL
    )
    assert len(block.strip().splitlines()) <= 10
    for shown, smaller in (("chips=20", "chips=2"), ("margin=0.5", "margin=50.0")):
        assert shown in block
        block = block.replace(shown, smaller)
    monkeypatch.chdir(tmp_path)
    Path("model").symlink_to(tiny_checkpoint)
    exec(compile(block, "signoff.md", "exec"), {})
    assert "KL divergence from the digital model" in capsys.readouterr().out
    assert Path("report/report.html").exists()
