"""Read noise: exact against NumPy, keyed by rows so that batches change nothing, with the variance of its cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aimc_sim import BadInput, Hardware, WeightFile
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.execute import tile_matmul, tile_matmul_reference
from aimc_sim.kernels import parallel
from aimc_sim.kernels.read_noise import to_steps_reference
from aimc_sim.kernels.reads import SQUARE, noise_weights_reference
from aimc_sim.randomness import row_ids
from aimc_sim.testing import (
    AlphaLedger,
    assert_bits,
    assert_mean_normal,
    assert_uncorrelated,
    assert_variance,
)
from aimc_sim.tiles.matrix import TiledMatrix
from aimc_sim.torch_bridge import load_model, sequence_names
from aimc_sim.torch_bridge.kv_cache import forward_cached
from helpers import gaussian

SIGMA = 0.05
LAMBDA = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 8.0}}


def matrix(w: np.ndarray, rows: int | None = None, adc: object = False, sigma: float = SIGMA) -> CellMatrix:
    tile = {} if rows is None else {"rows": rows}
    hardware = Hardware.load(
        {"device": "pcm-hermes-2", "tile": tile, "dac": {}, "adc": adc, "read_noise": {"sigma": sigma}}
    )
    return CellMatrix(w, hardware, seed=4, ordinal=3)


def tiles_of(cols: int, k: int, rows: int | None = None, adc: object = False) -> TiledMatrix:
    return matrix(gaussian((cols, k), 1), rows, adc).tiles()


@pytest.mark.parametrize(("cols", "k", "rows"), [(37, 200, 64), (64, 130, None), (1100, 70, 32), (1, 5, 2)])
@pytest.mark.parametrize("adc", [False, LAMBDA])
def test_fast_path_equals_plain_numpy(cols: int, k: int, rows: int | None, adc: object) -> None:
    tiles, x = tiles_of(cols, k, rows, adc), gaussian((6, k), 2)
    ids = row_ids([0, 0, 5, 2**31 - 1, 7, 7], [0, 1, 2**24 - 1, 3, 3, 4], draw=255)
    assert_bits(tile_matmul(x, tiles, ids), tile_matmul_reference(x, tiles, ids))
    assert_bits(tile_matmul(x[:1], tiles, ids[:1]), tile_matmul(x, tiles, ids)[:1])


def test_batches_threads_and_order_change_nothing() -> None:
    tiles, x, ids = tiles_of(300, 150, 64, LAMBDA), gaussian((40, 150), 2), row_ids(np.arange(40), 9)
    whole = tile_matmul(x, tiles, ids)
    assert_bits(
        np.concatenate([tile_matmul(x[a:b], tiles, ids[a:b]) for a, b in ((0, 1), (1, 9), (9, 40))]), whole
    )
    assert_bits(tile_matmul(x[::-1], tiles, ids[::-1])[::-1].copy(), whole)
    try:
        for threads in (1, 3):
            parallel.set_num_threads(threads)
            assert_bits(tile_matmul(x, tiles, ids), whole)
    finally:
        parallel.set_num_threads(None)


def test_variance_mean_and_independence_of_products(ledger: AlphaLedger) -> None:
    """One product drawn 4000 times: the variance of every output is Σ over tiles of Σ σ²·(G⁺ + G⁻)·q²."""
    cols, k, rows = 64, 96, 32
    m, x = matrix(gaussian((cols, k), 1), rows), gaussian((1, k), 2)
    tiles, cells = m.tiles(), m.cells()
    draws = tile_matmul(np.repeat(x, 4000, axis=0), tiles, row_ids(np.arange(4000), 0)).astype(np.float64)
    quiet = tile_matmul(x, matrix(m.w, rows, sigma=0.0).tiles(), row_ids(0, np.arange(1))).astype(np.float64)
    variance = np.zeros(cols)
    for t, a in enumerate(range(0, k, rows)):
        part = slice(a, a + rows)
        beta = float(np.abs(x[0, part]).max())
        q = np.rint(x[0, part].astype(np.float64) * 127 / beta) / 127
        total = cells.total[:, part].astype(np.float64)
        variance += SIGMA**2 * (total * q**2).sum(1) * (cells.column_max[t].astype(np.float64) * beta) ** 2
    z = (draws - quiet) / np.sqrt(variance)
    assert_mean_normal(z.ravel(), mean=0, sigma=1, alpha=ledger.spend("read noise: mean"))
    record = assert_variance(z.ravel(), sigma=1, mean=0, alpha=ledger.spend("read noise: variance"))
    assert record.detectable < 0.02
    assert_uncorrelated(z[:, 0], z[:, 1], alpha=ledger.spend("read noise: correlation"))
    assert_uncorrelated(z[:-1, 0], z[1:, 0], alpha=ledger.spend("read noise: correlation"))


def test_without_sigma_it_is_the_quiet_product_bit_for_bit() -> None:
    x, ids = gaussian((5, 150), 2), row_ids(np.arange(5), 0)
    quiet = CellMatrix(
        gaussian((70, 150), 1),
        Hardware.load({"device": "pcm-hermes-2", "tile": {"rows": 64}, "dac": {}, "adc": LAMBDA}),
        seed=4,
        ordinal=3,
    )
    assert_bits(
        tile_matmul(x, matrix(quiet.w, 64, LAMBDA, sigma=0.0).tiles(), ids), tile_matmul(x, quiet.tiles())
    )


@pytest.mark.parametrize("share", ["equal", "fill"])
@pytest.mark.parametrize("adc", [False, LAMBDA])
def test_two_devices_a_polarity_halve_the_variance_to_the_bit(share: str, adc: object) -> None:
    """Ideal cells, so that the mean of the two conducts what one does: only their number is left."""
    tables = {"device": "ideal", "tile": {"rows": 64}, "dac": {}, "adc": adc, "read_noise": {"sigma": SIGMA}}
    one, two = (
        CellMatrix(gaussian((37, 150), 1), Hardware.load({**tables, "weights": weights}), seed=4).tiles()
        for weights in ({"bits": 8}, {"bits": 8, "devices": 2, "share": share})
    )
    assert one.noise is not None
    assert two.noise is not None
    assert_bits(two.noise.steps, one.noise.steps)
    assert_bits(two.noise.scale, one.noise.scale / np.float32(2))
    assert (one.noise.scale > 0).all()


def test_the_grids_of_the_variance() -> None:
    codes = np.arange(-127, 128).astype(np.int8)
    high, low = noise_weights_reference(codes, SQUARE, 127, 0)
    assert_bits(128 * high.astype(np.int64) + low, codes.astype(np.int64) ** 2)
    steps, peak = to_steps_reference(np.abs(gaussian((4, 50), 3)))
    assert steps.min() >= 0
    assert (steps.max(1) == 127).all()
    assert (peak > 0).all()


def test_what_read_noise_needs() -> None:
    tiles, x = tiles_of(10, 20), gaussian((3, 20), 2)
    for ids in (None, np.zeros(2, np.int64)):
        with pytest.raises(BadInput, match="row_ids"):
            tile_matmul(x, tiles, ids)
    with pytest.raises(BadInput, match="conductance domain"):
        Hardware.load({"device": "pcm-afm", "dac": {}, "read_noise": {}})
    with pytest.raises(BadInput, match="integer path"):
        Hardware.load({"device": "pcm-hermes-2", "read_noise": {}})
    for bad in ((-1, 0), (2**31, 0), (0, 2**24)):
        with pytest.raises(BadInput, match="row id has"):
            row_ids(*bad)


@pytest.fixture(scope="module")
def noisy(tiny_weights: Path) -> torch.nn.Module:
    hardware = Hardware.load(
        {**Hardware.load("hermes-256").model_dump(mode="json"), "read_noise": {"sigma": SIGMA}}
    )
    return load_model(WeightFile(tiny_weights), hardware=hardware, seed=2)


def logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(input_ids=ids, use_cache=False).logits)


def test_a_token_keeps_its_noise_whatever_the_batch(noisy: torch.nn.Module) -> None:
    ids = (torch.arange(4 * 24).reshape(4, 24) * 31 + 7) % 256
    whole = logits(noisy, ids)
    with sequence_names(noisy, [2, 3]):
        assert torch.equal(logits(noisy, ids[2:]), whole[2:])
    with sequence_names(noisy, [3, 2, 1, 0]):
        assert torch.equal(logits(noisy, ids.flip(0)).flip(0), whole)
    with sequence_names(noisy, range(4), draw=1):
        assert not torch.equal(logits(noisy, ids), whole)
    same = torch.cat([ids[:1], ids[:1]])
    two = logits(noisy, same)
    assert not torch.equal(two[0], two[1]), "two sequences of equal text must not share their noise"


def test_decoding_with_a_cache_draws_what_prefill_draws(noisy: torch.nn.Module) -> None:
    ids = (torch.arange(24).reshape(1, 24) * 31 + 7) % 256
    whole = logits(noisy, ids)
    with torch.no_grad():
        first, cache = forward_cached(noisy, ids[:, :16])
        rest, _ = forward_cached(noisy, ids[:, 16:], cache)
        last = noisy(input_ids=ids, use_cache=False, logits_to_keep=1)
    found = torch.cat([first, rest], dim=1)
    assert float((found - whole).norm() / whole.norm()) < 0.01
    assert torch.equal(last.logits[:, -1], whole[:, -1])
