"""Ways to read an input code: slices make the code, an ideal ADC cannot tell them apart, noise follows each mode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aimc_sim import BadInput, Hardware
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.execute import tile_matmul, tile_matmul_reference, tile_sums
from aimc_sim.kernels import panels, reads, tile_engine
from aimc_sim.kernels.reads import LINEAR, OFFSET, POLARITY, SIGNED, SLICED, SQUARE
from aimc_sim.kernels.tile_product import NAMES
from aimc_sim.randomness import row_ids
from aimc_sim.testing import (
    AlphaLedger,
    assert_bits,
    assert_mean_normal,
    assert_uncorrelated,
    assert_variance,
)
from aimc_sim.tiles.input_codes import offset_constant
from aimc_sim.tiles.matrix import TiledMatrix
from aimc_sim.torch_bridge.device import check_for_device
from helpers import gaussian

ADC = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 8.0}}
CODES = np.arange(-127, 128).astype(np.int8)
MODES: list[dict[str, Any]] = [
    {"mode": "pulse_width"},
    *({"mode": "multi_phase", "phases": p, "accumulate": a} for p in (1, 2) for a in ("digital", "analog")),
    *({"mode": "bit_serial", "slice_bits": s, "coding": "offset"} for s in (1, 3, 7)),
    *({"mode": "bit_serial", "slice_bits": s, "accumulate": a} for s in (1, 2, 3, 7) for a in ("digital", "analog")),
]  # fmt: skip


W, X = gaussian((70, 100), 1), gaussian((37, 100), 2)


def matrix(dac: dict[str, Any], adc: object = ADC, w: np.ndarray = W, **tables: Any) -> CellMatrix:
    data = {"device": "pcm-hermes-2", "tile": {"rows": 32}, "dac": dac, "adc": adc, **tables}
    return CellMatrix(w, Hardware.load(data), seed=4, ordinal=3)


@pytest.mark.parametrize("levels", [1, 7, 127])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 7])
def test_slices_make_the_code(levels: int, bits: int) -> None:
    codes = CODES[np.abs(CODES) <= levels]
    for kind, count, constant in (
        (SIGNED, reads.slice_count(levels, bits), 0),
        (OFFSET, reads.slice_count(2 * levels + 1, bits), levels + 1),
        (POLARITY, 2, 0),
    ):
        parts = reads.parts_reference(codes, kind, bits, count, levels)
        weights = reads.part_weights(kind, bits, count).astype(np.int64)
        assert_bits((weights[:, None] * parts).sum(axis=0) - constant, codes.astype(np.int64))
        assert np.abs(parts).max() < (levels + 1 if kind == POLARITY else 2**bits)
        assert kind == SIGNED or parts.min() >= 0, "currents of one sign"
        width = codes.size + 5  # rows are filled up with zeros, whatever the code of no input
        buffer, sums = np.full(count * width, 99, np.int8), np.empty(count, np.int32)
        buffer[:width] = np.append(codes, np.zeros(5, np.int8))
        reads.part_codes(buffer, 0, width, codes.size, kind, bits, count, levels, sums)
        assert_bits(buffer.reshape(count, -1), np.pad(parts, ((0, 0), (0, 5))))
        assert_bits(sums, parts.sum(axis=1, dtype=np.int32))


@pytest.mark.parametrize(("kind", "bits"), [(SQUARE, 0), (LINEAR, 0), (SLICED, 1), (SLICED, 2), (SLICED, 3)])
def test_weights_of_the_noise(kind: int, bits: int) -> None:
    high, low = reads.noise_weights_reference(CODES, kind, 127, bits)
    q = np.abs(CODES.astype(int))
    if kind == SLICED:  # bit by bit, as one would write it down
        mask = (1 << bits) - 1
        expected = sum(4 ** (bits * k) * ((q >> (bits * k)) & mask) ** 2 for k in range(7))
    else:
        expected = q * 127 if kind == LINEAR else q**2
    assert_bits(128 * high.astype(np.int64) + low, np.asarray(expected, np.int64))
    planes = np.empty(2 * CODES.size, np.int8)
    reads.noise_weights(CODES, kind, 127, bits, planes)
    assert_bits(planes.reshape(2, -1), np.stack([high, low]))
    if (kind, bits) == (SLICED, 1):
        assert expected[-1] / 127**2 == pytest.approx(0.34, abs=0.005), "physics: 0.34 of q² at full input"


@pytest.mark.parametrize("dac", MODES, ids=str)
@pytest.mark.parametrize("noisy", [False, True])
def test_every_mode_equals_plain_numpy(dac: dict[str, Any], noisy: bool) -> None:
    extra = {"read_noise": {"sigma": 0.05}} if noisy else {}
    errors = {"offset_sigma_lsb": 0.5, "inl_sigma_lsb": 0.5, "noise_lsb": 0.5}
    ids = row_ids(np.arange(37), 5)
    for adc in (ADC, {**ADC, "errors": errors}):
        tiles = matrix(dac, adc, **extra).tiles()
        expected = tile_matmul_reference(X, tiles, ids)
        assert_bits(tile_matmul(X, tiles, ids), expected)
        assert_bits(np.concatenate([tile_matmul(X[a:b], tiles, ids[a:b]) for a, b in ((0, 1), (1, 8), (8, 37))]),
                    expected)  # fmt: skip


@pytest.mark.parametrize("dac", MODES, ids=str)
def test_an_ideal_adc_cannot_tell_the_modes_apart(dac: dict[str, Any]) -> None:
    amplitudes = tile_matmul(X, matrix({}, False).tiles())
    assert_bits(tile_matmul(X, matrix(dac, False).tiles()), amplitudes)
    silent, ids = matrix(dac, False, read_noise={"sigma": 0.0}).tiles(), row_ids(np.arange(37), 0)
    assert_bits(tile_matmul(X, silent, ids), amplitudes)
    noisy = matrix(dac, False, read_noise={"sigma": 1e-6}).tiles()
    assert_bits(tile_matmul(X, noisy, ids), tile_matmul_reference(X, noisy, ids))
    assert np.abs(tile_matmul(X, noisy, ids) - amplitudes).max() < 1e-3


def test_one_slice_of_all_bits_is_an_amplitude() -> None:
    whole = {"mode": "bit_serial", "slice_bits": 7}
    assert_bits(tile_matmul(X, matrix(whole).tiles()), tile_matmul(X, matrix({}).tiles()))


EVERY_READ: list[dict[str, Any]] = [
    {"mode": "bit_serial"}, {"mode": "bit_serial", "coding": "offset"}, {"mode": "multi_phase"},
    {"errors": {"inl_sigma_lsb": 2.0}},
]  # fmt: skip


@pytest.mark.parametrize("engine", tile_engine.available(), ids=[NAMES[e] for e in tile_engine.available()])
@pytest.mark.parametrize("dac", EVERY_READ, ids=str)
def test_reads_on_every_engine(engine: int, dac: dict[str, Any]) -> None:
    tiles = matrix(dac, read_noise={}).tiles()
    assert tiles.panels is not None
    out, ids = np.empty((37, 70), np.float32), np.arange(37, dtype=np.int64)
    product = tile_engine.TileProduct(
        tiles.bounds, tiles.panels, tiles.inverse, tiles.scale, dac_max_code=127, adc_max_code=127, noise=tiles.noise,
        curve=tiles.adc_curve, reads=tiles.reads, constant=tiles.constant, dac_inl=tiles.dac_inl, using=engine,
    )  # fmt: skip
    product(X, out, ids)
    assert_bits(out, tile_matmul_reference(X, tiles, ids))


def test_a_fine_adc_brings_the_slices_back_together() -> None:
    fine = {"bits": 16, "full_scale": {"rule": "lambda", "lambda_": 30.0}}
    truth = tile_matmul(X, matrix({}, False).tiles()).astype(np.float64)
    for bits in (1, 2, 4):
        y = tile_matmul(X, matrix({"mode": "bit_serial", "slice_bits": bits}, fine).tiles())
        assert np.abs(y - truth).max() < 2e-3 * np.abs(truth).max()


def whole_numbers(dac: dict[str, Any], adc_max_code: int) -> TiledMatrix:
    """Tiles of small whole weights whose ADC code is the sum itself, one code a unit."""
    grid = ((np.arange(40 * 64) * 7919) % 15 - 7).astype(np.int16).reshape(40, 64)
    bounds = np.array([0, 40, 64])
    packed = panels.empty_panels(40, bounds, 2)
    panels.pack_grid(grid, bounds, panels.quad_starts(bounds), 0, packed)
    ones = np.ones((2, 40), np.float32)
    hardware = Hardware.load({"device": "ideal", "dac": dac, "adc": ADC})
    tiles = TiledMatrix(bounds, ones, ones, packed, dac_max_code=127, adc_max_code=adc_max_code, reads=hardware.reads,
                        input_range=np.full(2, 127, np.float32))  # fmt: skip
    if hardware.reads.parts == OFFSET:
        tiles = replace(tiles, constant=offset_constant(tiles).astype(np.float32))
    return tiles


WHOLE = ((np.arange(9 * 64) * 104_729) % 255 - 127).astype(np.float32).reshape(9, 64)


@pytest.mark.parametrize("dac", MODES, ids=str)
def test_an_adc_that_neither_rounds_nor_clips_gives_the_amplitudes_exactly(dac: dict[str, Any]) -> None:
    """Every read is converted by itself, to whole numbers below 2^24: their digital sum is that of one read."""
    expected = tile_matmul(WHOLE, whole_numbers({}, 1 << 22))
    assert np.abs(expected).max() > 127**2
    assert_bits(tile_matmul(WHOLE, whole_numbers(dac, 1 << 22)), expected)


def test_each_phase_clips_by_itself() -> None:
    """What is positive and what is negative of a sum, each cut at ±n, and their difference."""
    n = 1000
    tiles = whole_numbers({"mode": "multi_phase"}, n)
    expected = np.zeros((9, 40))
    for t, (high, low) in enumerate(tiles.planes()):
        w = 256 * high.astype(int) + low + 128
        x = WHOLE[:, tiles.bounds[t] : tiles.bounds[t + 1]].astype(int)
        plus, minus = np.maximum(x, 0) @ w.T, np.maximum(-x, 0) @ w.T
        assert (np.abs(plus) > n).any()
        expected += 127 * (np.clip(plus, -n, n) - np.clip(minus, -n, n))
    assert_bits(tile_matmul(WHOLE, tiles), expected.astype(np.float32))
    assert not np.array_equal(expected, tile_matmul(WHOLE, whole_numbers({}, n)))


def test_one_phase_is_a_pulse_width_and_two_are_not() -> None:
    noise = {"read_noise": {"sigma": 0.05}}
    ids = row_ids(np.arange(37), 0)
    one, two, pulse = (
        tile_matmul(X, matrix(dac, **noise).tiles(), ids)
        for dac in ({"mode": "multi_phase", "phases": 1}, {"mode": "multi_phase"}, {"mode": "pulse_width"})
    )
    assert_bits(one, pulse)
    assert not np.array_equal(two, pulse)


def test_four_phases_are_two_of_each_column_of_a_pair() -> None:
    """With digital subtraction every conversion is of one sign of inputs and one polarity: unsigned, four a product."""
    four = {"mode": "multi_phase", "phases": 4}
    m = matrix(four, weights={"subtract": "digital"}, read_noise={})
    tiles, ids = m.tiles(), row_ids(np.arange(37), 0)
    assert len(tiles.parts) == 1
    for part in (tiles, *tiles.parts):
        assert part.adc_unsigned
        assert part.adc_max_code == 255
        assert part.reads.times == 2
        assert all(value.min() >= 0 for value, _ in tile_sums(X, part))
    assert_bits(tile_matmul(X, tiles, ids), tile_matmul_reference(X, tiles, ids))
    fine = {"bits": 16, "full_scale": {"rule": "lambda", "lambda_": 60.0}}
    truth = tile_matmul(X, matrix({}, False).tiles())
    error = tile_matmul(X, matrix(four, fine, weights={"subtract": "digital"}).tiles()) - truth
    assert np.abs(error).max() < 3e-3 * np.abs(truth).max()


def test_the_constant_of_offset_codes() -> None:
    """2^(b-1)·Σw in codes of each column's own converter, gain included; beyond rounding nothing of it is left."""
    errors = {"gain_sigma": 0.05}
    tiles = matrix({"mode": "bit_serial", "coding": "offset"}, {**ADC, "bits": 14, "errors": errors}).tiles()
    assert tiles.reads.times == 8
    assert tiles.constant is not None
    for t, (high, low) in enumerate(tiles.planes()):
        w = 256 * high.astype(np.int64) + low + 128
        np.testing.assert_allclose(
            tiles.constant[t], 128 * w.sum(axis=1) * tiles.inverse[t].astype(float), rtol=1e-6
        )
    exact = matrix({"mode": "bit_serial", "coding": "offset"}, {**ADC, "bits": 14}).tiles()
    one = np.zeros((1, 100), np.float32)
    one[0, 0] = 1
    off = tile_matmul(one, exact) - tile_matmul(one, matrix({}, False).tiles())
    assert np.abs(off).max() < 255 / 2 * exact.scale[0].max(), "half a code a read"


