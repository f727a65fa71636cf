"""A product through tiles: the fast path equals plain NumPy bit for bit, and converters cost what theory says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.errors import BadInput
from aimc_sim.execute import tile_matmul, tile_matmul_reference, tile_matmul_tensor
from aimc_sim.hardware import Hardware
from aimc_sim.kernels import parallel
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.randomness import key_of
from aimc_sim.testing import assert_bits
from aimc_sim.tiles.channel_transform import ChannelTransform, Permute
from helpers import gaussian

LAMBDA = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 6.0}}


def uniform(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Uniform on (-1, 1)."""
    counter = np.zeros(((shape[0] * shape[1] + 3) // 4, 4), np.uint32)
    counter[:, 0] = np.arange(counter.shape[0])
    words = philox4x32(counter, key_of(seed)).ravel()[: shape[0] * shape[1]]
    return ((words.astype(np.float64) + 0.5) / 2**31 - 1).astype(np.float32).reshape(shape)


def cells(
    w: np.ndarray, ranges: MatrixRange | None = None, device: str = "pcm-hermes-2", **tables: object
) -> CellMatrix:
    hardware = Hardware.load({"device": device, **tables})
    return CellMatrix(w, hardware, seed=9, t_s=0.0, ranges=ranges or MatrixRange())


@pytest.mark.parametrize("rows", [None, 64, 100, 1])
@pytest.mark.parametrize("adc", [LAMBDA, False])
@pytest.mark.parametrize("per", ["tile", "matrix"])
def test_integer_path_equals_plain_numpy(rows: int | None, adc: object, per: str) -> None:
    tile = {} if rows is None else {"rows": rows}
    tiles = cells(
        gaussian((37, 200), 1), tile=tile, dac={"range": {"method": "per_token", "per": per}}, adc=adc
    ).tiles()
    x = gaussian((9, 200), 2)
    x[3] = 0
    assert_bits(tile_matmul(x, tiles), tile_matmul_reference(x, tiles))


def test_results_do_not_depend_on_threads_batch_or_order() -> None:
    tiles = cells(gaussian((300, 500), 3), tile={"rows": 128}, dac={}, adc=LAMBDA).tiles()
    x = gaussian((70, 500), 4)
    whole = tile_matmul(x, tiles)
    assert_bits(np.concatenate([tile_matmul(x[a:b], tiles) for a, b in ((0, 1), (1, 8), (8, 70))]), whole)
    assert_bits(tile_matmul(np.ascontiguousarray(x[::-1]), tiles)[::-1].copy(), whole)
    before = parallel.num_threads()
    try:
        for threads in (1, 3):
            parallel.set_num_threads(threads)
            assert_bits(tile_matmul(x, tiles), whole)
    finally:
        parallel.set_num_threads(before)


def snr_db(y: np.ndarray, truth: np.ndarray) -> float:
    return float(10 * np.log10((truth.astype(float) ** 2).sum() / ((y - truth.astype(float)) ** 2).sum()))


@pytest.mark.parametrize("bits", range(4, 13))
def test_input_converter_follows_theory(bits: int) -> None:
    """Uniform inputs over the full range: step β/n, error step²/12, signal β²/3, so the SNR is 4 n²."""
    w, x = gaussian((64, 512), 5), uniform((256, 512), 6)
    one = MatrixRange(input_range=np.ones(4, np.float32))
    tiles = cells(w, one, "ideal", tile={"rows": 128}, dac={"bits": bits, "range": "max"}).tiles()
    n = 2 ** (bits - 1) - 1
    truth = x.astype(np.float64) @ w.astype(np.float64).T
    assert snr_db(tile_matmul(x, tiles), truth) == pytest.approx(20 * np.log10(2 * n), abs=0.15)


@pytest.mark.parametrize("bits", range(4, 13))
def test_output_converter_follows_theory(bits: int) -> None:
    """Error of each row tile lsb²/12 in full-scale currents, times the column's scale; nothing clips."""
    w, x = gaussian((64, 512), 7), uniform((256, 512), 8)
    scale, rows = 15.0, 128
    ranges = MatrixRange(np.ones(4, np.float32), np.full((4, 1), scale, np.float32))
    tiles = cells(
        w, ranges, "ideal", tile={"rows": rows}, dac={"bits": 8, "range": "max"}, adc={"bits": bits}
    ).tiles()
    no_adc = cells(w, ranges, "ideal", tile={"rows": rows}, dac={"bits": 8, "range": "max"}).tiles()
    lsb = scale / (2 ** (bits - 1) - 1)
    peaks = np.abs(w).reshape(64, 4, rows).max(2).astype(np.float64)
    error = lsb**2 / 12 * (peaks**2).sum(1).mean()
    truth = tile_matmul(x, no_adc).astype(np.float64)
    measured = ((tile_matmul(x, tiles) - truth) ** 2).mean()
    assert 10 * np.log10(measured / error) == pytest.approx(0, abs=0.15)


def test_the_16_bit_grid_costs_next_to_nothing() -> None:
    w, x = gaussian((64, 512), 9), gaussian((64, 512), 10)
    grid = cells(w, device="ideal").tiles()
    exact = cells(w, device="ideal", tile={"weight_grid": "float32"}).tiles()
    truth = x.astype(np.float64) @ w.astype(np.float64).T
    assert snr_db(tile_matmul(x, exact), truth) > 125
    assert 90 < snr_db(tile_matmul(x, grid), truth) < 100


def test_clipping_at_the_adc() -> None:
    w, x = np.ones((3, 10), np.float32), np.ones((2, 10), np.float32)
    tiles = cells(w, device="ideal", dac={}, adc={"full_scale": {"rule": "lambda", "lambda_": 4.0}}).tiles()
    np.testing.assert_allclose(tile_matmul(x, tiles), 4.0, rtol=1e-6)


def test_static_ranges_saturate_and_per_token_ranges_do_not() -> None:
    w, x = np.ones((1, 4), np.float32), np.array([[4.0, 0, 0, 0]], np.float32)
    static = cells(w, MatrixRange(np.full(1, 2.0, np.float32)), "ideal", dac={"range": "max"}).tiles()
    assert tile_matmul(x, static)[0, 0] == pytest.approx(2.0, rel=1e-4)
    assert tile_matmul(x, cells(w, device="ideal", dac={}).tiles())[0, 0] == pytest.approx(4.0, rel=1e-4)


def test_wrong_input_is_refused() -> None:
    tiles = cells(np.ones((3, 10), np.float32), device="ideal").tiles()
    for shape in ((2, 9), (10,), (1, 2, 10)):
        with pytest.raises(BadInput, match="this matrix takes"):
            tile_matmul(np.ones(shape, np.float32), tiles)
    with pytest.raises(BadInput, match="static input range"):
        cells(np.ones((3, 10), np.float32), dac={"range": "std"}).tiles()
    with pytest.raises(BadInput, match="ADC full scale"):
        cells(np.ones((3, 10), np.float32), dac={}, adc={}).tiles()
    with pytest.raises(BadInput, match="a crossbar holds a matrix"):
        cells(np.ones(3, np.float32))


ROADS: dict[str, dict[str, object]] = {
    "the product alone": {"dac": {}, "adc": LAMBDA},
    "read noise": {"dac": {}, "adc": LAMBDA, "read_noise": {}},
    "no converters": {},
    "floats": {"dac": {}, "tile": {"weight_grid": "float32"}},
    "a transform": {"dac": {}, "adc": LAMBDA},
    "further columns": {"dac": {}, "adc": LAMBDA, "weights": {"bits": 8, "cell_bits": 4}},
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("tokens", [0, 1, 9])
def test_tensors_go_the_same_road_as_arrays(road: str, tokens: int) -> None:
    tiles = cells(gaussian((37, 200), 1), **ROADS[road]).tiles()
    if road == "a transform":
        tiles = replace(tiles, transform=ChannelTransform(permute=Permute(order=tuple(range(199, -1, -1)))))
    assert tiles.is_direct == (road in ("the product alone", "read noise"))
    x, ids = gaussian((tokens, 200), 2), np.arange(tokens, dtype=np.int64) << 32
    y = tile_matmul_tensor(torch.from_numpy(x), tiles, ids)
    assert not y.requires_grad
    assert_bits(y.numpy(), tile_matmul(x, tiles, ids))
    learning = torch.from_numpy(x).requires_grad_()
    assert_bits(tile_matmul_tensor(learning, tiles, ids).numpy(), y.numpy())


def test_tensors_are_checked_before_their_memory_is_read() -> None:
    tiles = cells(gaussian((37, 200), 1), dac={}, adc=LAMBDA, read_noise={}).tiles()
    x, ids = torch.from_numpy(gaussian((4, 200), 2)), np.arange(4, dtype=np.int64)
    for wrong in (x[:, :199], x[0], x[None]):
        with pytest.raises(BadInput, match="this matrix takes"):
            tile_matmul_tensor(wrong, tiles, ids)
    for elsewhere in (x.to("meta"), x.to(torch.complex64)):
        with pytest.raises(BadInput, match="in this machine's memory"):
            tile_matmul_tensor(elsewhere, tiles, ids)
    y = tile_matmul_tensor(x, tiles, ids).numpy()
    for same in (x.double(), x.t().contiguous().t(), torch._neg_view(-x)):
        assert_bits(tile_matmul_tensor(same, tiles, ids).numpy(), y)
    for names in (None, ids[:3]):
        with pytest.raises(BadInput, match="row_ids"):
            tile_matmul_tensor(x, tiles, names)


def test_what_is_no_number_comes_out_as_no_number() -> None:
    """Also behind a static range, which would clip it; and a tiny range is silence, not infinity."""
    w, x = gaussian((8, 64), 1), gaussian((3, 64), 2)
    x[1, 5] = np.nan
    static = MatrixRange(input_range=np.full(2, 3.0, np.float32))
    for ranges, rule in ((static, "std"), (MatrixRange(), "per_token")):
        tiles = cells(w, ranges, "ideal", tile={"rows": 32}, dac={"range": rule}, adc=LAMBDA).tiles()
        y = tile_matmul(x, tiles)
        assert np.isnan(y[1]).all()
        assert np.isfinite(y[[0, 2]]).all()
    tiny = cells(w, device="ideal", dac={}).tiles()
    assert (tile_matmul(np.full((1, 64), 1e-38, np.float32), tiny) == 0).all()
