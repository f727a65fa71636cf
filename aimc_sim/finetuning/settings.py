"""What a run is: every setting that decides its numbers, frozen, with an id that checkpoints carry."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aimc_sim.finetuning.recipe import Recipe
from aimc_sim.hardware import Hardware
from aimc_sim.spec import Spec


class Run(Spec):
    """A run is one training. checkpoint, data, text: ids by content. tokens: as asked for; steps follow from it.

    seed: of the noise and of the order of rows. precision: of the products (autocast); weights stay float32.
    evaluate_every, save_every: in steps, 0 never before the end. chips: simulated in each evaluation, seeds from
    ``chip_seed`` on.
    """

    checkpoint: str
    data: str
    recipe: Recipe
    hardware: Hardware
    tokens: int = Field(ge=1)
    seed: int = Field(default=0, ge=0, lt=1 << 64)
    precision: Literal["no", "bf16"] = "no"
    text: str | None = None
    context: int = Field(default=512, ge=2)
    evaluate_every: int = Field(default=0, ge=0)
    chips: int = Field(default=3, ge=1)
    chip_seed: int = Field(default=1000, ge=0)

    @property
    def step_tokens(self) -> int:
        """Tokens of one step, over all processes."""
        return self.recipe.sequences * self.recipe.length

    @property
    def steps(self) -> int:
        """Steps that see at least the tokens asked for."""
        return -(-self.tokens // self.step_tokens)


def chip_of(recipe: Recipe, hardware: Hardware) -> Hardware:
    """Return the hardware as the recipe trains for it: with both converters, the inputs' alone, or none."""
    if recipe.converters == "both":
        return hardware
    table = hardware.model_dump(mode="json")
    table["adc"] = None
    if recipe.converters == "none":
        table["dac"] = None
    table["name"] = f"{hardware.name}, converters: {recipe.converters}"
    return Hardware.parse(table, table["name"])
