"""hardware list, show and check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aimc_sim.cli.app import app
from aimc_sim.hardware import Hardware, preset_names

RUN = CliRunner()


def invoke(*args: str | Path) -> Any:
    return RUN.invoke(app, ["hardware", *(str(arg) for arg in args)])


def test_list() -> None:
    listed = json.loads(invoke("list", "--json").stdout)
    assert [entry["name"] for entry in listed] == list(preset_names())
    table = invoke("list").stdout
    assert all(name in table for name in preset_names())
    assert "256 × 256 tiles, 8-bit DAC, 8-bit ADC, drift compensation a tile" in table
    assert "untiled, no DAC, no ADC" in table
    summaries = {entry["name"]: entry["summary"] for entry in listed}
    assert (
        summaries["afm-llama"] == "untiled, 8-bit DAC (κ = 18), 8-bit ADC (λ = 14), drift compensation a tile"
    )
    assert len(set(summaries.values())) == len(summaries)


@pytest.mark.parametrize("name", preset_names())
def test_what_show_writes_is_the_same_hardware(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.toml"
    path.write_text(invoke("show", name).stdout, encoding="utf-8")
    assert Hardware.load(path).id == Hardware.load(name).id
    checked = invoke("check", path)
    assert checked.exit_code == 0, checked.output
    assert checked.stdout.startswith(f"ok: {name} ({Hardware.load(name).id})")
    assert f"\ndevice {Hardware.load(name).device.name}, valid " in checked.stdout
    assert json.loads(invoke("check", path, "--json").stdout)["ok"] is True
    assert json.loads(invoke("show", name, "--json").stdout)["id"] == Hardware.load(name).id


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('device = "pcm-hermes-3"', ("pcm-hermes-3", "pcm-hermes-2")),
        ('device = "ideal"\n[tile]\nrow = 256', ("row", "rows")),
        ('device = "ideal"\n[tile]\nrows = 0', ("rows", "0")),
        ('device = "ideal"\n[dac]\nbits = 1', ("bits", "1")),
        ('device = "ideal"\n[dac]\nbits = "eight"', ("bits", "eight")),
        ('device = "ideal"\n[dac]\nbits = 17', ("next: use 2 to 16",)),
        ('device = "ideal"\n[ac]\nbits = 8', ("did you mean 'dac' or 'adc'?",)),
        ('device = "ideal"\n[tile]\nsplit = "odd"', ("next: use 'filled' or 'even'",)),
        ("device = ", ("TOML",)),
        ("[tile]\nrows = 256", ("device",)),
    ],
)
def test_check_names_the_field_the_value_and_the_remedy(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    done = invoke("check", path)
    assert done.exit_code == 2, done.output
    assert all(word in done.stderr for word in words), done.stderr
    assert "\nnext: " in done.stderr
    assert "Traceback" not in done.output


def test_an_unknown_preset_offers_the_nearest() -> None:
    done = invoke("show", "herms-256")
    assert done.exit_code == 2
    assert "did you mean 'hermes-256'?" in done.stderr


def test_check_says_which_times_are_valid() -> None:
    assert (
        "device reram-wan, valid at programming and from 1s to 2d" in invoke("check", "reram-wan-256").stdout
    )
    assert "device ideal, valid from programming on, without an end" in invoke("check", "ideal").stdout
    found = json.loads(invoke("check", "reram-wan-256", "--json").stdout)
    assert (found["device"], found["t_min_s"], found["t_max_s"]) == ("reram-wan", 1.0, 172_800.0)
