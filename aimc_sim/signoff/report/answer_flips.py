"""Answers that a chip flips: how many of them, and which questions are lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.signoff.execution.scores import TrialScores
from aimc_sim.signoff.statistics import mcnemar

SHOWN = 6  # questions lost that a report quotes


def flips_of_one(chip: TrialScores, digital: TrialScores) -> dict[str, Any]:
    """Count one chip's marks that went down and up, with McNemar's exact p-value; that only of right and wrong
    marks.
    """
    mine, theirs = (np.asarray(each.values["acc"], np.float64) for each in (chip, digital))
    binary = bool(np.isin(mine, (0.0, 1.0)).all() and np.isin(theirs, (0.0, 1.0)).all())
    return {
        "lost": int((mine < theirs).sum()),
        "won": int((mine > theirs).sum()),
        "p_mcnemar": mcnemar(mine, theirs).p_value if binary else None,
    }


def same_answers(chip: TrialScores, digital: TrialScores) -> npt.NDArray[np.float64]:
    """Return (questions,): 1 where the chip gives the digital model's answer; where none is chosen, one as right or
    wrong.
    """
    mine, theirs = chip.values, digital.values
    equal = mine["acc"] == theirs["acc"]
    if "choice" not in mine:
        return np.asarray(equal, np.float64)
    chosen = (mine["choice"] >= 0) & (theirs["choice"] >= 0)
    return np.asarray(np.where(chosen, mine["choice"] == theirs["choice"], equal), np.float64)


def flips_of(
    digital: TrialScores,
    chips: Mapping[int, TrialScores],
    examples: Sequence[Mapping[str, Any]],
    time_s: float,
    seed: int,
) -> dict[str, Any] | None:
    """Return the flips of every chip, JSON-ready; None for scores that are not right or wrong. chips: by seed; seed:
    of the chip that is tested.

    The test is about that one chip; pooled over chips it would reject far too often (see `mcnemar`).
    """
    right = np.asarray(digital.values["acc"], np.float64)
    answers = np.array([chip.values["acc"] for chip in chips.values()], np.float64)
    if not np.isin(answers, (0.0, 1.0)).all() or not np.isin(right, (0.0, 1.0)).all():
        return None
    flips = {each: flips_of_one(chip, digital) for each, chip in chips.items()}
    losses = ((answers == 0) & (right == 1)).sum(axis=0)
    worst = sorted(map(int, np.flatnonzero(losses)), key=lambda item: (-losses[item], item))
    return {
        "time_s": time_s,
        "one_chip": {"seed": seed, **flips[seed]},
        "questions_lost": len(worst),
        "lost_by_every_chip": int((losses == len(chips)).sum()),
        "examples": [
            _example(examples[item], digital, chips, item, int(losses[item])) for item in worst[:SHOWN]
        ],
    }


def _example(
    example: Mapping[str, Any], digital: TrialScores, chips: Mapping[int, TrialScores], item: int, lost: int
) -> dict[str, Any]:
    """Return a question with what everybody chose; `chose` counts the chips by choice, None where none is recorded."""
    choices = list(example.get("choices") or [])
    counts: list[int] | None = None
    if choices and all("choice" in chip.values for chip in chips.values()):
        chosen = [int(chip.values["choice"][item]) for chip in chips.values()]
        counts = [chosen.count(index) for index in range(len(choices))]
    return {
        "id": example.get("id"),
        "question": example["question"],
        "choices": choices,
        "answer": example.get("answer"),
        "digital": int(digital.values["choice"][item]) if "choice" in digital.values else None,
        "chose": counts,
        "chips_lost": lost,
        "chips": len(chips),
    }
