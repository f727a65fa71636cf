"""The plan of an explanation, one frozen value, and the sets of effects that it scores on every chip."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from aimc_sim.attribution.effect_table import NONE, Keys
from aimc_sim.attribution.effects import Effect, context, dependents, effects_of
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import FileText, context_limit, windows_of_calibration, windows_of_text
from aimc_sim.evaluate.windows import Windows, default_batch
from aimc_sim.hardware import Hardware
from aimc_sim.signoff.design.trials import HardwareId
from aimc_sim.spec import Spec
from aimc_sim.weightfile import WeightFile

Seed = Annotated[int, Field(ge=0, lt=1 << 64)]
MAX_SEEDS = 256
TOKENS = 1024  # of the calibration text that are scored, unless told


class Study(Spec):
    """A study scores sets of effects × chips on one text.

    weights: id of the weight file. ranges_id: the converter ranges that every set uses; None until a run has derived
    them. seeds: one chip each, the same for every set. text: None for
    the calibration text in the weight file, its first ``tokens``. context: tokens a window; batch: windows a forward.
    """

    schema_version: int = 1
    weights: str
    hardware: Hardware
    hardware_id: HardwareId = ""
    ranges_id: str | None = None
    seeds: tuple[Seed, ...] = Field(min_length=1, max_length=MAX_SEEDS)
    time_s: float = Field(ge=0)
    session: int = Field(default=0, ge=0)
    text: FileText | None = None
    tokens: int | None = Field(default=TOKENS, ge=2)
    context: int = Field(default=TOKENS, ge=2)
    batch: int = Field(ge=1)

    def effects(self) -> tuple[Effect, ...]:
        """List the effects that are told apart, in the order of the signal."""
        return effects_of(self.hardware, self.time_s)


def make_study(
    weight_file: WeightFile,
    hardware: Hardware,
    *,
    seeds: int = 3,
    first_seed: int = 0,
    time_s: float = 86400.0,
    tokens: int | None = None,
    text: FileText | None = None,
    context_tokens: int | None = None,
    session: int = 0,
    batch: int | None = None,
) -> Study:
    """Make the study of `seeds` chips. tokens: of the calibration text, 1,024 unless told; a text file has its own
    limit.

    Raises BadInput, before anything runs, for a hardware without effects or a time outside the device's range.
    """
    if not effects_of(hardware, time_s):
        raise BadInput(
            "hardware",
            got=hardware.name,
            why="nothing in it differs from the digital model, so there is no loss to explain",
            do="choose a hardware with converters or real cells, such as hermes-256",
        )
    if not 1 <= seeds <= MAX_SEEDS:
        raise BadInput("seeds", got=seeds, why="each is a simulated chip", do=f"use 1 to {MAX_SEEDS}")
    if tokens is not None and tokens < 2:
        raise BadInput("tokens", got=tokens, why="the first token is not scored", do="use 2 or more")
    if text is None:
        length = int(weight_file.calibration.token_ids.shape[1])
    else:
        length = min(context_tokens or 1024, context_limit(weight_file.config) or 1024)
    return Study.parse(
        {
            "weights": weight_file.id,
            "hardware": hardware.model_dump(mode="json"),
            "seeds": list(range(first_seed, first_seed + seeds)),
            "time_s": time_s,
            "session": session,
            "text": None if text is None else text.model_dump(mode="json"),
            "tokens": None if text is not None else TOKENS if tokens is None else tokens,
            "context": length,
            "batch": default_batch(length) if batch is None else batch,
        },
        "study",
    )


def sets_of(effects: tuple[Effect, ...]) -> tuple[Keys, ...]:
    """List every set that has to be scored, each once: all effects, none, one after the other, alone, all but one."""
    everything = frozenset(effect.key for effect in effects)
    wanted = [everything, NONE]
    for count in range(1, len(effects)):
        wanted.append(frozenset(effect.key for effect in effects[:count]))
    for effect in effects:
        beside = context(effects, effect)
        wanted += [beside, beside | {effect.key}, without(effects, effect)]
    return tuple(dict.fromkeys(wanted))


def without(effects: tuple[Effect, ...], effect: Effect) -> Keys:
    """Return all effects but one, and but those that cannot be simulated without it."""
    return frozenset(other.key for other in effects) - {effect.key} - dependents(effects, effect)


def differs_by_chip(effects: Iterable[Effect], on: Keys) -> bool:
    """Say whether chips differ under this set of effects; otherwise one of them stands for all."""
    return any(effect.random for effect in effects if effect.key in on)


def windows_of(study: Study, weight_file: WeightFile, text_path: str | Path | None = None) -> Windows:
    """Return what is scored: the study's text file, or the first tokens of the calibration text, sequence by sequence.

    Raises BadInput where the text file is not the study's.
    """
    if study.text is not None:
        return windows_of_text(weight_file, study.text, text_path, study.context, plan="study")
    return windows_of_calibration(weight_file, study.tokens or TOKENS)
