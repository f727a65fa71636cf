"""Outlier transforms in a chip: digital before the DAC, exact up to rounding, calibrated and sited like any weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aimc_sim import BadInput, Hardware, WeightFile, program
from aimc_sim.execute import tile_matmul, tile_matmul_reference
from aimc_sim.testing import assert_bits
from aimc_sim.torch_bridge import load_model

STEPS = {"rescale_lambda": 0.5, "size_from": "rms", "rotate": "hadamard", "permute": "spread"}


@pytest.fixture(scope="module")
def file(tiny_weights: Path) -> WeightFile:
    return WeightFile(tiny_weights)


def hardware(base: str, **tables: Any) -> Hardware:
    return Hardware.load({"base": base, **tables})


def logits(file: WeightFile, chosen: Hardware) -> torch.Tensor:
    ids = (torch.arange(48).reshape(2, 24) * 31 + 7) % 256
    with torch.no_grad():
        return torch.as_tensor(load_model(file, hardware=chosen)(input_ids=ids, use_cache=False).logits)


def test_on_ideal_hardware_a_transform_changes_rounding_only(file: WeightFile) -> None:
    plain = logits(file, Hardware.load("ideal"))
    changed = logits(file, hardware("ideal", transform=STEPS))
    assert not torch.equal(plain, changed)
    assert float((changed - plain).norm() / plain.norm()) < 1e-5


def test_a_transformed_matrix_in_its_tiles(file: WeightFile) -> None:
    name = file.matrices[0].name
    state = program(file, 3, hardware("hermes-256", tile={"rows": 32}, transform=STEPS)).at(60.0)
    tiles, k = state.tiles(name), file.matrix(name).rows
    x = np.sin(np.arange(7 * k, dtype=np.float32) ** 1.5).reshape(7, k)
    assert tiles.transform is not None
    assert_bits(tile_matmul(x, tiles), tile_matmul_reference(x, tiles))
    truth = x @ file.weight(name).T
    assert np.linalg.norm(tile_matmul(x, tiles) - truth) < 0.3 * np.linalg.norm(truth)
    assert_bits(state.matrix(name).w, tiles.transform.apply_weight(file.weight(name)))


def test_the_first_table_that_names_a_matrix_counts(file: WeightFile) -> None:
    exempt = [{"matrices": [file.matrices[0].name]}, {"roles": ["down"], **STEPS}]
    chip = program(file, 3, hardware("ideal", transform=exempt))
    have = {m.name: chip.at(0.0).matrix(m.name).transform is not None for m in file.matrices}
    assert have == {m.name: m.role == "down" and m is not file.matrices[0] for m in file.matrices}


def test_a_transform_that_names_nothing_is_refused(file: WeightFile) -> None:
    with pytest.raises(BadInput, match="no matrix of this model"):
        program(file, 3, hardware("ideal", transform={"matrices": ["nothing.*"], **STEPS}))
    with pytest.raises(BadInput, match="rotate_block"):
        hardware("ideal", transform={"rotate_block": 64})
    assert hardware("hermes-256", transform=False).id == Hardware.load("hermes-256").id
