"""Recipes are values with names; the schedule is a function of the step; counts are read as people write them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aimc_sim.errors import BadInput
from aimc_sim.finetuning.numbers import parse_count, parse_part
from aimc_sim.finetuning.recipe import RECIPES, AdamW, Recipe
from aimc_sim.finetuning.schedule import learning_rate_factor
from aimc_sim.finetuning.settings import chip_of
from aimc_sim.hardware import Hardware


def test_the_named_recipes() -> None:
    assert list(RECIPES) == ["afm", "afm-small", "clip-only", "range-only", "llm-qat", "digital-lora"]
    assert all(Recipe.load(name).name == name for name in RECIPES)
    assert len({recipe.id for recipe in RECIPES.values()}) == len(RECIPES)
    afm = RECIPES["afm"]
    # The published values for Llama 3.2 (arXiv 2505.09663).
    assert (afm.training.gamma, afm.training.clip_sigma, afm.loss.temperature) == (0.03, 2.5, 1.0)
    assert (afm.optimizer.betas, afm.optimizer.eps, afm.optimizer.weight_decay) == ((0.9, 0.98), 1e-6, 0.01)
    assert (afm.optimizer.warmup, afm.optimizer.gradient_norm, afm.training.range_forwards) == (
        0.016,
        1.0,
        500,
    )
    assert RECIPES["clip-only"].training.noise is None
    assert RECIPES["llm-qat"].training.weight_bits == 4


def test_a_recipe_can_be_laid_over_another(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "afm"\nlength = 256\n[training]\ngamma = 0.05\n', encoding="utf-8")
    mine = Recipe.load(path)
    assert (mine.length, mine.training.gamma, mine.training.clip_sigma) == (256, 0.05, 2.5)
    assert mine.id != RECIPES["afm"].id
    assert Recipe.load(mine.model_dump(mode="json")) == mine
    path.write_text('base = "afm"\n[training]\nnoise = false\nclip_sigma = false\n', encoding="utf-8")
    off = Recipe.load(path).training
    assert (off.noise, off.clip_sigma) == (None, None)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("afm-smal", "afm-small"),
        ({"base": "amf"}, "did you mean 'afm'"),
        ({"base": "afm", "lenght": 3}, "length"),
        ({"base": "digital-lora", "adapter": False}, "adapter"),
        ({"base": "digital-lora", "training": {"clip_sigma": 2.5}}, "clipping changes weights"),
    ],
)
def test_what_is_no_recipe_is_explained(source: object, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Recipe.load(source)  # type: ignore[arg-type]


def test_converters_of_a_recipe() -> None:
    chip = Hardware.load("afm-llama")
    assert chip_of(RECIPES["afm"], chip) == chip
    inputs = chip_of(RECIPES["llm-qat"], chip)
    assert inputs.adc is None
    assert inputs.dac == chip.dac
    bare = chip_of(Recipe.load({"base": "afm", "converters": "none"}), chip)
    assert bare.dac is None


def test_the_learning_rate_warms_up_and_decays() -> None:
    spec = AdamW(learning_rate=1.0, warmup=0.1, final=0.2)
    factors = [learning_rate_factor(step, 50, spec) for step in range(50)]
    assert factors[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert factors[5] == 1.0
    assert all(a >= b for a, b in zip(factors[5:], factors[6:], strict=False))
    assert factors[-1] == pytest.approx(0.2 + 0.8 / 45)
    squared = spec.model_copy(update={"power": 2.0})
    assert learning_rate_factor(27, 50, squared) == pytest.approx(0.2 + 0.8 * (23 / 45) ** 2)
    assert learning_rate_factor(0, 1, AdamW(learning_rate=1.0, warmup=0.0)) == 1.0


def test_counts() -> None:
    assert [parse_count(text, "tokens") for text in ("7", "500k", "2M", "1.5B", "1_000", "2.001003M")] == [
        7, 500_000, 2_000_000, 1_500_000_000, 1000, 2_001_003,
    ]  # fmt: skip
    for text in ("", "0", "-3", "2.5", "2 MB", "many"):
        with pytest.raises(BadInput):
            parse_count(text, "tokens")
    assert parse_count("9" * 400, "tokens") > 10**399  # beyond what a float holds
    assert parse_part("1/4") == (1, 4)
    for text in ("4/4", "1", "a/b", "0/0"):
        with pytest.raises(BadInput):
            parse_part(text)


def test_a_recipe_needs_no_torch() -> None:
    program = (
        "import sys; from aimc_sim.finetuning.recipe import RECIPES; "
        "assert RECIPES; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
