"""Outlier transforms: exact in float, every row by itself, and each step does what it promises."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimc_sim.chip.mapping import tile_map
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware, Tile
from aimc_sim.hardware.transform import Transform, choose_transform
from aimc_sim.kernels.normal import normals
from aimc_sim.kernels.parallel import set_num_threads
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.kernels.transforms import hadamard_reference, transform_rows_reference
from aimc_sim.randomness import key_of
from aimc_sim.tiles.channel_transform import (
    ChannelTransform,
    Permute,
    Rescale,
    Rotate,
    derive,
    permute_of,
    rescale_of,
    rotate_of,
    signs,
    sizes_after,
)

F32 = npt.NDArray[np.float32]
STEPS: dict[str, dict[str, Any]] = {
    "rescale": {"rescale_lambda": 0.5},
    "rescale_rms": {"rescale_lambda": 0.75, "size_from": "rms"},
    "rotate": {"rotate": "hadamard"},
    "rotate_block": {"rotate": "hadamard", "rotate_block": 16, "rotate_seed": 2**64 - 1},
    "group": {"permute": "group"},
    "spread": {"permute": "spread"},
    "all": {"rescale_lambda": 0.5, "rotate": "hadamard", "permute": "spread"},
}


@dataclass(frozen=True)
class Sizes:
    max_abs: F32
    second_moment: F32


def range_power(size: npt.NDArray[np.float64], row_bounds: npt.NDArray[np.int64]) -> float:
    """Σ over row tiles of (largest size)²: what the DACs' rounding is proportional to, where each tile has a range."""
    return float(np.sum(np.maximum.reduceat(size, row_bounds[:-1]) ** 2))


