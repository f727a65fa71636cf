"""Every rule for converter ranges, on matrices where what it promises can be computed in plain NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimc_sim import BadInput, Hardware, WeightFile, program
from aimc_sim.calibrate import ranges as calibrate
from aimc_sim.calibrate.rules import LAMBDAS, conversions, full_scales, lambda_errors, static_range
from aimc_sim.chip.mapping import TileMap, tile_map
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.chip.saturation import saturation
from aimc_sim.evaluate.account import account_of, notes_on
from aimc_sim.evaluate.bench import Bench
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware.converters import StaticRange
from aimc_sim.kernels import full_scale as kernel
from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of
from aimc_sim.testing import assert_bits
from aimc_sim.tiles.matrix import TiledMatrix

F32 = npt.NDArray[np.float32]


def drawn(*shape: int, stream: int = 0) -> F32:
    """Standard normals."""
    count = int(np.prod(shape))
    counter = np.zeros((-(-count // 4), 4), np.uint32)
    counter[:, 0], counter[:, 1] = np.arange(len(counter)), stream
    return np.ascontiguousarray(normals(counter, key_of(3)).ravel()[:count].reshape(shape))


W, X = drawn(20, 48), drawn(60, 48, stream=1)


def hardware(rule: Any, **tables: Any) -> Hardware:
    adc = {"bits": 6, "full_scale": rule if isinstance(rule, dict) else {"rule": rule}}
    return Hardware.load(
        {"device": "ideal", "tile": {"rows": 16, "cols": 8}, "dac": {}, "adc": adc, **tables}
    )


def scales_of(chip: Hardware, w: F32 = W, x: F32 = X, beta: F32 | None = None) -> tuple[F32, TileMap]:
    """Full scales by the rule of the hardware, as calibration asks for them, in two pieces."""
    assert chip.adc is not None
    cells, tmap = calibrate._exact_cells(chip), tile_map(w.shape[1], w.shape[0], chip.tile)

    def pieces() -> Iterator[tuple[int, int, TiledMatrix]]:
        for first, last in calibrate._column_groups(tmap.col_bounds, 12):
            part = np.ascontiguousarray(w[tmap.col_bounds[first] : tmap.col_bounds[last]])
            yield first, last, CellMatrix(part, cells, 0, ranges=MatrixRange(beta)).tiles()

    found = full_scales(x, pieces, tmap, chip.adc.full_scale, chip.adc.max_code, chip.read_max_code)
    return found, tmap


def tiles_with(chip: Hardware, scale: F32, w: F32 = W) -> TiledMatrix:
    return CellMatrix(w, chip, 0, ranges=MatrixRange(full_scale=scale)).tiles()


def lost(chip: Hardware, scale: F32, w: F32 = W, x: F32 = X) -> float:
    """Square error of the products that is the ADC's."""
    bare = Hardware.load({**chip.model_dump(mode="json"), "adc": None})
    exact = tile_matmul(x, CellMatrix(w, bare, 0).tiles())
    return float(np.square(tile_matmul(x, tiles_with(chip, scale, w)) - exact, dtype=np.float64).sum())


def currents(w: F32 = W, x: F32 = X, rows: int = 16) -> npt.NDArray[np.float64]:
    """(row tiles, tokens, N) in full-scale weights times full-scale inputs, with 8-bit inputs by token and tile."""
    out = []
    for a in range(0, w.shape[1], rows):
        part, cells = x[:, a : a + rows].astype(np.float64), w[:, a : a + rows].astype(np.float64)
        q = np.rint(part * (127 / np.abs(part).max(axis=1, keepdims=True))) / 127
        out.append(q @ (cells / np.abs(cells).max(axis=1, keepdims=True)).T)
    return np.stack(out)


def by_tile(values: npt.NDArray[np.float64]) -> list[list[npt.NDArray[np.float64]]]:
    """Currents of each tile of `hardware`: 3 row tiles, column tiles of 8, 8 and 4."""
    return [[row[:, a:b] for a, b in ((0, 8), (8, 16), (16, 20))] for row in values]


