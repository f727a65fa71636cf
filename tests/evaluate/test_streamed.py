"""A streamed model has the scores of one that fits, bit for bit, and at most one layer's tiles at a time."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import aimc_sim
from aimc_sim.chip import ChipState
from aimc_sim.chip.state import outputs_stand_alone
from aimc_sim.errors import BadInput
from aimc_sim.evaluate import streamed, sums
from aimc_sim.evaluate.account import coverage_of
from aimc_sim.evaluate.metrics import Reference, WindowScores, score
from aimc_sim.evaluate.streamed import HiddenStates
from aimc_sim.evaluate.sums import WindowSums
from aimc_sim.evaluate.windows import Windows, cut
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware import Hardware
from aimc_sim.programming import program
from aimc_sim.tiles.matrix import TiledMatrix
from aimc_sim.torch_bridge import load_digital, load_model
from aimc_sim.torch_bridge.streaming import StreamedModel, decoder_layers
from aimc_sim.weightfile import WeightFile
from helpers.tiny_models import save_tiny, tiny_weights

DAY, SEED, VOCABULARY, BATCH = 86_400.0, 3, 300, 3


def hardware(**changes: Any) -> Hardware:
    tables = Hardware.load("hermes-256").model_dump(mode="json")
    tables["tile"] |= {"rows": 16, "cols": 32}
    tables["read_noise"] = {"sigma": 0.01}
    return Hardware.load(tables | changes)


def exported(folder: Path, family: str, dtype: str, **changes: Any) -> WeightFile:
    save_tiny(folder / "checkpoint", family, dtype, vocab_size=VOCABULARY, **changes)
    return aimc_sim.export(folder / "checkpoint", folder / "w.h5", hardware(), calibration_tokens=64)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> WeightFile:
    return exported(tmp_path_factory.mktemp("llama"), "llama", "bfloat16", num_hidden_layers=3)


@pytest.fixture(scope="module")
def windows() -> Windows:
    return cut([(i * i + 3 * i) % VOCABULARY for i in range(150)], 24, bos=1)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the head of a tiny model is cut into five pieces, and blocks hold a few positions."""
    monkeypatch.setattr(sums, "BLOCK", 64)
    monkeypatch.setattr(streamed, "BLOCK", 64)
    monkeypatch.setattr(sums, "_VALUES", 64 * 5)


def assert_same(a: WindowScores, b: WindowScores) -> None:
    np.testing.assert_array_equal(a.nll, b.nll)
    np.testing.assert_array_equal(a.kl, b.kl)
    np.testing.assert_array_equal(a.agree, b.agree)


def both(weights: WeightFile, windows: Windows, chip: Hardware) -> tuple[WindowScores, WindowScores]:
    """(unstreamed, streamed) scores of one chip; the digital model's are compared on the way."""
    state = program(weights, SEED, chip).at(DAY)
    with Reference(load_digital(weights), windows, BATCH) as reference:
        whole = score(
            load_model(weights, seed=SEED, time=DAY, hardware=chip), windows, BATCH, reference=reference
        )
        digital = reference.scores
    with Reference(StreamedModel(weights), windows, BATCH) as reference:
        np.testing.assert_array_equal(reference.scores.nll, digital.nll)
        assert reference.own_scores.kl_nats == 0
        return whole, score(StreamedModel(weights, state), windows, BATCH, reference=reference)


@pytest.mark.parametrize(
    ("family", "dtype"),
    [("llama", "float32"), ("gemma3_text", "bfloat16"), ("gpt2", "float32"), ("phi3", "float16")],
)
def test_scores_are_those_of_a_model_that_fits(
    family: str, dtype: str, windows: Windows, tmp_path: Path
) -> None:
    weights = exported(tmp_path, family, dtype)
    whole, found = both(weights, windows, weights.hardware)
    assert len(StreamedModel(weights, program(weights, 0).at(0.0)).pieces(64)) == 5
    assert_same(whole, found)
    assert whole.kl_nats is not None
    assert whole.kl_nats > 0.01


