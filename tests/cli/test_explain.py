"""`aimc-sim explain` as a user calls it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aimc_sim.attribution.explanation import BAR, _bar
from aimc_sim.cli.app import app

RUN = CliRunner()
SMALL = ("--seeds", 2, "--time", "1h", "--tokens", 24)


def invoke(*args: object) -> Any:
    return RUN.invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def explained(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("explain") / "out"
    return invoke("explain", tiny_weights, *SMALL, "--seed", 3, "-o", folder), folder


def test_explain_draws_the_waterfall_and_writes_the_files(explained: tuple[Any, Path]) -> None:
    done, folder = explained
    assert done.exit_code == 0, done.stderr
    for word in ("DAC", "Programming", "Drift", "1/f noise", "ADC", "interaction", "won back", "█", "dB"):
        assert word in done.stdout
    assert "arithmetic: exact integers" in done.stderr
    assert "% of multiply-accumulates are analog" in done.stderr
    names = {"explain.html", "explain.json", "effects.csv", "matrices.csv"}
    assert {path.name for path in folder.iterdir()} == names
    assert all(str(folder / name) in done.stdout for name in names)


def test_the_command_in_the_document_makes_it_again(explained: tuple[Any, Path], tmp_path: Path) -> None:
    first = json.loads((explained[1] / "explain.json").read_text(encoding="utf-8"))
    line = shlex.split(first["command"])
    assert line[:2] == ["aimc-sim", "explain"]
    line[line.index("OUT")] = str(tmp_path / "again")
    done = invoke(*line[1:], "--json")
    assert done.exit_code == 0, done.stderr
    again = json.loads(done.stdout)
    for document in (first, again):
        del document["timings"]
    assert again == first


def test_json_alone_writes_no_file(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "page.txt"
    text.write_text("A page of text. " * 4, encoding="utf-8")
    hardware = tmp_path / "quiet.toml"
    hardware.write_text('base = "hermes-256"\ndevice = "ideal"\ncompensation = false\n', encoding="utf-8")
    done = invoke("explain", tiny_weights, "--hardware", hardware, "--text", text, "--context", 16, "--tokens", 32,
                  "--seeds", 1, "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert [effect["effect"] for effect in found["effects"]] == ["dac", "adc"]
    assert "page.txt, its first 32 tokens, in windows of 16 tokens" in found["text"]["description"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.txt", "quiet.toml"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--hardware", "ideal"), "there is no loss to explain"),
        (("--seeds", 0), "seeds"),
        (("--tokens", 1), "tokens"),
        (("--time", "soon"), "time"),
        (("--time", "900y"), "data end"),
        (("--context", 16), "--text"),
        (("--text", "nowhere.txt"), "text file"),
    ],
)
def test_bad_input_is_one_clean_message(tiny_weights: Path, options: tuple[object, ...], what: str) -> None:
    done = invoke("explain", tiny_weights, *options)
    assert done.exit_code == 2
    assert what in done.stderr
    assert "next: " in done.stderr


def test_bars_start_where_the_last_one_ended() -> None:
    assert _bar(0.0, 1.0, 1.0) == "█" * BAR
    assert _bar(0.5, 1.0, 1.0) == " " * (BAR // 2) + "█" * (BAR // 2)
    assert _bar(1.0, 0.5, 1.0) == _bar(0.5, 1.0, 1.0), "a step back covers the same ground"
    assert _bar(0.0, 0.0, 1.0) == "▏"
    assert len(_bar(1.0, 1.0, 1.0)) == BAR
    assert _bar(-1.0, 2.0, 1.0) == "█" * BAR
    assert _bar(0.0, 0.0, 0.0) == ""