def test_currents_are_what_the_converters_see() -> None:
    cells = calibrate._exact_cells(hardware("least_squares"))
    found = list(conversions(X, CellMatrix(W, cells, 0).tiles(), 31))
    assert [(each.part, each.row_tile, each.lowest, each.highest) for each in found] == [
        (0, t, -31, 31) for t in range(3)
    ]
    np.testing.assert_allclose(np.stack([each.current[0] for each in found]), currents(), rtol=0, atol=2e-3)
    whole = sum(each.current[0] * each.weight * each.gain[0][:, None] for each in found)
    np.testing.assert_allclose(whole, X @ W.T, rtol=0, atol=0.3)


def test_percentiles() -> None:
    values = currents()
    found, _ = scales_of(hardware({"rule": "percentile", "percentile": 90.0}))
    expected = [[np.percentile(np.abs(tile), 90.0) for tile in row] for row in by_tile(values)]
    np.testing.assert_allclose(found, expected, atol=2e-3)
    whole, _ = scales_of(hardware({"rule": "percentile", "percentile": 90.0, "per": "matrix"}))
    assert np.unique(whole).size == 1
    assert whole.shape == (3, 3)
    np.testing.assert_allclose(whole[0, 0], np.percentile(np.abs(values), 90.0), rtol=1e-2)
    top, _ = scales_of(hardware({"rule": "percentile", "percentile": 100.0, "per": "matrix"}))
    assert 1 <= top[0, 0] / np.abs(values).max() < 1.002