def test_what_calibration_sees_of_slices() -> None:
    """Sums of every read, and factors that put the whole product together again."""
    tiles = matrix({"mode": "bit_serial", "slice_bits": 2}).tiles()
    whole = np.zeros((37, 70))
    for t, (value, gain) in enumerate(tile_sums(X, tiles)):
        assert value.shape == (4 * 37, 70)
        part = value.astype(np.float64) * tiles.inverse[t] * tiles.scale[t] * gain[:, None]
        whole += part.reshape(4, 37, 70).sum(axis=0)
    np.testing.assert_allclose(whole, tile_matmul(X, matrix({}, False).tiles()), rtol=0, atol=1e-3)
    fitted = MatrixRange(full_scale=np.full((4, 1), 8.0, np.float32))
    m = replace(matrix({"mode": "bit_serial"}, {"bits": 8}), ranges=fitted)
    assert_bits(tile_matmul(X, m.tiles()), tile_matmul(X, matrix({"mode": "bit_serial"}).tiles()))


@pytest.mark.parametrize(
    ("dac", "spectrum", "plus", "minus"),
    [({}, "white", 64**2, 64**2), ({"mode": "pulse_width"}, "white", 127 * 64, 127 * 64),
     ({"mode": "pulse_width"}, "slow", 64**2, 64**2), ({"mode": "multi_phase"}, "white", 127 * 64, 127 * 64),
     ({"mode": "multi_phase"}, "slow", 64**2, 64**2),
     ({"mode": "bit_serial", "accumulate": "analog"}, "white", 64**2, 64**2),
     ({"mode": "bit_serial"}, "white", 64**2, 64**2),
     ({"mode": "bit_serial", "coding": "offset"}, "white", 128**2 + 64**2, 64**2)],
)  # fmt: skip
def test_noise_of_the_modes(
    dac: dict[str, Any], spectrum: str, plus: int, minus: int, ledger: AlphaLedger
) -> None:
    """m(q) of inputs of code 64 and -64 in turn: one bit of the seven, so a slice has its noise alone; pulse widths
    have |q|·127. A phase draws afresh, so variances add up over both, though their codes are subtracted. Offset codes
    drive 192, two bits, and 64.
    """
    cols, k, n = 16, 32, 4000
    w, sigma = gaussian((cols, k), 3), 0.05
    wide = {"bits": 16, "full_scale": {"rule": "lambda", "lambda_": 60.0}}
    noise = {"read_noise": {"sigma": sigma, "spectrum": spectrum}}
    one = MatrixRange(input_range=np.ones(1, np.float32))
    m = replace(matrix({**dac, "range": "max"}, wide, w, **noise), ranges=one)
    x = np.full((n, k), 64 / 127, np.float32)
    x[:, 1::2] *= -1
    y = tile_matmul(x, m.tiles(), row_ids(np.arange(n), 0)).astype(np.float64)
    quiet = replace(matrix({"range": "max"}, False, w), ranges=one)
    cells, weights = m.cells(), np.where(x[0] > 0, plus, minus) / 127**2
    variance = sigma**2 * (cells.total * weights).sum(1) * cells.column_max[0] ** 2
    z = (y - tile_matmul(x[:1], quiet.tiles())) / np.sqrt(variance)
    assert_mean_normal(z.ravel(), mean=0, sigma=1, alpha=ledger.spend("input modes: mean"))
    assert_variance(z.ravel(), sigma=1, mean=0, alpha=ledger.spend("input modes: variance"))
    assert_uncorrelated(z[:-1, 0], z[1:, 0], alpha=ledger.spend("input modes: correlation"))


