"""Every engine of this machine makes the bits of plain NumPy, with and without read noise, in any shape."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.execute import tile_matmul, tile_matmul_reference
from aimc_sim.hardware import Hardware
from aimc_sim.kernels import parallel, tile_engine, tile_product
from aimc_sim.kernels.reads import OFFSET, POLARITY
from aimc_sim.kernels.tile_engine import AdcCurve, Noise, Reads, TileProduct
from aimc_sim.randomness import key_of
from aimc_sim.testing import assert_bits
from aimc_sim.tiles.matrix import TiledMatrix
from helpers import gaussian

ENGINES = tile_engine.available()
ROOT = Path(__file__).parents[2]


def tiles_of(n: int, k: int, rows: int | None, read_noise: bool = False) -> TiledMatrix:
    hardware = Hardware.load({
        "device": "pcm-hermes-2", "tile": {} if rows is None else {"rows": rows}, "dac": {},
        "adc": {"full_scale": {"rule": "lambda", "lambda_": 8.0}}, "read_noise": {} if read_noise else False,
    })  # fmt: skip
    return CellMatrix(gaussian((n, k), 1), hardware, seed=9, t_s=60.0).tiles()


def through(engine: int, x: np.ndarray, tiles: TiledMatrix, ids: np.ndarray) -> np.ndarray:
    out = np.full((len(x), tiles.cols), np.nan, np.float32)
    assert tiles.panels is not None
    product = TileProduct(
        tiles.bounds, tiles.panels, tiles.inverse, tiles.scale, dac_max_code=tiles.dac_max_code,
        adc_max_code=tiles.adc_max_code, noise=tiles.noise, curve=tiles.adc_curve, reads=tiles.reads,
        unsigned=tiles.adc_unsigned, capacitors=tiles.capacitors, constant=tiles.constant, dac_inl=tiles.dac_inl,
        using=engine,
    )  # fmt: skip
    product(x, out, ids)
    return out


@pytest.mark.parametrize("engine", ENGINES, ids=[tile_product.NAMES[e] for e in ENGINES])
@pytest.mark.parametrize("read_noise", [False, True])
@pytest.mark.parametrize(
    ("n", "k", "rows"), [(1, 1, None), (31, 70, 33), (96, 130, 64), (100, 520, 512), (65, 9, 1)]
)
def test_engines_equal_plain_numpy(engine: int, read_noise: bool, n: int, k: int, rows: int | None) -> None:
    tiles = tiles_of(n, k, rows, read_noise)
    for tokens in (1, 2, 3, 7, 8, 16, 17, 33, 70):
        x, ids = gaussian((tokens, k), tokens), np.arange(tokens, dtype=np.int64) * 2**33 - 5
        expected = tile_matmul_reference(x, tiles, ids)
        assert_bits(through(engine, x, tiles, ids), expected)


@pytest.mark.parametrize("engine", ENGINES, ids=[tile_product.NAMES[e] for e in ENGINES])
@pytest.mark.parametrize("floor", [None, 0.25])
@pytest.mark.parametrize("read_noise", [False, True])
def test_converters_that_err_equal_plain_numpy(engine: int, floor: float | None, read_noise: bool) -> None:
    tiles = tiles_of(100, 130, 64, read_noise)
    shape = tiles.scale.shape
    errors = AdcCurve(*(scale * gaussian(shape, seed) for seed, scale in ((5, 2), (6, 0.05), (7, 1e-6))))
    noise = tiles.noise
    if floor is not None:
        noise = (noise or Noise(key_of(3), 77))._replace(floor=floor)
    tiles = replace(tiles, adc_curve=errors, noise=noise)
    x, ids = gaussian((37, 130), 8), np.arange(37, dtype=np.int64) * 256
    assert_bits(through(engine, x, tiles, ids), tile_matmul_reference(x, tiles, ids))


def capacitors(tiles: TiledMatrix, bits: int, sigma: float) -> np.ndarray:
    units = 2.0 ** np.arange(bits)[None, :, None]
    z = gaussian((len(tiles.scale) * bits, tiles.cols), 31).reshape(-1, bits, tiles.cols)
    return (units + sigma * np.sqrt(units) * z).astype(np.float32)


@pytest.mark.parametrize("engine", ENGINES, ids=[tile_product.NAMES[e] for e in ENGINES])
@pytest.mark.parametrize("non_ideal", [False, True])
@pytest.mark.parametrize("read_noise", [False, True])
@pytest.mark.parametrize("unsigned", [False, True])
def test_kinds_of_adc_equal_plain_numpy(
    engine: int, non_ideal: bool, read_noise: bool, unsigned: bool
) -> None:
    """Unsigned codes, and a search through capacitors: ideal ones change no bit, others some."""
    tiles = tiles_of(100, 130, 64, read_noise)
    tiles = replace(tiles, adc_unsigned=unsigned, adc_max_code=255 if unsigned else 127)
    if non_ideal:
        errors = ((5, 2), (6, 0.05), (7, 1e-6))
        tiles = replace(tiles, adc_curve=AdcCurve(*(s * gaussian(tiles.scale.shape, i) for i, s in errors)))
    x, ids = gaussian((37, 130), 8), np.arange(37, dtype=np.int64) * 256
    rounded = through(engine, x, tiles, ids)
    assert_bits(rounded, tile_matmul_reference(x, tiles, ids))
    assert not unsigned or rounded.min() >= 0
    assert_bits(through(engine, x, replace(tiles, capacitors=capacitors(tiles, 8, 0)), ids), rounded)
    searched = replace(tiles, capacitors=capacitors(tiles, 8, 0.2))
    assert_bits(through(engine, x, searched, ids), tile_matmul_reference(x, searched, ids))
    assert not np.array_equal(tile_matmul(x, searched, ids), rounded)


@pytest.mark.parametrize("engine", ENGINES, ids=[tile_product.NAMES[e] for e in ENGINES])
@pytest.mark.parametrize(
    "reads", [Reads(2, 0, 1, POLARITY), Reads(8, 1, 0, OFFSET), Reads(2, 7, 0, OFFSET)], ids=str
)
def test_parts_of_codes_equal_plain_numpy(engine: int, reads: Reads) -> None:
    for unsigned in (False, True):
        tiles = replace(tiles_of(100, 130, 64, True), reads=reads, adc_unsigned=unsigned)
        tiles = replace(tiles, constant=3 * gaussian(tiles.scale.shape, 9))
        for tokens in (1, 3, 37):
            x, ids = gaussian((tokens, 130), 8), np.arange(tokens, dtype=np.int64) * 256
            assert_bits(through(engine, x, tiles, ids), tile_matmul_reference(x, tiles, ids))


def test_arrays_that_do_not_fit_are_refused() -> None:
    """Compiled code would read beyond them."""
    tiles = tiles_of(40, 64, 32)
    for changes, words in (
        ({"capacitors": capacitors(tiles, 7, 0.0)}, "capacitors"),
        ({"constant": np.zeros((1, 40), np.float32)}, "constant"),
        ({"dac_inl": True}, "panels"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(tiles, **changes).product  # noqa: B018


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_long_batches_through_any_number_of_threads(threads: int) -> None:
    """Several blocks of tokens, several pieces of panels, more threads than processors."""
    tiles, x = tiles_of(300, 200, 64), gaussian((1100, 200), 3)
    try:
        parallel.set_num_threads(threads)
        assert_bits(tile_matmul(x, tiles), tile_matmul_reference(x, tiles))
    finally:
        parallel.set_num_threads(None)


def test_an_engine_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    fastest = ENGINES[0]
    monkeypatch.setattr(tile_engine, "passes", lambda engine: engine != fastest)
    tile_engine.number.cache_clear()
    try:
        assert tile_engine.number() == (ENGINES[1] if len(ENGINES) > 1 else tile_product.PLAIN)
    finally:
        monkeypatch.undo()
        tile_engine.number.cache_clear()
    assert tile_engine.name() in tile_product.NAMES


@pytest.mark.parametrize("engine", ENGINES, ids=[tile_product.NAMES[e] for e in ENGINES])
def test_the_known_answer_is_known(engine: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tile_engine.passes(engine)
    right = tile_engine._products

    def one_off(*args: int) -> None:
        right(*args)
        np.frombuffer((__import__("ctypes").c_int32 * 1).from_address(args[-2]), np.int32)[0] += 1

    monkeypatch.setattr(tile_engine, "_products", one_off)
    assert not tile_engine.passes(engine)


def test_the_matrix_unit_is_left_as_it_was_found() -> None:
    """torch's own bfloat16 and int8 products use the same registers, in the same threads."""
    a = torch.from_numpy(gaussian((64, 256), 1)).bfloat16()
    codes = (torch.arange(64 * 256) % 255 - 127).reshape(64, 256).to(torch.int8)
    expected, exact = a @ a.T, torch._int_mm(codes, codes.T)
    tiles, x = tiles_of(100, 256, 64), gaussian((64, 256), 2)
    truth = tile_matmul_reference(x, tiles)
    for _ in range(5):
        assert_bits(tile_matmul(x, tiles), truth)
        assert torch.equal(a @ a.T, expected)
        assert torch.equal(torch._int_mm(codes, codes.T), exact)