def test_the_worst_case_is_the_largest_column() -> None:
    sums = [
        np.abs(W[:, a : a + 16] / np.abs(W[:, a : a + 16]).max(axis=1, keepdims=True)).sum(axis=1)
        for a in (0, 16, 32)
    ]
    expected = [[row[a:b].max() for a, b in ((0, 8), (8, 16), (16, 20))] for row in sums]
    found, _ = scales_of(hardware("worst_case"), x=np.zeros((0, 48), np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    whole, _ = scales_of(hardware({"rule": "worst_case", "per": "matrix"}))
    np.testing.assert_allclose(whole, np.full((3, 3), np.max(expected)), rtol=1e-4)


@given(
    seed=st.integers(0, 2**31), bits=st.sampled_from([3, 8, 12]),
    dac=st.sampled_from([{}, {"mode": "bit_serial"}, {"mode": "bit_serial", "slice_bits": 3}, {"bits": 12}]),
)  # fmt: skip
@settings(max_examples=25)
def test_in_the_worst_case_nothing_clips(seed: int, bits: int, dac: dict[str, Any]) -> None:
    """Whatever the input: here the one that makes a column's current largest, and its negative."""
    w = drawn(7, 33, stream=seed)
    chip = hardware("worst_case", dac=dac, tile={"rows": 16, "cols": 3})
    chip = chip.model_copy(update={"adc": chip.adc.model_copy(update={"bits": bits})})  # type: ignore[union-attr]
    scale, _ = scales_of(chip, w, np.zeros((0, 33), np.float32))
    worst = np.sign(w)
    found = saturation(np.concatenate([worst, -worst]), tiles_with(chip, scale, w))
    assert found.conversions_clipped.sum() == 0
    smaller = saturation(np.concatenate([worst, -worst]), tiles_with(chip, scale * np.float32(0.8), w))
    assert smaller.conversions_clipped.sum() > 0, "and it is no larger than it must be"


def test_least_squares_is_the_best_of_its_grid() -> None:
    values = by_tile(currents())
    found, _ = scales_of(hardware("least_squares"))
    tiles = CellMatrix(W, calibrate._exact_cells(hardware("least_squares")), 0).tiles()
    seen = list(conversions(X, tiles, 31))
    for t, row in enumerate(values):
        for c, (a, b) in enumerate(((0, 8), (8, 16), (16, 20))):
            peak = np.abs(seen[t].current[0][:, a:b]).max()
            errors = []
            for k in range(kernel.STEPS):
                full = np.float32(peak) * np.prod(np.full(k, kernel.RATIO), dtype=np.float32)
                errors.append(
                    np.square(
                        kernel.conversion_errors_reference(
                            np.ascontiguousarray(seen[t].current[:, :, a:b]),
                            seen[t].weight[a:b],
                            seen[t].gain,
                            full,
                            -31,
                            31,
                        )
                    ).sum()
                )
            best = peak * kernel.RATIO ** int(np.argmin(errors))
            np.testing.assert_allclose(found[t, c], best, rtol=1e-5)
            assert row[c].shape == (60, b - a)


@pytest.mark.parametrize("mode", ["amplitude", "bit_serial"])
def test_least_output_error_loses_least(mode: str) -> None:
    """Not by a tile's own error but by what tiles and reads lose together; on columns that clip one another's way."""
    dac = {"mode": mode}
    shared = drawn(60, 16, stream=5)
    x = np.concatenate([shared, shared, shared], axis=1)  # all row tiles see the same: their errors add up
    w = np.concatenate([W[:, :16]] * 3, axis=1)
    own, _ = scales_of(hardware("least_squares", dac=dac), w, x)
    together, _ = scales_of(hardware("least_output_error", dac=dac), w, x)
    chip = hardware("least_squares", dac=dac)
    assert lost(chip, together, w, x) < 0.97 * lost(chip, own, w, x)
    for factor in (0.9, 0.81, 1 / 0.9, 1 / 0.81):  # no tile can be moved alone, on the grid, and lose less
        for t in range(3):
            moved = together.copy()
            moved[t] *= np.float32(factor)
            assert lost(chip, moved, w, x) > 0.999 * lost(chip, together, w, x)


@pytest.mark.parametrize("rule", ["least_squares", "least_output_error"])
def test_one_scale_for_a_matrix_is_the_best_common_one(rule: str) -> None:
    found, _ = scales_of(hardware({"rule": rule, "per": "matrix"}))
    assert np.unique(found).size == 1
    chip = hardware("least_squares")
    errors = {factor: lost(chip, found * np.float32(factor)) for factor in (0.6, 0.8, 1.0, 1.25, 1.6)}
    assert errors[0.6] > errors[0.8] > 0.98 * errors[1.0]
    assert errors[1.6] > errors[1.25] > 0.98 * errors[1.0]


def test_a_derived_lambda_beats_one_of_untiled_columns() -> None:
    """λ = 14, tuned on 512 rows, wastes most codes of a tile of 32: derived anew, the products lose a tenth of that."""
    w, x = drawn(24, 512, stream=8), drawn(80, 512, stream=9)
    rule = {"rule": "lambda", "lambda_": 14.0}
    untiled, tiled = (hardware({**rule, "derive": "matrix"}, tile={"rows": rows}) for rows in (None, 32))
    tall, short = (scales_of(chip, w, x)[0] for chip in (untiled, tiled))
    assert 7 < tall[0, 0] < 28
    assert short[0, 0] < tall[0, 0] / 2.5
    inherited = np.full_like(short, 14.0)
    assert lost(tiled, short, w, x) < 0.15 * lost(tiled, inherited, w, x)
    errors = [lost(tiled, np.full_like(short, 14 * factor), w, x) for factor in LAMBDAS[::6]]
    assert lost(tiled, short, w, x) <= min(errors)


def test_the_error_at_each_lambda_is_that_of_the_products() -> None:
    chip = hardware("least_squares")
    tmap = tile_map(48, 20, chip.tile)
    cells = calibrate._exact_cells(chip)
    found = lambda_errors(X, lambda: iter([(0, 3, CellMatrix(W, cells, 0).tiles())]), tmap, 6.0, 31)
    exact = float(np.square(X.astype(np.float64) @ W.T.astype(np.float64)).sum())
    for k in (0, 9, 20, 40):
        expected = lost(chip, np.full((3, 3), 6 * LAMBDAS[k], np.float32)) / exact
        np.testing.assert_allclose(found[k], expected, rtol=2e-2)


@pytest.mark.parametrize("weights", [{"bits": 8, "cell_bits": 4}, {"subtract": "digital"}])
@pytest.mark.parametrize(
    "rule",
    [
        "least_squares",
        "least_output_error",
        "percentile",
        "worst_case",
        {"rule": "worst_case", "per": "matrix"},
    ],
)
def test_every_column_of_a_weight_has_its_scale(weights: dict[str, Any], rule: Any) -> None:
    chip = hardware(rule, weights=weights)
    found, _ = scales_of(chip)
    assert found.shape == (2, 3, 3)
    exact = X @ W.T
    error = np.square(tile_matmul(X, tiles_with(chip, found)) - exact).sum() / np.square(exact).sum()
    assert error < 0.03
    narrow = np.square(tile_matmul(X, tiles_with(chip, found * np.float32(0.05))) - exact).sum()
    assert narrow > 0.1 * np.square(exact).sum()


def plain_dac(x: F32, beta: float) -> npt.NDArray[np.float64]:
    lsb = beta / 127
    return np.asarray(np.clip(np.rint(x.astype(np.float64) / lsb), -127, 127) * lsb)


def test_least_square_input_ranges() -> None:
    x = drawn(2000, 48, stream=4)
    x[0, 0] = 90.0  # one that is far out is clipped, since all others would pay for it
    cut = tile_map(48, 20, hardware("least_squares").tile)
    (beta, *_) = static_range(x, cut, StaticRange(method="least_squares"), 127)
    grid = [90.0 * 0.9**k for k in range(64)]
    errors = [np.square(plain_dac(x, b) - x).sum() for b in grid]
    assert beta == pytest.approx(grid[int(np.argmin(errors))], rel=1e-4)
    assert beta < 90.0
    tiles = static_range(x, cut, StaticRange(method="least_squares", per="tile"), 127)
    assert tiles[0] == pytest.approx(beta, rel=0.5)
    assert (tiles[1:] < 6).all()
    assert_bits(
        static_range(np.zeros((4, 48), np.float32), cut, StaticRange(method="least_squares")),
        np.ones(3, np.float32),
    )


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("per", ["matrix", "tile"])
def test_input_ranges_of_least_output_error(wide: bool, per: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large channel that no weight listens to does not widen the range; least squares of the input lets it."""
    if wide:
        monkeypatch.setattr("aimc_sim.calibrate.rules.GRAM_ROWS", 0)
    x, w = drawn(200, 48, stream=4), drawn(64, 48, stream=2)
    x[:, 5] *= 40
    w[:, 5] *= 1e-3
    cut = tile_map(48, 64, hardware("least_squares").tile)
    rule = StaticRange(method="least_output_error", per=per)
    found = static_range(x, cut, rule, 127, lambda: iter([w[:40], w[40:]]))
    peak = float(np.abs(x).max())
    grid = [peak * 0.8**k for k in range(29)]
    rows = slice(0, 48) if per == "matrix" else slice(0, 16)
    errors = [np.square((plain_dac(x[:, rows], b) - x[:, rows]) @ w[:, rows].T).sum() for b in grid]
    assert found[0] == pytest.approx(grid[int(np.argmin(errors))], rel=1e-5)
    assert found[0] < 0.3 * static_range(x, cut, StaticRange(method="least_squares", per=per), 127)[0]


def test_the_kernel_computes_its_reference() -> None:
    current, weight, gain = drawn(2, 9, 21, stream=6) * 4, drawn(21, stream=7), drawn(2, 9, stream=8)
    for lowest, highest, full in ((-31, 31, 5.0), (0, 63, 3.3), (-7, 7, 40.0)):
        each = kernel.conversion_errors_reference(current, weight, gain, full, lowest, highest)
        total = np.zeros((9, 21), np.float32)
        kernel.output_errors(current, weight, gain, full, lowest, highest, total)
        np.testing.assert_allclose(total, each.sum(axis=0), rtol=0, atol=1e-5 * np.abs(each).max())
        flat = current.reshape(-1, 21)
        square = kernel.square_error(flat, weight, gain.ravel(), full, lowest, highest)
        np.testing.assert_allclose(square, np.square(each).sum(), rtol=1e-4)


@pytest.fixture(scope="module")
def file(tiny_weights: Path) -> WeightFile:
    return WeightFile(tiny_weights)


def chip_of(rule: Any, **dac: Any) -> Hardware:
    return Hardware.load({
        "base": "hermes-256", "device": "ideal", "compensation": False, "tile": {"rows": 32, "cols": 32},
        "dac": dac, "adc": {"full_scale": rule},
    })  # fmt: skip


@pytest.mark.parametrize("rule", ["least_squares", "least_output_error", "percentile", "worst_case"])
@pytest.mark.parametrize("per", ["tile", "matrix"])
def test_a_chip_is_programmed_with_any_rule(rule: str, per: str, file: WeightFile) -> None:
    found = chip_of({"rule": rule, "per": per})
    chip = program(file, 0, found)
    name = file.matrices[1].name
    scale = chip.ranges[name].full_scale
    assert scale is not None
    assert (np.unique(scale).size == 1) == (per == "matrix")
    x = drawn(5, file.matrix(name).rows)
    exact = x @ file.weight(name).T
    y = tile_matmul(x, chip.at(0).tiles(name))
    assert np.square(y - exact).sum() < 0.01 * np.square(exact).sum()
    again = program(file, 0, found)
    assert_bits(again.ranges[name].full_scale, scale)


def test_worst_cases_need_no_text(file: WeightFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aimc_sim.calibrate.ranges.read_inputs", lambda *_: pytest.fail("the text was read"))
    assert not calibrate.needs_text(chip_of("worst_case"))
    assert set(calibrate.derive_ranges(file, chip_of("worst_case"))) == {m.name for m in file.matrices}
    static = chip_of("worst_case", range="max")
    assert calibrate.needs_text(static)
    with pytest.raises(pytest.fail.Exception, match="was read"):
        calibrate.derive_ranges(file, static)


@pytest.mark.parametrize("derive", ["model", "matrix"])
def test_lambda_derived_for_a_model(derive: Any, file: WeightFile) -> None:
    rule = {"rule": "lambda", "lambda_": 14.0, "derive": derive}
    found = chip_of(rule)
    chip = program(file, 0, found)
    values = calibrate.derived_lambdas(found, chip.ranges)
    assert set(values) == {m.name for m in file.matrices}
    assert (len(set(values.values())) == 1) == (derive == "model")
    assert max(values.values()) < 14
    for name, value in values.items():
        assert min(abs(np.log2(value / 14.0) * 6 - np.arange(12, -31, -1))) < 1e-5
        tiles = chip.at(0).tiles(name)
        own = program(file, 0, chip_of({"rule": "lambda", "lambda_": value})).at(0).tiles(name)
        assert_bits(tiles.inverse, own.inverse)
    assert calibrate.derived_lambdas(chip_of({"rule": "lambda", "lambda_": 14.0}), {}) == {}


def test_what_cannot_be() -> None:
    with pytest.raises(BadInput, match="bound_from"):
        chip_of({"rule": "lambda", "lambda_": 14.0, "derive": "model", "bound_from": "noisy"})
    with pytest.raises(BadInput, match="percentile"):
        chip_of({"rule": "percentile", "percentile": 0.0})
    with pytest.raises(BadInput, match="least_square"):
        chip_of("least_square")


def test_reports_say_that_lambda_was_derived(file: WeightFile) -> None:
    rule: dict[str, Any] = {"rule": "lambda", "lambda_": 14.0, "derive": "model"}
    (note,) = notes_on(chip_of(rule), program(file, 0, chip_of(rule)).ranges)
    value = next(
        iter(calibrate.derived_lambdas(chip_of(rule), program(file, 0, chip_of(rule)).ranges).values())
    )
    assert note == (
        f"the ADC's λ was derived again, for tiles of 32 rows, by calibration: {value:.3g}; the checkpoint's was 14"
    )
    each = chip_of({**rule, "derive": "matrix"})
    (note,) = notes_on(each, program(file, 0, each).ranges)
    assert "one a matrix" in note
    bench = Bench(file)
    account = account_of(bench.mount(chip_of(rule)), bench.state, file.calibration.token_ids[0])
    assert f"by calibration: {value:.3g};" in account["notes"][0]
    (plain,) = notes_on(chip_of({"rule": "lambda", "lambda_": 14.0}))
    assert "must be derived again" in plain
