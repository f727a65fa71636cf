"""Recipes: what training for a chip does, as frozen values with names. The hardware says what the chip is.

The values of ``afm`` are those of Analog Foundation Models (Büchel et al., NeurIPS 2025, arXiv 2505.09663), the variant
for Llama 3.2, except for the learning rate and the batch, which depend on the model and are stated by the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.spec import Spec, check_base, load_named, merge
from aimc_sim.torch_bridge.training.spec import Training


class Distillation(Spec):
    """The loss of distillation is T²·KL(teacher ‖ student), mixed with ``cross_entropy`` parts of the text's own
    cross-entropy (0: none).

    top_k: how many of the teacher's logits are kept when they are cached; None computes the teacher anew in each step.
    """

    temperature: float = Field(default=1.0, gt=0)
    cross_entropy: float = Field(default=0.0, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=1)
    teacher_dtype: Literal["float32", "bfloat16"] = "bfloat16"


class AdamW(Spec):
    """The optimizer is AdamW with a linear warm-up and a polynomial decay to ``final`` of the learning rate."""

    learning_rate: float = Field(gt=0)
    range_rate: float = Field(default=1.0, gt=0)  # the input ranges learn at this multiple
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(default=1e-6, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.016, ge=0, lt=1)  # share of all steps
    power: float = Field(default=1.0, gt=0)
    final: float = Field(default=0.0, ge=0, le=1)
    gradient_norm: float | None = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _betas(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("both betas lie from 0 to below 1; use for example [0.9, 0.98]")
        return self


class Adapter(Spec):
    """An adapter is digital and of low rank, beside each analog matrix, by peft: y = W·x + (alpha/rank)·B·A·x."""

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)


class Recipe(Spec):
    """A recipe holds everything that training decides beside the hardware. ``None`` means that the part is absent.

    trains: every weight; nothing, which begins the input ranges and is done; or an adapter on a frozen noisy base.
    training: what the analog layers do (noise, ranges, clipping). converters: which of the hardware's converters are
    part of the forward pass. sequences: rows of ``length`` tokens a step, over all processes. average: decay of an
    exponential average of the weights, which is then what is evaluated and saved.

    >>> from aimc_sim.finetuning import RECIPES, Recipe
    >>> "afm-small" in RECIPES, Recipe.load("afm-small").trains
    (True, 'weights')
    """

    name: str = Field(min_length=1)
    description: str = ""
    source: str = ""
    trains: Literal["weights", "nothing", "adapter"] = "weights"
    training: Training = Training()
    converters: Literal["both", "inputs", "none"] = "both"
    loss: Distillation = Distillation()
    optimizer: AdamW
    sequences: int = Field(default=32, ge=1)
    length: int = Field(default=512, ge=2)
    average: float | None = Field(default=None, gt=0, lt=1)
    adapter: Adapter | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.trains == "adapter") != (self.adapter is not None):
            raise ValueError(
                "an adapter is trained where there is one and nowhere else; "
                "set trains = 'adapter' together with an [adapter] table"
            )
        if self.trains == "adapter" and self.average is not None:
            raise ValueError("only weights are averaged, not an adapter; leave average out")
        if self.trains != "weights" and self.training.clip_sigma is not None:
            raise ValueError(
                "clipping changes weights, which this recipe does not train; "
                "switch training.clip_sigma off, or set trains = 'weights'"
            )
        return self

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any] | Recipe) -> Recipe:
        """Read a name, a TOML file, tables, or a Recipe. ``base = "afm"`` starts from a named one and lays the rest
        over it.

        Raises BadInput for anything else.
        """
        return load_named(cls, source, RECIPES, RECIPES.__getitem__, _from_tables)


# What `false` switches off in a table, because TOML has no word for nothing.
_OPTIONAL = frozenset({"noise", "clip_sigma", "weight_bits", "top_k", "gradient_norm", "average"})


def _switched_off(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _switched_off(value)
        if isinstance(value, Mapping)
        else (None if value is False and key in _OPTIONAL else value)
        for key, value in table.items()
    }


def _from_tables(tables: dict[str, Any], where: str, path: Path) -> Recipe:
    data = _switched_off(tables)
    if "base" in data:
        base = check_base(data.pop("base"), RECIPES, where)
        data = merge(RECIPES[base].model_dump(mode="json"), {"name": f"{base}, changed", **data})
    data.setdefault("name", path.stem)
    return Recipe.parse(data, where)


_AFM = "Büchel et al., NeurIPS 2025 (arXiv 2505.09663), variant for Llama 3.2"
# The published text states no rate that holds for every model; this one is ours, for models of a billion weights.
_LARGE = AdamW(learning_rate=1e-5)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="afm",
            description="Weight noise, clipping, learned 8-bit inputs, 8-bit outputs, distillation on own samples.",
            source=_AFM + ": gamma 0.03, clipping at 2.5 sigma, T = 1. Learning rate and batch are ours.",
            training=Training(gamma=0.03, clip_sigma=2.5),
            optimizer=_LARGE,
        ),
        Recipe(
            name="afm-small",
            description="The same for budgets of millions of tokens and models of a million weights.",
            source="ours: found on a Llama of 260,000 weights, docs/results/afm-small.md",
            # through the noisy weights, as the loss has it; with the published clean ones a third of the gain is lost
            training=Training(gamma=0.03, clip_sigma=2.5, range_forwards=32, backward="noisy"),
            loss=Distillation(teacher_dtype="float32"),
            # Adam moves a range by its rate a step, however small the gradient: at 1e-3 the decay halves it
            optimizer=AdamW(learning_rate=1e-3, range_rate=0.01),
            sequences=1,  # many steps, each with noise of its own, count for more than tokens in a step
            length=512,  # on short rows the model forgets what it knew of later positions
        ),
        Recipe(
            name="clip-only",
            description="Clipping after every step and the converters, without weight noise: an ablation.",
            source=_AFM + ", the ablation without noise",
            training=Training(noise=None, clip_sigma=2.5),
            optimizer=_LARGE,
        ),
        Recipe(
            name="range-only",
            description="Weights stay as they are; the input ranges are begun at kappa standard deviations, no more.",
            source=_AFM + ", its start of the ranges alone",
            trains="nothing",
            training=Training(noise=None, clip_sigma=None),
            optimizer=_LARGE,
        ),
        Recipe(
            name="llm-qat",
            description="4-bit weights and static 8-bit inputs, rounded straight through: the digital rival, SI8-W4.",
            source="Liu et al., LLM-QAT (arXiv 2305.17888), in the setting of arXiv 2505.09663",
            training=Training(noise=None, clip_sigma=None, weight_bits=4),
            converters="inputs",
            optimizer=_LARGE,
        ),
        Recipe(
            name="digital-lora",
            description="The base stays frozen on noisy analog cells; a low-rank digital adapter is trained beside it.",
            source="after AHWA-LoRA (Li et al., 2024); rank, alpha and learning rate are common choices, ours",
            trains="adapter",
            training=Training(gamma=0.03, clip_sigma=None),
            adapter=Adapter(),
            optimizer=AdamW(learning_rate=2e-4),
        ),
    )
}
