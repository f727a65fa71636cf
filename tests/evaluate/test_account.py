"""What a run says about itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimc_sim.evaluate.account import account_of, arithmetic, notes_on
from aimc_sim.evaluate.bench import Bench
from aimc_sim.hardware import Hardware
from aimc_sim.kernels.tile_product import NAMES


def changed(preset: str, **tables: object) -> Hardware:
    document = Hardware.load(preset).model_dump(mode="json")
    for key, value in tables.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    return Hardware.parse(document, "a test")


def test_the_arithmetic_is_named() -> None:
    assert arithmetic(Hardware.load("hermes-256")) in {f"exact integers, engine {name}" for name in NAMES}
    assert arithmetic(Hardware.load("ideal")) == "float32, because the hardware has no DAC"
    wide = changed("hermes-256", dac={"bits": 9}, read_noise=None)
    assert arithmetic(wide) == "float32, because DAC codes of 9 bits do not fit int8"
    plain = changed("hermes-256", tile={"weight_grid": "float32"}, read_noise=None)
    assert arithmetic(plain) == "float32, because tile.weight_grid is float32"


@pytest.mark.parametrize("preset", ["afm-llama", "afm-phi3"])
def test_lambda_was_tuned_untiled(preset: str) -> None:
    assert notes_on(Hardware.load(preset)) == []
    (note,) = notes_on(changed(preset, tile={"rows": 512, "cols": 512}))
    assert "tuned for untiled columns" in note
    assert "tiles of 512 rows" in note
    assert "derived again" in note
    assert notes_on(Hardware.load("hermes-256")) == []


def test_the_account_of_a_mounted_model(tiny_weights: Path) -> None:
    bench = Bench(tiny_weights)
    account = account_of(bench.mount(), bench.state, list(range(50)))
    assert account["coverage"]["tokens"] == 32
    assert account["coverage"]["static_share"] == 1.0
    assert "100.0 % of those with static weights" in account["coverage"]["summary"]
    assert account["arithmetic"].startswith("exact integers")
    assert account["notes"] == []
