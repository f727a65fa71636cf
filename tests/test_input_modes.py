"""Ways to read an input code: slices make the code, an ideal ADC cannot tell them apart, noise follows each mode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aimc_sim import BadInput, Hardware
from aimc_sim.cell_matrix import CellMatrix, MatrixRange
from aimc_sim.execute import tile_matmul, tile_matmul_reference, tile_sums
from aimc_sim.kernels import reads, tile_engine
from aimc_sim.kernels.normal import normals
from aimc_sim.kernels.reads import LINEAR, SLICED, SQUARE
from aimc_sim.kernels.tile_product import NAMES
from aimc_sim.randomness import key_of, row_ids
from aimc_sim.testing import (
    AlphaLedger,
    assert_bits,
    assert_mean_normal,
    assert_uncorrelated,
    assert_variance,
)

ADC = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 8.0}}
CODES = np.arange(-127, 128).astype(np.int8)
MODES: list[dict[str, Any]] = [
    {"mode": "pulse_width"},
    *({"mode": "bit_serial", "slice_bits": s, "accumulate": a} for s in (1, 2, 3, 7) for a in ("digital", "analog")),
]  # fmt: skip


def gaussian(shape: tuple[int, int], seed: int) -> np.ndarray:
    counter = np.zeros((-(-shape[0] * shape[1] // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    return normals(counter, key_of(seed)).ravel()[: shape[0] * shape[1]].reshape(shape)


W, X = gaussian((70, 100), 1), gaussian((37, 100), 2)


def matrix(dac: dict[str, Any], adc: object = ADC, w: np.ndarray = W, **tables: Any) -> CellMatrix:
    data = {"device": "pcm-hermes-2", "tile": {"rows": 32}, "dac": dac, "adc": adc, **tables}
    return CellMatrix(w, Hardware.load(data), seed=4, ordinal=3)


@pytest.mark.parametrize("levels", [1, 7, 127])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 7])
def test_slices_make_the_code(levels: int, bits: int) -> None:
    codes = CODES[np.abs(CODES) <= levels]
    count = reads.slice_count(levels, bits)
    parts = reads.slices_reference(codes, bits, count)
    weights = 2 ** (bits * np.arange(count))
    assert_bits((weights[:, None] * parts.astype(np.int64)).sum(axis=0), codes.astype(np.int64))
    assert np.abs(parts).max() < 2**bits
    buffer = np.zeros(count * codes.size, np.int8)
    buffer[: codes.size], sums = codes, np.empty(count, np.int32)
    reads.slice_codes(buffer, 0, codes.size, bits, count, sums)
    assert_bits(buffer.reshape(count, -1), parts)
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
    assert_bits(tile_matmul(X, matrix(dac, False).tiles()), tile_matmul(X, matrix({}, False).tiles()))


def test_one_slice_of_all_bits_is_an_amplitude() -> None:
    whole = {"mode": "bit_serial", "slice_bits": 7}
    assert_bits(tile_matmul(X, matrix(whole).tiles()), tile_matmul(X, matrix({}).tiles()))


@pytest.mark.parametrize("engine", tile_engine.available(), ids=[NAMES[e] for e in tile_engine.available()])
def test_slices_on_every_engine(engine: int) -> None:
    tiles = matrix({"mode": "bit_serial"}, read_noise={}).tiles()
    assert tiles.panels is not None
    out, ids = np.empty((37, 70), np.float32), np.arange(37, dtype=np.int64)
    product = tile_engine.TileProduct(
        tiles.bounds, tiles.panels, tiles.inverse, tiles.scale, dac_levels=127, adc_levels=127, noise=tiles.noise,
        reads=tiles.reads, using=engine,
    )  # fmt: skip
    product(X, out, ids)
    assert_bits(out, tile_matmul_reference(X, tiles, ids))


def test_a_fine_adc_brings_the_slices_back_together() -> None:
    fine = {"bits": 16, "full_scale": {"rule": "lambda", "lambda_": 30.0}}
    truth = tile_matmul(X, matrix({}, False).tiles()).astype(np.float64)
    for bits in (1, 2, 4):
        y = tile_matmul(X, matrix({"mode": "bit_serial", "slice_bits": bits}, fine).tiles())
        assert np.abs(y - truth).max() < 2e-3 * np.abs(truth).max()


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
    ("dac", "spectrum", "share"),
    [({}, "white", 1.0), ({"mode": "pulse_width"}, "white", 127 / 64), ({"mode": "pulse_width"}, "slow", 1.0),
     ({"mode": "bit_serial", "accumulate": "analog"}, "white", 1.0), ({"mode": "bit_serial"}, "white", 1.0)],
)  # fmt: skip
def test_noise_of_the_modes(dac: dict[str, Any], spectrum: str, share: float, ledger: AlphaLedger) -> None:
    """Inputs of code 64: one bit of the seven, so a slice has its noise alone; pulse widths have |q|·127 of it."""
    cols, k, n = 16, 32, 4000
    w, sigma = gaussian((cols, k), 3), 0.05
    wide = {"bits": 16, "full_scale": {"rule": "lambda", "lambda_": 60.0}}
    noise = {"read_noise": {"sigma": sigma, "spectrum": spectrum}}
    one = MatrixRange(input_range=np.ones(1, np.float32))
    m = replace(matrix({**dac, "range": "max"}, wide, w, **noise), ranges=one)
    x = np.full((n, k), 64 / 127, np.float32)
    y = tile_matmul(x, m.tiles(), row_ids(np.arange(n), 0)).astype(np.float64)
    quiet = replace(matrix({**dac, "range": "max", "mode": "amplitude"}, False, w), ranges=one)
    cells = m.cells()
    variance = sigma**2 * (cells.total * (64 / 127) ** 2).sum(1) * cells.column_max[0] ** 2 * share
    z = (y - tile_matmul(x[:1], quiet.tiles())) / np.sqrt(variance)
    assert_mean_normal(z.ravel(), mean=0, sigma=1, alpha=ledger.spend("input modes: mean"))
    assert_variance(z.ravel(), sigma=1, mean=0, alpha=ledger.spend("input modes: variance"))
    assert_uncorrelated(z[:-1, 0], z[1:, 0], alpha=ledger.spend("input modes: correlation"))


def test_modes_that_cannot_be_simulated_are_refused() -> None:
    with pytest.raises(BadInput, match="integer path"):
        Hardware.load({"device": "ideal", "dac": {"bits": 12, "mode": "bit_serial"}})
    with pytest.raises(BadInput, match="slice_bits"):
        Hardware.load({"device": "ideal", "dac": {"mode": "bit_serial", "slice_bits": 8}})
