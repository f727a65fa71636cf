"""The distribution of z, once, so that device models need only be tested exactly."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special

from aimc_sim.kernels.normal import normals, normals_of_words
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.randomness import Stream, cell_counters, key_of
from aimc_sim.testing import (
    AlphaLedger,
    assert_binomial,
    assert_distribution,
    assert_mean_normal,
    assert_uncorrelated,
    assert_variance,
)

COUNTERS = 1_000_000  # four normals each
KEY = key_of(20_240_607)


def counters(n: int, word: int = 0, fixed: int = 7) -> npt.NDArray[np.uint32]:
    """n counters (n, 4) that count up in one word; the others hold a constant."""
    counter = np.full((n, 4), fixed, np.uint32)
    counter[:, word] = np.arange(n, dtype=np.uint32)
    return counter


@pytest.fixture(scope="module")
def z() -> npt.NDArray[np.float32]:
    return normals(counters(COUNTERS), KEY)


def box_muller(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """The float64 formula, word for word: u = (w + 1/2)/2^32, log1p of the complement above 1/2."""
    w = words.astype(np.float64)
    u, rest = (w[:, 0::2] + 0.5) / 2**32, (2.0**32 - w[:, 0::2] - 0.5) / 2**32
    radius = np.sqrt(-2 * np.where(u > 0.5, np.log1p(-rest), np.log(u)))
    angle = 2 * np.pi * ((w[:, 1::2] + 0.5) / 2**32)
    out = np.empty(words.shape)
    out[:, 0::2], out[:, 1::2] = radius * np.cos(angle), radius * np.sin(angle)
    return out


def edge_words() -> npt.NDArray[np.uint32]:
    """Words where an implementation breaks first: both ends, the middle, every power of two, quadrant borders."""
    near = {0, 1, 2, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1}
    near |= {(2**bit + step) % 2**32 for bit in range(33) for step in (-1, 0, 1)}
    near |= {(eighth * 2**29 + step) % 2**32 for eighth in range(8) for step in (-2, -1, 0, 1)}
    return np.array(sorted(near), np.uint32)


def test_normals_follow_the_float64_formula_on_edge_words() -> None:
    edges = edge_words()
    pairs = np.array(list(itertools.product(edges, edges)), np.uint32)
    words = np.concatenate([pairs, pairs[::-1]], axis=1)
    assert float(np.abs(normals_of_words(words) - box_muller(words)).max()) <= 2e-6


@pytest.mark.parametrize("start", [0, 2**31 - 50_000, 2**32 - 100_000], ids=["tail", "middle", "near one"])
def test_normals_follow_the_float64_formula_in_the_tail_and_near_one(start: int) -> None:
    radius_words = np.arange(start, start + 100_000, dtype=np.int64).astype(np.uint32)
    words = philox4x32(counters(radius_words.size, fixed=3), KEY)
    words[:, 0] = words[:, 2] = radius_words
    assert float(np.abs(normals_of_words(words) - box_muller(words)).max()) <= 2e-6


def test_normals_follow_the_float64_formula_on_random_words(z: npt.NDArray[np.float32]) -> None:
    words = philox4x32(counters(COUNTERS), KEY)
    assert float(np.abs(z - box_muller(words)).max()) <= 2e-6
    assert z.dtype == np.float32


def test_the_largest_normal_uses_all_32_bits() -> None:
    smallest = np.array([[0, 0, 0, 2**30]], np.uint32)
    assert float(np.abs(normals_of_words(smallest)).max()) == pytest.approx(
        np.sqrt(2 * 33 * np.log(2)), abs=2e-6
    )


def test_moments_and_shape_of_each_lane(z: npt.NDArray[np.float32], ledger: AlphaLedger) -> None:
    for lane in range(4):
        sample = z[:, lane]
        record = assert_mean_normal(sample, mean=0, sigma=1, alpha=ledger.spend("normals: mean of a lane"))
        assert record.detectable < 0.01
        record = assert_variance(sample, sigma=1, mean=0, alpha=ledger.spend("normals: variance of a lane"))
        assert record.detectable < 0.007
        assert_distribution(sample, cdf=special.ndtr, alpha=ledger.spend("normals: distribution of a lane"))


@pytest.mark.parametrize("beyond", [3.0, 4.0, 5.0])
def test_counts_in_the_tails(z: npt.NDArray[np.float32], ledger: AlphaLedger, beyond: float) -> None:
    sample, copies = [z], 1
    if beyond == 5.0:  # 2.3 expected among 4 million: draw 16 times as many
        copies = 16
        sample += [normals(counters(COUNTERS, fixed=100 + copy), KEY) for copy in range(1, copies)]
    count = sum(int((np.abs(part) > beyond).sum()) for part in sample)
    assert_binomial(
        count,
        trials=4 * COUNTERS * copies,
        probability=float(2 * special.ndtr(-beyond)),
        alpha=ledger.spend("normals: count in a tail"),
    )


def normal_score_of_size(z: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """|z| carried to a standard normal, so that the correlation of sizes has an exact law."""
    return np.asarray(special.ndtri(2 * special.ndtr(np.abs(z.astype(np.float64))) - 1))


def test_lanes_are_independent(z: npt.NDArray[np.float32], ledger: AlphaLedger) -> None:
    size = normal_score_of_size(z)
    for a, b in itertools.combinations(range(4), 2):
        assert_uncorrelated(z[:, a], z[:, b], alpha=ledger.spend("normals: correlation of two lanes"))
        assert_uncorrelated(
            size[:, a], size[:, b], alpha=ledger.spend("normals: correlation of the radii of two lanes")
        )


@pytest.mark.parametrize("word", range(4))
def test_neighbouring_counters_are_independent(ledger: AlphaLedger, word: int) -> None:
    line = normals(counters(250_001, word), KEY)
    name = "normals: correlation of neighbours in a counter word"
    assert_uncorrelated(line[:-1], line[1:], alpha=ledger.spend(name))
    size = normal_score_of_size(line)
    assert_uncorrelated(size[:-1], size[1:], alpha=ledger.spend(name))


@pytest.mark.parametrize("other", [KEY + np.array([1, 0], np.uint32), KEY ^ np.array([0, 1], np.uint32)])
def test_neighbouring_keys_are_independent(ledger: AlphaLedger, other: npt.NDArray[np.uint32]) -> None:
    a, b = normals(counters(250_000), KEY), normals(counters(250_000), other)
    assert_uncorrelated(a, b, alpha=ledger.spend("normals: correlation of two keys"))
    assert_uncorrelated(
        normal_score_of_size(a),
        normal_score_of_size(b),
        alpha=ledger.spend("normals: correlation of two keys"),
    )


@pytest.mark.parametrize(
    "other",
    [
        {"stream": Stream.DRIFT},
        {"stream": Stream.FLICKER},
        {"ordinal": 1},
        {"plane": 1},
        {"event": 1},
        {"column": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_two_sites_that_differ_in_one_coordinate_are_independent(
    ledger: AlphaLedger, other: dict[str, int]
) -> None:
    site = {"column": 0, "stream": Stream.PROGRAMMING, "ordinal": 0, "plane": 0, "event": 0}

    def noise(**where: int) -> npt.NDArray[np.float32]:
        counter, lane = cell_counters(np.arange(250_000), **where)  # type: ignore[arg-type]
        return normals(counter, KEY)[np.arange(lane.size), lane]

    assert_uncorrelated(
        noise(**site), noise(**{**site, **other}), alpha=ledger.spend("sites: correlation of two sites")
    )


def test_no_two_cells_share_a_normal() -> None:
    counter, lane = cell_counters(np.arange(1 << 16), column=3, stream=Stream.PROGRAMMING, ordinal=2)
    assert len(np.unique(np.column_stack([counter, lane]), axis=0)) == 1 << 16
