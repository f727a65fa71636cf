"""How weights are held: slices, pairs, offset columns, devices, scales."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aimc_sim.chip.mapping import arrays, tile_map
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.errors import BadInput
from aimc_sim.execute import tile_matmul, tile_matmul_reference
from aimc_sim.hardware import Hardware
from aimc_sim.hardware.cells import Weights
from aimc_sim.kernels.cells import effective_weights_reference
from aimc_sim.kernels.grid_scale import grid_step_reference, grid_steps
from aimc_sim.testing import AlphaLedger, assert_uncorrelated

N, K = 70, 300
W = (np.sin(np.arange(N * K) * 1.7) * np.cos(np.arange(N * K) * 0.37)).reshape(N, K).astype(np.float32)
X = np.sin(np.arange(5 * K) * 0.77).reshape(5, K).astype(np.float32)
IDS = np.arange(5, dtype=np.int64)
ADC = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 12.0}}


def hardware(device: str = "ideal", **tables: Any) -> Hardware:
    tile = {"rows": 128, "cols": 32}
    return Hardware.load({"name": "t", "device": device, "tile": tile, "dac": {"bits": 8}, **tables})


def product(h: Hardware, t_s: float = 0.0, w: np.ndarray = W) -> np.ndarray:
    return tile_matmul(X, CellMatrix(w, h, 1, t_s).tiles(), IDS)


@pytest.mark.parametrize("pair", ["differential", "offset_column"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_slices_with_ideal_converters_equal_the_unsliced_product_exactly(bits: int, pair: str) -> None:
    whole = product(hardware(weights={"bits": bits}))
    assert not np.array_equal(whole, product(hardware()))  # codes are not the weights
    for cell_bits in range(1, bits):
        sliced = product(hardware(weights={"bits": bits, "cell_bits": cell_bits, "pair": pair}))
        assert np.array_equal(sliced, whole), cell_bits


def test_digits_and_significance_make_the_codes() -> None:
    tmap = tile_map(K, N, hardware().tile)
    for pair in ("differential", "offset_column"):
        weights = Weights.parse({"bits": 6, "cell_bits": 2, "pair": pair}, "weights")
        found, scales = arrays(W, tmap, weights)
        assert scales is not None
        value = sum(
            (array.w.astype(np.float64) - (array.offset or 0.0)) * array.significance for array in found
        )
        full = np.repeat(scales.T, np.diff(tmap.row_bounds), axis=1)
        np.testing.assert_allclose(value * 31, np.rint(W / full * 31), atol=1e-5)
        assert all(np.abs(array.w).max() == 1 for array in found), "every slice uses its cells' whole range"


def test_a_pair_converted_apart_differs_from_one_conversion_by_rounding_alone() -> None:
    one, two = product(hardware(adc=ADC)), product(hardware(adc=ADC, weights={"subtract": "digital"}))
    exact = product(hardware())
    lsb = 12.0 / 127 * np.abs(W).max() * np.abs(X).max()
    assert not np.array_equal(one, two)
    assert np.abs(two - exact).max() <= 3 * 2 * 0.5 * lsb * 1.001  # three row tiles, two conversions each
    assert np.abs(one - exact).max() <= 3 * 0.5 * lsb * 1.001


@pytest.mark.parametrize(
    "weights",
    [
        {"subtract": "digital"},
        {"bits": 8, "cell_bits": 2},
        {"bits": 6, "cell_bits": 3, "subtract": "digital"},
        {"devices": 2, "share": "fill"},
        {"bits": 8, "cell_bits": 4, "slice_sum": "analog"},
        {"scale": "tile", "group_rows": 256},
        {"copies": 3},
        {"copies": 2, "bits": 8, "cell_bits": 4, "subtract": "digital"},
    ],
)
def test_every_way_equals_the_reference_with_the_noise_on(weights: dict[str, Any]) -> None:
    analog = weights.get("slice_sum") == "analog"
    h = hardware(
        "pcm-hermes-1", adc={**ADC, "errors": {"noise_lsb": 0.4, "gain_sigma": 0.02}}, weights=weights,
        read_noise={}, compensation=None if analog else {"per": "column"},
    )  # fmt: skip
    tiles = CellMatrix(W, h, 3, 86_400.0).tiles()
    whole = tile_matmul(X, tiles, IDS)
    assert np.array_equal(whole, tile_matmul_reference(X, tiles, IDS))
    assert np.array_equal(whole[1:3], tile_matmul(X[1:3], tiles, IDS[1:3]))
    assert tiles.nbytes >= sum(part.nbytes for part in tiles.parts)


def test_four_phases_are_two_unsigned_conversions_of_each_column() -> None:
    dac = {"bits": 8, "mode": "multi_phase", "phases": 4}
    assert np.array_equal(product(hardware(dac=dac)), product(hardware())), "ideal cells, no ADC: one phase"
    h = hardware("pcm-hermes-1", dac=dac, adc=ADC, weights={"subtract": "digital"}, read_noise={})
    tiles = CellMatrix(W, h, 3).tiles()
    assert len(tiles.parts) == 1
    assert tiles.adc_unsigned
    assert tiles.adc_max_code == 255
    assert tiles.reads.times == 2
    assert np.array_equal(tile_matmul(X, tiles, IDS), tile_matmul_reference(X, tiles, IDS))
    quiet = hardware(dac=dac, adc=ADC, weights={"subtract": "digital"})
    half_lsb = 0.5 * 12.0 / 255 * np.abs(W).max() * np.abs(X).max()
    off = np.abs(product(quiet) - product(hardware())).max()
    assert 0 < off <= 3 * 4 * half_lsb * 1.001  # three row tiles, four conversions each


def test_parts_draw_their_noise_apart() -> None:
    h = hardware("pcm-hermes-1", adc=ADC, weights={"bits": 8, "cell_bits": 2}, read_noise={})
    tiles = CellMatrix(W, h, 3).tiles()
    sites = {part.noise.site for part in (tiles, *tiles.parts) if part.noise is not None}
    assert len(sites) == 4
    arrays_ = CellMatrix(W, h, 3).arrays
    drawn = [tuple(array.sites().programming.tolist()) for array in arrays_]
    assert len(set(drawn)) == 4


def test_slices_and_devices_draw_independently(ledger: AlphaLedger) -> None:
    flat = np.full((64, 512), 0.5, np.float32)
    sliced = hardware("pcm-hermes-1", weights={"bits": 5, "cell_bits": 2, "devices": 2, "scale": "tile"})
    arrays_ = CellMatrix(flat, sliced, 5).arrays
    keys = [array.sites(device) for array in arrays_ for device in (0, 1)]
    noise = []
    for array in arrays_:
        for device in (0, 1):
            held = effective_weights_reference(
                flat,
                array.tile_map.row_bounds,
                array.tables,
                array.sites(device),
                np.ones((4, 64), np.float32),
            )
            noise.append(held.programmed[0].ravel().astype(np.float64))
    assert len({tuple(site.programming.tolist()) for site in keys}) == 4
    for i in range(4):
        for j in range(i):
            assert_uncorrelated(noise[i], noise[j], alpha=ledger.spend("weights: cells of one weight"))


def test_copies_of_exact_cells_are_the_matrix_and_those_of_real_ones_its_mean() -> None:
    """Digitally, of what each copy gives when it is programmed alone; programming noise loses a factor of n."""
    ideal = hardware(weights={"copies": 3})
    np.testing.assert_allclose(product(ideal), product(hardware()), rtol=0, atol=1e-4)
    real = hardware("pcm-hermes-2", weights={"copies": 4})
    parts = CellMatrix(W, real, 1).arrays
    assert len({tuple(array.sites().programming.tolist()) for array in parts}) == 4
    exact = X.astype(np.float64) @ W.T.astype(np.float64)
    lost = {
        n: np.square(product(hardware("pcm-hermes-2", weights={"copies": n} if n > 1 else {})) - exact).mean()
        for n in (1, 4)
    }
    assert 2.5 < lost[1] / lost[4] < 6.0


def test_a_matrix_may_be_held_otherwise_than_the_rest() -> None:
    special = [
        {"matrices": ["*.down_proj"], "copies": 2, "adc_bits": 9},
        {"matrices": ["*.0.*"], "adc_bits": 10},
    ]
    h = hardware("pcm-hermes-2", adc=ADC, placement={"special": special})
    assert (h.of_matrix("0.down_proj").weights.copies, h.of_matrix("0.down_proj").adc) == (
        2,
        hardware("pcm-hermes-2", adc={**ADC, "bits": 9}).adc,
    ), "the first table that names it counts"
    assert h.of_matrix("a.0.up").weights.copies is None
    assert h.of_matrix("1.up_proj") is h
    assert (
        Hardware.load({"base": "hermes-256", "placement": {"special": special[0]}}).placement.special
        is not None
    )
    again = Hardware.parse(h.model_dump(mode="json"), "again")
    assert (again, again.id) == (h, h.id)
    assert h.id != hardware("pcm-hermes-2", adc=ADC).id
    one = hardware("pcm-hermes-1", weights={"copies": 2, "devices": 2}, placement={
        "special": {"matrices": ["x"], "copies": 1, "devices": 1}})  # fmt: skip
    assert one.of_matrix("x").weights == Weights()


def test_two_devices_are_the_mean_of_their_cells() -> None:
    h = hardware("pcm-hermes-1", weights={"devices": 2})
    array = CellMatrix(W, h, 5, 3600.0).arrays[0]
    one, other = (
        effective_weights_reference(
            array.targets.w,
            array.tile_map.row_bounds,
            array.tables,
            array.sites(device),
            array.targets.full_scale,
        ).effective
        for device in (0, 1)
    )
    assert not np.array_equal(one, other)
    assert np.array_equal(CellMatrix(W, h, 5, 3600.0).effective_weights(), (one + other) * np.float32(0.5))


def test_first_device_is_filled_before_the_second() -> None:
    w = np.array([[1.0, 0.25, 0.75, -0.75]], np.float32)
    h = hardware(weights={"devices": 2, "share": "fill"})
    array = CellMatrix(w, h, 0).arrays[0]
    one, other = array._shares
    np.testing.assert_array_equal(one, [[1, 0.5, 1, -1]])
    np.testing.assert_array_equal(other, [[1, 0, 0.5, -0.5]])
    np.testing.assert_allclose(CellMatrix(w, h, 0).effective_weights(), w)


def test_an_offset_column_is_common_to_its_tile() -> None:
    h = hardware("pcm-hermes-1", weights={"pair": "offset_column"})
    zeros = np.zeros((64, 128), np.float32)
    zeros[0, 0] = 1.0
    held = CellMatrix(zeros, h, 2).effective_weights()
    in_one, in_other = held[1:32].mean(axis=0), held[32:].mean(axis=0)
    assert np.std(in_one) > 3 * np.std(held[1:32] - in_one) / np.sqrt(31)  # the column's own error stays
    assert abs(np.corrcoef(in_one, in_other)[0, 1]) < 0.5
    assert not np.array_equal(in_one, in_other)


def test_scales_of_a_tile_and_of_a_group() -> None:
    tmap = tile_map(K, N, hardware().tile)
    _, per_tile = arrays(W, tmap, Weights.parse({"scale": "tile"}, "w"))
    assert per_tile is not None
    assert per_tile[0, 0] == np.abs(W[:32, :128]).max() == per_tile[0, 31]
    _, grouped = arrays(W, tmap, Weights.parse({"group_rows": 256}, "w"))
    assert grouped is not None
    np.testing.assert_array_equal(grouped[0], np.abs(W[:, :256]).max(axis=1))
    np.testing.assert_array_equal(grouped[0], grouped[1])
    np.testing.assert_array_equal(grouped[2], np.abs(W[:, 256:]).max(axis=1))


def test_scales_of_a_quantised_checkpoint_are_taken_over() -> None:
    codes = np.rint(W * 6.4).astype(np.float32)  # no column reaches the largest code, 7
    step = np.linspace(0.01, 0.02, N, dtype=np.float32)[:, None]
    w = codes * step
    h = hardware(weights={"bits": 4, "scale": "grid", "group_rows": 384})
    array = CellMatrix(w, h, 0).arrays[0]
    np.testing.assert_allclose(array.targets.w * 7, codes, atol=1e-5)
    kept = np.rint(array.targets.w * 7) / 7
    np.testing.assert_allclose(CellMatrix(w, h, 0).effective_weights(), kept, atol=1e-6)
    with pytest.raises(BadInput, match="not quantised to 4 bits"):
        CellMatrix(W, h, 0).tiles()


def test_the_compiled_search_for_a_step_equals_the_readable_one() -> None:
    cases = [W[0, :40], np.rint(W[1, :40] * 5) * np.float32(0.3), np.zeros(40, np.float32)]
    stacked = np.stack(cases).astype(np.float32)
    out = np.empty((1, 3))
    grid_steps(stacked, np.array([0, 40]), 7, 0, 3, out)
    assert out[0].tolist() == [grid_step_reference(row, 7) for row in stacked]
    assert out[0, 0] == -1.0
    assert out[0, 2] == 0.0
    np.testing.assert_allclose(out[0, 1], 0.3, rtol=1e-6)


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"device": "pcm-hermes-2", "weights": {"devices": 2}}, "two draws of it"),
        ({"device": "pcm-afm", "weights": {"subtract": "digital"}}, "acts on the weight"),
        ({"weights": {"cell_bits": 2}}, "needs bits"),
        ({"weights": {"copies": 16, "bits": 8, "cell_bits": 1}}, "have names"),
        ({"weights": {"copies": 2, "bits": 8, "cell_bits": 2, "slice_sum": "analog"}}, "one by one"),
        ({"device": "pcm-afm", "weights": {"copies": 2}}, "acts on the weight"),
        ({"placement": {"special": {"matrices": ["a"]}}}, "changes nothing"),
        ({"placement": {"special": {"matrices": [], "copies": 2}}}, "at least 1"),
        ({"placement": {"special": {"matrices": ["a"], "adc_bits": 9}}}, "without an ADC"),
        ({"device": "pcm-hermes-2", "placement": {"special": {"matrices": ["a"], "devices": 2}}}, "two draws of it"),
        ({"device": "pcm-afm", "placement": {"special": {"matrices": ["a"], "copies": 2}}}, "acts on the weight"),
        ({"weights": {"scale": "grid"}}, "set bits"),
        ({"dac": {"mode": "multi_phase", "phases": 4}, "adc": ADC}, "subtracted digitally"),
        ({"weights": {"group_rows": 200}}, "whole tiles"),
        ({"device": "pcm-hermes-1", "weights": {"pair": "offset_column"}, "read_noise": {}}, "columns share"),
        (
            {"device": "pcm-hermes-1", "weights": {"pair": "offset_column"},
             "wires": {"r_row_ohm": 1.0, "r_col_ohm": 1.0}}, "pairs of columns",
        ),
        (
            {"weights": {"bits": 8, "cell_bits": 1, "subtract": "digital"}, "adc": ADC,
             "dac": {"bits": 8, "mode": "bit_serial"}}, "have",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_together_says_why(tables: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        hardware(**{"device": "ideal", **tables})


def test_weights_that_are_no_numbers_are_refused_in_every_way() -> None:
    bad = W.copy()
    bad[3, 5] = np.nan
    for weights in ({}, {"bits": 8, "cell_bits": 2}, {"scale": "tile"}, {"devices": 2}):
        with pytest.raises(BadInput, match="finite"):
            CellMatrix(bad, hardware(weights=weights), 0).tiles()


def test_a_replaced_matrix_keeps_the_same_cells_in_every_tiling() -> None:
    """Two tile heights see the same devices slice by slice."""
    h = hardware("pcm-hermes-1", weights={"bits": 8, "cell_bits": 4, "scale": "tile"})
    low = CellMatrix(np.full((8, 256), 0.5, np.float32), h, 4)
    high = replace(low, hardware=h.model_copy(update={"tile": h.tile.model_copy(update={"rows": 256})}))
    assert np.array_equal(low.effective_weights(), high.effective_weights())