@pytest.mark.parametrize(
    ("changes", "pieces"),
    [
        ({"placement": {"lm_head": "digital", "digital": ["model.layers.1.mlp.*"]}}, 5),
        ({"placement": {"special": [{"matrices": ["lm_head"], "copies": 2, "adc_bits": 9}]}}, 5),
        ({"weights": {"bits": 8, "cell_bits": 4, "subtract": "digital", "scale": "tile"}}, 5),
        ({"tile": {"rows": 16, "cols": None}, "compensation": {"per": "column"}}, 5),
        ({"tile": {"rows": 16, "cols": None}}, 1),  # compensated by tile, and the tile is the matrix
        ({"tile": {"rows": 16, "cols": 32, "weight_grid": "float32"}, "read_noise": None}, 1),
        ({"faults": {"stuck_low_rate": 0.01, "dead_column_rate": 0.05}}, 1),
    ],
)
def test_on_any_hardware(changes: dict[str, Any], pieces: int, llama: WeightFile, windows: Windows) -> None:
    """Where pieces could have other bits than the whole, the head is whole."""
    chip = hardware(**changes)
    assert len(StreamedModel(llama, program(llama, SEED, chip).at(DAY)).pieces(64)) == pieces
    assert_same(*both(llama, windows, chip))


def test_a_piece_of_a_matrix_is_what_the_whole_computes(llama: WeightFile) -> None:
    state, name = program(llama, SEED, hardware()).at(DAY), "lm_head"
    x = tiny_weights("x", (7, 32))
    names = np.arange(7, dtype=np.int64) * 1000
    whole = tile_matmul(x, state.tiles(name), names)
    found = [tile_matmul(x, state.piece(name, *ends), names) for ends in state.pieces(name, 64)]
    np.testing.assert_array_equal(np.concatenate(found, axis=1), whole)
    assert state.pieces(name, 64)[-1] == (256, VOCABULARY)
    assert outputs_stand_alone(hardware())
    assert not outputs_stand_alone(hardware(tile={"rows": 16, "cols": None}))


class Alive:
    """Counts the weights in tiles that are alive at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.weights = self.most = 0
        for method in ("tiles", "piece"):
            monkeypatch.setattr(ChipState, method, self._counting(getattr(ChipState, method)))

    def _counting(self, make: Callable[..., TiledMatrix]) -> Callable[..., TiledMatrix]:
        def made(state: ChipState, *args: Any) -> TiledMatrix:
            tiles = make(state, *args)
            size = tiles.rows * tiles.cols
            self.weights += size
            self.most = max(self.most, self.weights)
            weakref.finalize(tiles, self._gone, size)
            return tiles

        return made

    def _gone(self, size: int) -> None:
        self.weights -= size


def test_one_layer_is_in_memory_at_a_time(
    llama: WeightFile, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = Alive(monkeypatch)
    model = StreamedModel(llama, program(llama, SEED).at(DAY))
    score(model, windows, BATCH)
    prefix, layers = decoder_layers(model.model)
    layer = sum(m.rows * m.cols for m in llama.matrices if m.name.startswith(f"{prefix}0."))
    assert len(layers) == 3
    assert alive.most == layer
    assert alive.weights == 0
    head = llama.matrix("lm_head")
    assert head.rows * 64 < layer < head.rows * head.cols, "the test would not see a head in one piece"
    fitting = load_model(llama, seed=SEED, time=DAY)
    assert alive.most == sum(m.rows * m.cols for m in llama.matrices)
    del fitting


def test_pages_of_the_file_are_given_back(
    llama: WeightFile, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tensor of a layer as soon as its layer is done, the head's after each piece."""
    given: list[str] = []
    real = WeightFile.forget
    monkeypatch.setattr(WeightFile, "forget", lambda self, name: (given.append(name), real(self, name)))
    score(StreamedModel(llama), windows, BATCH)
    layered = [name for name in llama.tensor_names if ".layers." in name]
    assert sorted(given[: len(layered)]) == sorted(layered)
    assert given[len(layered) :] == [llama.matrix("lm_head").tensor] * 5