def test_copies_have_products_of_their_own() -> None:
    """A copy must not read the memory of its original, which may be gone."""
    tiles, x = tiles_of(40, 64, 32, True), gaussian((3, 64), 2)
    ids = np.arange(3)
    expected = tile_matmul(x, tiles, ids)
    for copied in (copy.copy(tiles), copy.deepcopy(tiles), pickle.loads(pickle.dumps(tiles))):
        assert "product" not in vars(copied)
        assert_bits(tile_matmul(x, copied, ids), expected)
    with pytest.raises(TypeError, match="cannot be copied"):
        pickle.dumps(tiles.product)


def test_many_python_threads_at_once() -> None:
    tiles = [tiles_of(100 + 10 * i, 200, 64) for i in range(3)]
    inputs = [gaussian((1 + 13 * i, 200), i) for i in range(8)]
    jobs = [(x, m) for x in inputs for m in tiles] * 4
    expected = [tile_matmul_reference(x, m) for x, m in jobs[: len(inputs) * 3]] * 4
    with ThreadPoolExecutor(8) as pool:
        for found, truth in zip(pool.map(lambda job: tile_matmul(*job), jobs), expected, strict=True):
            assert_bits(found, truth)


def test_an_older_processor_makes_the_same_bits() -> None:
    """Compiled for one with AVX2: the plain engine, and the bits of this one's fastest."""
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from tests.kernels.test_tile_engine import gaussian, tiles_of, tile_matmul, tile_engine\n"
        "import hashlib\n"
        "tiles = tiles_of(70, 130, 64)\n"
        "print(tile_engine.name(), hashlib.sha256(tile_matmul(gaussian((9, 130), 2), tiles).tobytes()).hexdigest())"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256(tile_matmul(gaussian((9, 130), 2), tiles_of(70, 130, 64)).tobytes()).hexdigest()
    assert done.stdout.split() == ["plain", digest]


def test_products_do_not_share_what_they_write() -> None:
    """A view of the panels that somebody changes is another matrix: nothing is cached by shape."""
    tiles, x = tiles_of(40, 64, None), gaussian((3, 64), 2)
    before = tile_matmul(x, tiles)
    assert tiles.panels is not None
    changed = tiles.panels.copy()
    changed[0] ^= 128
    other = replace(tiles, panels=changed)
    assert not np.array_equal(tile_matmul(x, other), before)
    assert_bits(tile_matmul(x, tiles), before)
    assert_bits(tile_matmul(x, other), tile_matmul_reference(x, other))
