"""A chip is a pure function of (weight file, hardware, seed): threads, order, times and processes change nothing."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aimc_sim import BadInput, Chip, Hardware, WeightFile, program
from aimc_sim.calibrate import derive_ranges
from aimc_sim.calibrate.rules import static_range
from aimc_sim.chip.mapping import tile_map
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.hardware import StaticRange
from aimc_sim.kernels import parallel
from aimc_sim.testing import assert_bits
from aimc_sim.tiles.matrix import TiledMatrix

DAY = 86_400.0


@pytest.fixture(scope="module")
def file(tiny_weights: Path) -> WeightFile:
    return WeightFile(tiny_weights)


def digest(chip: Chip, t_s: float, names: list[str], session: int = 0) -> dict[str, str]:
    return {name: digest_tiles(chip.at(t_s, session).tiles(name)) for name in names}


def digest_tiles(tiles: TiledMatrix) -> str:
    arrays = [tiles.panels, tiles.inverse, tiles.scale]
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


def test_order_of_layers_and_times_changes_nothing(file: WeightFile) -> None:
    names = [matrix.name for matrix in file.matrices]
    forward = [digest(program(file, 5), t, names) for t in (0.0, DAY)]
    chip = program(file, 5)
    backward = [digest(chip, t, names[::-1]) for t in (DAY, 0.0)][::-1]
    assert forward == backward
    assert forward[0] != forward[1]


def test_threads_change_nothing(file: WeightFile) -> None:
    names, before = [matrix.name for matrix in file.matrices], parallel.num_threads()
    try:
        found = []
        for threads in (1, 2, 5):
            parallel.set_num_threads(threads)
            found.append(digest(program(file, 5), DAY, names))
    finally:
        parallel.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_another_process_finds_the_same_chip(file: WeightFile) -> None:
    name = file.matrices[0].name
    code = (
        "import sys, hashlib, aimc_sim\n"
        f"tiles = aimc_sim.program({str(file.path)!r}, 5).at({DAY}).tiles({name!r})\n"
        "arrays = [tiles.panels, tiles.inverse, tiles.scale]\n"
        "print(hashlib.sha256(b''.join(a.tobytes() for a in arrays)).hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(program(file, 5), DAY, [name])[name]


def test_seeds_sessions_and_epochs_are_different_draws(file: WeightFile) -> None:
    name, chip = file.matrices[0].name, program(file, 5)
    again = Chip(chip.weight_file, chip.hardware, 5, chip.ranges, programming_cycle=1)
    found = {
        digest(c, DAY, [name], s)[name] for c, s in ((chip, 0), (chip, 1), (program(file, 6), 0), (again, 0))
    }
    assert len(found) == 4


def test_a_trajectory_keeps_its_cells(file: WeightFile) -> None:
    """Programming noise and drift exponents belong to the cell: without 1/f noise a decade later is a power law."""
    hardware = Hardware.load("hermes-256")
    still = hardware.with_device(hardware.device.model_copy(update={"flicker": None}))
    chip, name = program(file, 1, still), file.matrices[0].name
    states = [chip.at(t).matrix(name).cells() for t in (0.0, 1e3, 1e6)]
    assert_bits(states[0].programmed, states[2].programmed)
    g0, g1, g2 = (state.now.astype(np.float64) for state in states)
    on = g0 > 0.5
    nu1 = -np.log(g1[on] / g0[on]) / np.log1p(1e3 / 300)
    nu2 = -np.log(g2[on] / g0[on]) / np.log1p(1e6 / 300)
    np.testing.assert_allclose(nu1, nu2, atol=2e-6)
    assert nu2.std() > 1e-3


def test_compensation_restores_the_mean(file: WeightFile) -> None:
    hardware = Hardware.load("hermes-256")
    bare = hardware.model_copy(update={"compensation": None})
    name = file.matrices[0].name
    scale = [program(file, 1, h).at(DAY).tiles(name).scale for h in (hardware, bare)]
    assert 1.1 < float((scale[0] / scale[1]).mean()) < 1.5
    assert_bits(
        program(file, 1, hardware).at(0.0).tiles(name).scale, program(file, 1, bare).at(0.0).tiles(name).scale
    )


def test_times_and_names_that_do_not_exist(file: WeightFile) -> None:
    chip = program(file, 0)
    for t_s, message in ((-1.0, "end of programming"), (float("nan"), "finite"), (1e12, "data end at")):
        with pytest.raises(BadInput, match=message):
            chip.at(t_s)
    with pytest.raises(BadInput, match="no such matrix"):
        chip.at(0).tiles("model.layers.0.nothing")
    for seed in (-1, 2**64, 1.5, True):
        with pytest.raises(BadInput, match="seed"):
            program(file, seed)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="session"):
        chip.at(0, session=2**32)


def test_ranges_are_calibrated_per_tile_and_cached(
    file: WeightFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    hardware = Hardware.load("hermes-256").model_copy(
        update={"tile": Hardware.load("hermes-256").tile.model_copy(update={"rows": 16, "cols": 16})}
    )
    calls: list[int] = []
    first = program(file, 0, hardware, progress=lambda stage, done, total: calls.append(done))
    assert calls == list(range(len(file.matrices) + 1))
    second = program(file, 1, hardware, progress=lambda stage, done, total: calls.append(-1))
    assert -1 not in calls
    for matrix in file.matrices:
        cut = tile_map(matrix.rows, matrix.cols, hardware.tile)
        scales = second.ranges[matrix.name].full_scale
        assert scales is not None
        assert scales.shape == (cut.row_bounds.size - 1, cut.col_bounds.size - 1)
        assert_bits(scales, first.ranges[matrix.name].full_scale)
        assert (scales > 0).all()
    (damaged,) = (tmp_path / "aimc-sim" / "ranges").iterdir()
    whole = damaged.read_bytes()
    for content in (b"", b"not a cache", b"PK\3\4junk", whole[: len(whole) // 2]):
        damaged.write_bytes(content)
        assert program(file, 1, hardware).ranges_id == first.ranges_id
    with np.load(damaged) as held:
        wrong = {key: np.full_like(held[key], np.nan) for key in held.files}
    np.savez(damaged, **wrong)
    assert program(file, 1, hardware).ranges_id == first.ranges_id
    assert_bits(
        program(file, 1, hardware).ranges[file.matrices[0].name].full_scale,
        first.ranges[file.matrices[0].name].full_scale,
    )


def test_least_squares_beats_the_largest_current(file: WeightFile) -> None:
    """The fitted full scale lies below the peak, and no neighbouring choice loses less on the text it saw."""
    hardware = Hardware.load({**Hardware.load("hermes-256").model_dump(mode="json"), "adc": {"bits": 4}})
    ranges = derive_ranges(file, hardware)
    peak = derive_ranges(
        file, hardware.model_copy(update={"adc": hardware.adc.model_copy(update={"bits": 16})})
    )  # type: ignore[union-attr]
    ratios = np.concatenate([(ranges[m].full_scale / peak[m].full_scale).ravel() for m in ranges])  # type: ignore[operator]
    assert ratios.max() <= 1
    assert np.median(ratios) < 0.75


def test_static_input_ranges() -> None:
    x = np.linspace(-2, 2, 400, dtype=np.float32).reshape(20, 20)
    x[:, 10:] *= 3
    cut = tile_map(20, 4, Hardware.load({"device": "ideal", "tile": {"rows": 10}}).tile)
    std = static_range(x, cut, StaticRange(method="std", kappa=15))
    np.testing.assert_allclose(std, 15 * x.std(), rtol=1e-5)
    np.testing.assert_allclose(
        static_range(x, cut, StaticRange(method="max", per="tile")),
        [np.abs(x[:, :10]).max(), np.abs(x[:, 10:]).max()],
    )
    half = static_range(x, cut, StaticRange(method="percentile", percentile=50.0))
    np.testing.assert_allclose(half, np.percentile(np.abs(x), 50), rtol=1e-6)


def test_a_static_hardware_reads_calibrated_ranges(file: WeightFile) -> None:
    chip = program(file, 0, "afm-llama")
    name = file.matrices[0].name
    tiles = chip.at(0).tiles(name)
    assert tiles.input_range is not None
    assert_bits(tiles.input_range, chip.ranges[name].input_range)
    with pytest.raises(BadInput, match="static input range"):
        program(file, 0, "afm-llama", ranges={name: MatrixRange()}).at(0).tiles(name)


def test_a_chip_is_its_id(file: WeightFile) -> None:
    chip = program(file, 5)
    assert chip == program(file, 5)
    assert hash(chip) == hash(program(file, 5))
    other = {name: MatrixRange(item.input_range, item.full_scale * 2) for name, item in chip.ranges.items()}  # type: ignore[operator]
    assert program(file, 5, ranges=other).id != chip.id
    assert program(file, 6) != chip
    assert len(repr(chip.at(10.0))) < 200
    assert chip.at("1d").t_s == DAY


def test_the_bound_of_noisy_weights(file: WeightFile) -> None:
    """IBM's code takes the full scale from the programmed weights, column by column."""
    tables = {
        "base": "afm-llama",
        "adc": {"full_scale": {"rule": "lambda", "lambda_": 14.0, "bound_from": "noisy"}},
    }
    name = file.matrices[0].name
    noisy = program(file, 1, tables).at(0).matrix(name)
    tiles, target = noisy.tiles(), program(file, 1, "afm-llama").at(0).tiles(name)
    ratio = np.abs(noisy.effective_weights()).max(1)
    np.testing.assert_allclose(tiles.scale[0] / target.scale[0], ratio, rtol=1e-5)
    np.testing.assert_allclose(target.inverse[0] / tiles.inverse[0], ratio, rtol=1e-5)


def test_weights_that_are_no_numbers_are_refused() -> None:
    w = np.ones((5, 8), np.float32)
    w[3, 2] = np.nan
    with pytest.raises(BadInput, match="output 3"):
        CellMatrix(w, Hardware.load("pcm-512").model_copy(update={"adc": None}), 0).tiles()


def test_static_inputs_and_fitted_outputs_are_calibrated_together(file: WeightFile) -> None:
    """Full scales are fitted behind the static range that the same pass derives."""
    hardware = Hardware.load({"base": "hermes-256", "dac": {"range": {"method": "max", "per": "tile"}}})
    ranges = derive_ranges(file, hardware)  # not from the cache
    state = program(file, 0, hardware, ranges=ranges).at(0)
    for matrix in file.matrices:
        found = ranges[matrix.name]
        assert found.full_scale is not None
        assert (found.full_scale > 0).all()
        assert_bits(state.tiles(matrix.name).input_range, found.input_range)