def pattern(rows: int, cols: int, seed: int) -> F32:
    """Keyed normals (rows, cols), every seventh channel thirty times as large."""
    counter = np.zeros((-(-rows * cols // 4), 4), np.uint32)
    counter[:, 0], counter[:, 3] = np.arange(len(counter)), 63 << 26
    values = normals(counter, key_of(seed)).reshape(-1)[: rows * cols].reshape(rows, cols)
    values[:, 3::7] *= 30
    return values


def sizes_of(x: F32) -> Sizes:
    return Sizes(np.abs(x).max(axis=0), np.square(x).mean(axis=0))


def derived(spec: Transform, x: F32, w: F32, tile_rows: int = 50) -> ChannelTransform:
    return derive(spec, w, sizes_of(x), tile_map(w.shape[1], w.shape[0], Tile(rows=tile_rows)).row_bounds)


@pytest.mark.parametrize("inputs", [1, 7, 64, 96, 576, 1536])
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_products_are_those_of_the_matrix_itself(steps: dict[str, Any], inputs: int) -> None:
    x, w = pattern(9, inputs, 1), pattern(11, inputs, 2)
    transform = derived(Transform(**steps), x, w)
    a, b = (v.astype(np.float64) for v in (transform.apply_input(x), transform.apply_weight(w)))
    rounding = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1) * 2**-23
    assert (np.abs(a @ b.T - x.astype(np.float64) @ w.astype(np.float64).T) <= 4 * rounding).all()


@settings(max_examples=40)
@given(
    inputs=st.integers(2, 300),
    block=st.sampled_from([2, 4, 32, 256]),
    tokens=st.integers(0, 5),
    split=st.integers(0, 5),
    steps=st.sets(st.sampled_from(["rescale", "rotate", "permute"]), min_size=1),
)
def test_the_kernel_is_the_formula_row_by_row(
    inputs: int, block: int, tokens: int, split: int, steps: set[str]
) -> None:
    x = pattern(5, inputs, 3)
    parts = {
        "rescale": rescale_of(np.abs(x).max(axis=0), np.ones(inputs), 0.5),
        "rotate": Rotate(inputs=inputs, block=block),
        "permute": permute_of(np.abs(x).max(axis=0), np.array([0, inputs // 2, inputs]), "spread"),
    }
    transform = ChannelTransform.model_validate({name: parts[name] for name in steps})
    plan, rows = transform.plan, x[:tokens]
    expected = transform_rows_reference(rows, plan.to_input, plan.blocks, plan.order)
    whole = transform.apply_input(rows)
    assert whole.dtype == np.float32
    assert np.array_equal(whole, expected)
    apart = [transform.apply_input(part) for part in (rows[:split], rows[split:])]
    assert np.array_equal(np.concatenate(apart), whole)
    assert np.array_equal(
        transform.apply_weight(rows), transform_rows_reference(rows, plan.to_weight, plan.blocks, plan.order)
    )


def test_threads_strides_types_and_a_bad_neighbour_change_nothing() -> None:
    x = pattern(700, 576, 4)
    transform = derived(Transform(**STEPS["all"]), x, pattern(3, 576, 5), 256)
    whole = transform.apply_input(x)
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            assert np.array_equal(transform.apply_input(x), whole)
    finally:
        set_num_threads(None)
    assert np.array_equal(transform.apply_input(np.asfortranarray(x)), whole)
    assert np.array_equal(transform.apply_input(x.astype(np.float64)), whole)
    assert np.array_equal(transform.apply_input(x[::-2]), whole[::-2])
    x[8] = np.nan
    after = transform.apply_input(x)
    assert np.isnan(after[8]).all()
    assert np.array_equal(np.delete(after, 8, axis=0), np.delete(whole, 8, axis=0))


def test_the_hadamard_matrix_in_natural_order() -> None:
    matrix: npt.NDArray[Any] = np.ones((1, 1))
    for _ in range(5):
        block = hadamard_reference(np.eye(len(matrix), dtype=np.float32))
        assert np.array_equal(block, matrix)
        matrix = np.kron([[1, 1], [1, -1]], matrix)


@pytest.mark.parametrize(
    ("inputs", "block", "sizes"),
    [
        (576, 64, [64] * 9),
        (1536, 512, [512] * 3),
        (2048, 2048, [2048]),
        (96, 64, [64, 32]),
        (11, 8, [8, 2, 1]),
        (1, 1, [1]),
    ],
)
def test_a_rotation_is_orthonormal_and_shares_an_outlier_out(
    inputs: int, block: int, sizes: list[int]
) -> None:
    rotate = rotate_of(inputs)
    assert rotate.block == block
    assert np.diff(rotate.plan.blocks).tolist() == sizes
    matrix = rotate.apply_input(np.eye(inputs, dtype=np.float32)).astype(np.float64)
    assert np.abs(matrix @ matrix.T - np.eye(inputs)).max() < 1e-6
    of_each = np.repeat(sizes, sizes)
    inside = np.equal.outer(np.repeat(range(len(sizes)), sizes), np.repeat(range(len(sizes)), sizes))
    assert np.array_equal(
        np.abs(matrix), np.where(inside, (1 / np.sqrt(of_each)).astype(np.float32)[:, None], 0)
    )


def test_uncorrelated_channels_share_their_power() -> None:
    rotate = Rotate(inputs=12, block=8)
    size = np.array([8.0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 2])
    assert np.allclose(sizes_after(rotate, size), [np.sqrt(8.0)] * 8 + [np.sqrt(2.0)] * 4)


def test_signs_are_bits_of_keyed_words_and_no_chip_changes_them() -> None:
    words = philox4x32(np.array([[0, 0, 0, 10 << 26], [1, 0, 0, 10 << 26]], np.uint32), key_of(7)).reshape(-1)
    many = signs(200, 7)
    assert [int(words[k >> 5]) >> (k & 31) & 1 for k in range(200)] == (many < 0).astype(int).tolist()
    assert np.array_equal(signs(130, 7), many[:130])
    assert not np.array_equal(signs(200, 8), many)


def test_rescaling_by_the_published_formula() -> None:
    x, w = np.array([100.0, 1, 4]), np.array([0.25, 1, 4])
    assert np.allclose(rescale_of(x, w, 0.5).scale, [20, 1, 1])
    assert np.allclose(rescale_of(x, w, 1.0).scale, x)
    assert np.allclose(rescale_of(x, w, 0.0).scale, 1 / w)
    rescale = Rescale(scale=(4.0, 0.5))
    assert rescale.apply_input(np.array([[8, 3]], np.float32)).tolist() == [[2, 6]]
    assert rescale.apply_weight(np.array([[8, 3]], np.float32)).tolist() == [[32, 1.5]]


def test_maxima_and_root_mean_squares_give_their_own_scales() -> None:
    x, w = pattern(40, 10, 6), pattern(20, 10, 7)
    by_max = derived(Transform(rescale_lambda=0.3), x, w).rescale
    by_rms = derived(Transform(rescale_lambda=0.3, size_from="rms"), x, w).rescale
    assert by_max is not None
    assert by_rms is not None
    assert np.allclose(by_max.scale, np.abs(x).max(axis=0) ** 0.3 / np.abs(w).max(axis=0) ** 0.7)
    rms_x, rms_w = (np.sqrt(np.square(v, dtype=np.float64).mean(axis=0)) for v in (x, w))
    assert np.allclose(by_rms.scale, rms_x**0.3 / rms_w**0.7)


def test_channels_that_the_text_never_used_keep_a_finite_scale() -> None:
    x, w = np.array([0.0, 2, 0]), np.array([1.0, 0, 0])
    for lambda_ in (0.0, 0.5, 1.0):
        rescale = rescale_of(x, w, lambda_)
        sample = np.array([[1, 1, 1]], np.float32)
        product = rescale.apply_input(sample) * rescale.apply_weight(sample)
        assert np.allclose(product, 1, rtol=3e-7)
    assert rescale_of(np.zeros(3), np.zeros(3), 0.5).scale == (1.0, 1.0, 1.0)
    with pytest.raises(BadInput, match="finite"):
        rescale_of(np.array([1.0, np.nan]), np.ones(2), 0.5)


@pytest.mark.parametrize("bounds", [[0, 2, 4, 6], [0, 4, 6], [0, 1, 3, 6], [0, 6]])
def test_grouping_is_the_best_of_all_orders(bounds: list[int]) -> None:
    cut = np.array(bounds)
    for size in (np.array([1.0, 9, 2, 8, 3, 3]), np.array([5.0, 0, 5, 1, 7, 0])):
        every = min(range_power(size[list(order)], cut) for order in itertools.permutations(range(6)))
        assert range_power(size[list(permute_of(size, cut, "group").order)], cut) == every


def test_spreading_gives_every_tile_its_share() -> None:
    size = np.ones(30)
    size[[0, 1, 2]] = 50, 40, 60
    order = np.array(permute_of(size, np.array([0, 10, 20, 30]), "spread").order)
    tiles = order.reshape(3, 10)
    assert [int((size[tile] > 1).sum()) for tile in tiles] == [1, 1, 1]
    assert (np.diff(tiles, axis=1) > 0).all()


@pytest.mark.parametrize(
    ("how", "rotated", "order"),
    [
        ("group", True, (4, 5, 6, 7, 0, 1, 2, 3)),
        ("group", False, (0, 4, 5, 6, 1, 2, 3, 7)),
        ("spread", True, (0, 2, 4, 6, 1, 3, 5, 7)),
        ("spread", False, (0, 1, 2, 3, 4, 5, 6, 7)),
    ],
)
@pytest.mark.parametrize("rescaled", [True, False])
def test_channels_are_permuted_by_their_sizes_after_the_rotation(
    how: str, rotated: bool, order: tuple[int, ...], rescaled: bool
) -> None:
    """The one large channel is shared out over its block of four, 4.5 each, and then the other block has more."""
    size, w = np.array([9, 0, 0, 0, 5, 5, 5, 5], np.float32), np.ones((2, 8), np.float32)
    steps: dict[str, Any] = {"rotate": "hadamard", "rotate_block": 4} if rotated else {}
    if rescaled:  # weights that make these sizes of inputs that are all alike
        steps["rescale_lambda"] = 0.0
        size, w = np.ones_like(size), w * np.maximum(size, 1e-5)
    found = derive(Transform(permute=how, **steps), w, Sizes(size, size**2), np.array([0, 4, 8]))  # type: ignore[arg-type]
    assert found.permute is not None
    assert found.permute.order == order


def test_a_permutation_moves_channels_and_nothing_else() -> None:
    permute = Permute(order=(2, 0, 1))
    x = np.array([[10, 11, 12]], np.float32)
    assert permute.apply_input(x).tolist() == permute.apply_weight(x).tolist() == [[12, 10, 11]]


def test_a_permuted_weight_takes_the_draws_of_its_new_site() -> None:
    """Channels 1 and 5 swap places; outputs to which both are alike have the same cells as before."""
    w = pattern(6, 8, 8)
    w[::2, 5] = w[::2, 1]
    swapped = Permute(order=(0, 5, 2, 3, 4, 1, 6, 7)).apply_weight(w)
    hardware = Hardware.load({"device": "pcm-hermes-2"})
    before, after = (CellMatrix(v, hardware, seed=3).effective_weights() for v in (w, swapped))
    assert np.array_equal(before[::2], after[::2])
    assert (before[:, 1] != before[:, 5]).all()
    assert (before[1::2, [1, 5]] != after[1::2, [5, 1]]).all()


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_a_transform_is_a_value(steps: dict[str, Any]) -> None:
    spec = Transform(**steps)
    assert Transform.parse(spec.model_dump(mode="json"), "transform") == spec
    transform = derived(spec, pattern(5, 30, 1), pattern(5, 30, 2), 8)
    again = ChannelTransform.parse(transform.model_dump(mode="json"), "transform")
    assert again == transform
    assert again.id == transform.id
    assert hash(again) == hash(transform)
    assert np.array_equal(again.apply_input(pattern(5, 30, 3)), transform.apply_input(pattern(5, 30, 3)))


def test_steps_apply_one_after_the_other() -> None:
    x, w = pattern(5, 60, 1), pattern(5, 60, 2)
    transform = derived(Transform(**STEPS["all"]), x, w)
    rescale, rotate, permute = transform.steps
    assert [type(step) for step in transform.steps] == [Rescale, Rotate, Permute]
    one_by_one = permute.apply_input(rotate.apply_input(rescale.apply_input(x)))
    assert np.allclose(transform.apply_input(x), one_by_one, rtol=0, atol=1e-6 * np.abs(one_by_one).max())
    assert len({transform.id, *(step.id for step in transform.steps)}) == 4


def test_the_first_table_that_names_a_matrix_counts() -> None:
    down = Transform(rotate="hadamard", matrices=("*.down_proj",))
    heads = Transform(rescale_lambda=0.5, roles=("q", "k"))
    none = Transform(matrices=("model.layers.0.*",))
    tables = (none, down, heads)
    assert choose_transform(tables, "model.layers.3.mlp.down_proj", "down") is down
    assert choose_transform(tables, "model.layers.3.self_attn.q_proj", "q") is heads
    assert choose_transform(tables, "model.layers.3.self_attn.v_proj", "v") is None
    assert choose_transform(tables, "model.layers.0.mlp.down_proj", "down") is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"rotate_block": 64}, "there is no rotate"),
        ({"rotate": "hadamard", "rotate_block": 48}, "power of two"),
        ({"rotate": "haddamard"}, "hadamard"),
        ({"rescale_lambda": 1.5}, "0 to 1"),
        ({"rescale_lamda": 0.5}, "rescale_lambda"),
        ({"permute": "sort"}, "spread"),
        ({"roles": ["mlp"]}, "gate_up"),
        ({"rotate_seed": -1}, "0"),
    ],
)
def test_a_table_that_cannot_be_meant(table: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Transform.parse(table, "transform")


def test_transforms_that_fit_nothing() -> None:
    x, w = pattern(4, 8, 1), pattern(3, 8, 2)
    with pytest.raises(BadInput, match="no steps"):
        derived(Transform(), x, w)
    with pytest.raises(BadInput, match="8 inputs"):
        derived(Transform(rescale_lambda=0.5), pattern(4, 9, 1), w)
    with pytest.raises(BadInput, match="rows, 8"):
        rotate_of(8).apply_input(pattern(4, 9, 1))
    with pytest.raises(BadInput, match="rows, 8"):
        rotate_of(8).apply_weight(w[0])
    for steps in ({}, {"rotate": {"inputs": 8, "block": 8}, "permute": {"order": [1, 0]}}):
        with pytest.raises(BadInput, match="at least one step"):
            ChannelTransform.parse(steps, "transform")
    for kind, data in (
        (Permute, {"order": [0, 2]}),
        (Rotate, {"inputs": 8, "block": 6}),
        (Rescale, {"scale": [1.0, 0.0]}),
    ):
        with pytest.raises(BadInput):
            kind.parse(data, "transform")