def test_modes_that_cannot_be_simulated_are_refused() -> None:
    with pytest.raises(BadInput, match="integer path"):
        Hardware.load({"device": "ideal", "dac": {"bits": 12, "mode": "bit_serial"}})
    for tables, words in (
        ({"dac": {"bits": 12, "mode": "multi_phase"}, "adc": ADC}, "several phases"),
        ({"dac": {"mode": "multi_phase"}, "adc": ADC, "tile": {"weight_grid": "float32"}}, "integer path"),
        ({"dac": {"mode": "multi_phase", "phases": 3}}, "phases"),
        ({"dac": {"mode": "bit_serial", "coding": "offset", "accumulate": "analog"}}, "converts once"),
        ({"dac": {"mode": "bit_serial", "errors": {"inl_sigma_lsb": 1}}}, "whole codes"),
        ({"dac": {"bits": 12, "errors": {"inl_sigma_lsb": 1}}}, "nonlinearity"),
    ):
        with pytest.raises(BadInput, match=words):
            Hardware.load({"device": "ideal", **tables})
    with pytest.raises(BadInput, match="slice_bits"):
        Hardware.load({"device": "ideal", "dac": {"mode": "bit_serial", "slice_bits": 8}})


def test_the_gpu_refuses_what_it_does_not_compute() -> None:
    """Before anything is moved there, so that no result is ever of another chip than the one described."""
    sar = {**ADC, "kind": "sar", "errors": {"unit_cap_sigma": 0.01}}
    check_for_device(matrix({}).tiles())
    for m in (
        matrix({"mode": "multi_phase"}), matrix({"mode": "bit_serial", "coding": "offset"}),
        matrix({"errors": {"inl_sigma_lsb": 1.0}}, False), matrix({}, sar),
        matrix({}, {**ADC, "kind": "ramp", "errors": {"offset_sigma_lsb": 1.0}}),
        matrix({}, weights={"subtract": "digital"}), matrix({"bits": 12}),
    ):  # fmt: skip
        with pytest.raises(BadInput, match="GPU kernels"):
            check_for_device(m.tiles())
    tiles = matrix({}).tiles()
    for changes in (
        {"adc_unsigned": True},
        {"capacitors": np.ones((4, 8, 70), np.float32)},
        {"dac_inl": True},
    ):
        with pytest.raises(BadInput, match="GPU kernels"):
            check_for_device(replace(tiles, **changes))  # type: ignore[arg-type]
