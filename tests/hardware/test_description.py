"""Hardware specs: presets, TOML round trip, identity, and errors that name the remedy."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from aimc_sim.chip.mapping import cuts, tile_map
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware, preset_names
from aimc_sim.units import format_duration, parse_duration, parse_durations

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_the_presets_are_there() -> None:
    assert {"ideal", "afm-phi3", "afm-llama", "hermes-256", "pcm-512", "reram-wan-256"} <= set(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_toml_round_trip_keeps_the_identity(name: str, tmp_path: Path) -> None:
    for hardware in (Hardware.load(name), Hardware.load(name).with_ideal_cells()):
        assert hardware.source
        again = Hardware.load(tomllib.loads(hardware.to_toml()))
        assert again == hardware
        assert again.id == hardware.id
        path = tmp_path / "chip.toml"
        path.write_text(hardware.to_toml())
        assert Hardware.load(path).id == hardware.id


def test_the_identity_notices_every_number() -> None:
    base = Hardware.load("hermes-256")
    assert (
        len(
            {
                base.id,
                base.with_noise_scale(1.1).id,
                base.with_device("pcm-ibm2019").id,
                base.with_ideal_cells().id,
            }
        )
        == 4
    )


def test_a_spec_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Hardware.load("ideal").name = "other"  # type: ignore[misc]


def test_a_hardware_file_in_twenty_lines(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("conductance_us,mean_error_us,sigma_us\n0,0,0.1\n30,0.2,0.5\n")
    (tmp_path / "lab.toml").write_text(
        'name = "lab"\n[device]\nmeasurements = "cells.csv"\ndrift = "pcm-ibm2019"\n'
        "[tile]\nrows = 128\ncols = 64\n[dac]\nbits = 6\n[adc]\nbits = 7\nfull_scale = {rule = 'lambda', lambda_ = 9}\n"
    )
    hardware = Hardware.load(tmp_path / "lab.toml")
    assert hardware.device.g_max_us == 30
    assert hardware.device.t_max_s is not None
    assert hardware.device.t_max_s > 1e8
    assert hardware.dac is not None
    assert hardware.dac.max_code == 31


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, "a chip needs cells"),
        ({"device": 3}, "neither a name nor a table"),
        ({"device": "pcm-hermes"}, "did you mean 'pcm-hermes-2'"),
        ({"device": "ideal", "tile": {"rowz": 3}}, "tile.rowz.*did you mean 'rows'"),
        ({"device": "ideal", "tile": {"rows": 0}}, "tile.rows: got 0"),
        ({"device": "ideal", "tile": {"rows": 40_000}}, "tile.rows: got 40000"),
        ({"device": "ideal", "tile": {"cols": 0}}, "tile.cols: got 0"),
        ({"device": "ideal", "tile": {"rows": 2.5}}, "tile.rows: got 2.5"),
        ({"device": "ideal", "dac": {"bits": 1}}, "dac.bits: got 1"),
        ({"device": "ideal", "dac": {"bits": 17}}, "dac.bits: got 17"),
        ({"device": "ideal", "dac": {"bits": "8"}}, "dac.bits: got '8'"),
        ({"device": "ideal", "dac": {"range": {"method": "std", "kappa": -1}}}, "kappa: got -1"),
        ({"device": "ideal", "adc": {}}, r"add a \[dac\] table"),
        ({"device": "ideal", "dac": {}, "adc": {"full_scale": {"rule": "lambda"}}}, "lambda_.*required"),
        ({"device": {"base": "pcm-afm", "drift": "pcm-joshi"}}, "no drift law to borrow"),
        ({"device": {"base": "ideal", "g_min_us": 30.0}}, "g_min_us = 30.0 must lie below"),
        ({"device": {"base": "ideal", "g_max_us": float("nan")}}, "g_max_us"),
        ({"device": "ideal", "wires": {"r_row_ohm": 1.0}}, "r_col_ohm.*required"),
        ({"device": "ideal", "wire": {"r_row_ohm": 1.0}}, "there is no such field"),
        (
            {"device": "pcm-afm", "weights": {"bits": 8, "cell_bits": 2}},
            "no cells to pair, to slice or to copy",
        ),
        (
            {"device": "ideal", "dac": {"errors": {"offset_sigma_lsb": 1e300}}},
            "offset_sigma_lsb: got 1e\\+300",
        ),
        ({"device": "ideal", "dac": {}, "adc": {"errors": {"noise_lsb": 1e300}}}, "noise_lsb: got 1e\\+300"),
        (
            {"device": "ideal", "dac": {}, "adc": {"full_scale": {"rule": "lambda", "lambda_": 1e300}}},
            "lambda_: got",
        ),
        ({"device": "ideal", "compensation": {"every_s": 1e-320}}, "every_s: got"),
        ({"device": "ideal", "variation": {"nu_sigma": 1e300}}, "nu_sigma: got"),
    ],
)
def test_bad_hardware_is_named(tables: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Hardware.load(tables)


def test_unknown_names_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="did you mean 'hermes-256'"):
        Hardware.load("hermes256")
    with pytest.raises(BadInput, match="cannot be read"):
        Hardware.load(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("device = [")
    with pytest.raises(BadInput, match="not valid TOML"):
        Hardware.load(tmp_path / "broken.toml")


def test_cuts() -> None:
    assert cuts(576, 256).tolist() == [0, 256, 512, 576]
    assert cuts(576, 256, "even").tolist() == [0, 192, 384, 576]
    assert cuts(256, 256).tolist() == [0, 256]
    assert cuts(5, None).tolist() == [0, 5]
    whole = tile_map(576, 1536, Hardware.load("hermes-256").tile)
    assert (len(whole.row_bounds) - 1) * (len(whole.col_bounds) - 1) == 18
    with pytest.raises(BadInput, match="at most 32768"):
        tile_map(40_000, 8, Hardware.load("ideal").tile)


def test_durations() -> None:
    assert [parse_duration(t) for t in ("30s", "1m", "1h", "1d", "1mo", "1y", "0", "2.5h", "1e3s")] == [
        30, 60, 3600, 86_400, 2_629_746, 31_556_952, 0, 9000, 1000]  # fmt: skip
    assert [format_duration(t) for t in (30, 60, 3600, 86_400, 2_629_746, 31_556_952, 0, 90)] == [
        "30s", "1m", "1h", "1d", "1mo", "1y", "0s", "90s"]  # fmt: skip
    assert parse_durations("1m,1h") == (60, 3600)
    for bad in ("-1d", "1 fortnight", "5", "soon", "", "1d2h"):
        with pytest.raises(BadInput, match="time"):
            parse_duration(bad)
    with pytest.raises(BadInput, match="no time was given"):
        parse_durations(",")
    for wrong, why in (
        ("1d,,1y", "missing"),
        ("1d,", "missing"),
        ("1d,1d", "1d is there twice"),
        ("1d, 24h", "24h is"),
    ):
        with pytest.raises(BadInput, match=why):
            parse_durations(wrong)


def test_a_preset_with_changes() -> None:
    """``base`` starts from a preset; tables are laid over its tables."""
    base = Hardware.load("hermes-256")
    wide = Hardware.load({"base": "hermes-256", "tile": {"rows": 512}})
    assert wide.tile.rows == 512
    assert wide.tile.cols == 256
    assert wide.device == base.device
    assert (
        Hardware.load({"base": "hermes-256", "device": {"flicker": False}}).device.drift == base.device.drift
    )
    assert Hardware.load({"base": "hermes-256", "device": "pcm-ibm2019"}).device.name == "pcm-ibm2019"
    assert Hardware.load({"base": "hermes-256", "adc": False}).adc is None
    with pytest.raises(BadInput, match="did you mean 'hermes-256'"):
        Hardware.load({"base": "hermes"})
    with pytest.raises(BadInput, match="neither a name"):
        Hardware.load(5)  # type: ignore[arg-type]


def test_prose_and_absent_effects_are_not_part_of_the_identity() -> None:
    base = Hardware.load("hermes-256")
    assert Hardware.load({"base": "hermes-256", "name": "mine", "description": "other words"}).id == base.id
    assert Hardware.load({"base": "hermes-256", "read_noise": {}}).id != base.id


def test_tiles_of_too_few_rows() -> None:
    with pytest.raises(BadInput, match="4096"):
        tile_map(5000, 8, Hardware.load({"device": "ideal", "tile": {"rows": 1}}).tile)