def test_a_forgotten_tensor_is_read_again(llama: WeightFile) -> None:
    mine = WeightFile(llama.path)
    name = llama.matrices[0].tensor
    bits = mine.tensor(name).bits
    before = bits.copy()
    bits[:] = 0
    mine.forget(name)
    np.testing.assert_array_equal(bits, before)


def test_hidden_states_lie_in_files_where_memory_is_short(
    llama: WeightFile, windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = score(StreamedModel(llama), windows, BATCH)
    monkeypatch.setattr(streamed, "KEPT_BYTES", BATCH * 24 * 32 * 4)  # one batch
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Reference(StreamedModel(llama), windows, BATCH) as reference:
        np.testing.assert_array_equal(reference.scores.nll, in_memory.nll)
        assert len(list(tmp_path.glob("*/*.f32"))) == len(list(windows.batches(BATCH))) - 1
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(streamed, "KEPT_BYTES", 0)
    gone = SimpleNamespace(name=str(tmp_path / "gone"), cleanup=lambda: None)
    monkeypatch.setattr(streamed.tempfile, "TemporaryDirectory", lambda prefix: gone)
    with pytest.raises(BadInput, match="hidden states do not fit"):
        HiddenStates()[0] = torch.zeros(1, 4096)


def test_sums_do_not_depend_on_how_the_vocabulary_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    x, d = (torch.from_numpy(tiny_weights(name, (40, VOCABULARY))) * 40 for name in ("x", "d"))
    targets = torch.arange(40) * 7
    whole, parts = WindowSums(targets, True), WindowSums(targets, True)
    whole.add(0, x, d)
    for first in range(0, VOCABULARY, 128):
        parts.add(first, x[:, first : first + 128], d[:, first : first + 128].contiguous())
    assert whole.result() == parts.result()
    p, q = d.double().log_softmax(-1), x.double().log_softmax(-1)
    nll, kl, agree = whole.result()
    assert nll == pytest.approx(-float(q.gather(-1, targets[:, None]).sum()), rel=1e-7)
    assert kl == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-6)
    assert agree == int((x.argmax(-1) == d.argmax(-1)).sum())


def test_values_that_are_not_finite_are_named(llama: WeightFile, windows: Windows) -> None:
    model = StreamedModel(llama)
    model.model.model.norm.weight.data.fill_(torch.nan)
    with pytest.raises(BadInput, match="not finite in window 0"):
        score(model, windows, BATCH)


def test_streaming_is_chosen_by_free_memory(llama: WeightFile, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = llama.hardware
    weights = sum(matrix.rows * matrix.cols for matrix in llama.matrices)
    needed = streamed.resident_bytes(llama, chip)
    assert needed == 3 * weights + 8 * 32 * VOCABULARY, (
        "two bytes a weight, one for its read noise; the head in float32"
    )
    assert streamed.resident_bytes(llama, hardware(read_noise=None)) == needed - weights
    monkeypatch.setattr(streamed, "free_bytes", lambda: needed)
    assert not streamed.streams("auto", llama, chip)
    monkeypatch.setattr(streamed, "free_bytes", lambda: needed - 1)
    assert streamed.streams("auto", llama, chip)
    assert streamed.streams("always", llama, None)
    assert not streamed.streams("never", llama, chip)
    with pytest.raises(BadInput, match="always"):
        streamed.streams("allways", llama, chip)  # type: ignore[arg-type]


def test_coverage_of_a_streamed_model_is_that_of_a_mounted_one(llama: WeightFile) -> None:
    chip, ids = hardware(placement={"digital": ["*.down_proj"]}), list(range(3, 40))
    streamed_model = StreamedModel(llama, program(llama, SEED, chip).at(DAY))
    mounted = load_model(llama, seed=SEED, time=DAY, hardware=chip)
    assert coverage_of(streamed_model, llama, chip, ids) == coverage_of(mounted, llama, chip, ids)
