"""Sets of effects into a waterfall: steps that add up to the total, each effect alone, and what remains without it.

For a loss f over sets of effects E = {e_1 … e_n}, in the order of the signal, with f of the digital model 0:

    start        f({})                          exact tiles, with weights on the grid of the hardware
    step k       f({e_1 … e_k}) - f({e_1 … e_k-1})
    alone k      f(C_k + e_k) - f(C_k)          C_k: the effects that e_k needs or acts on, usually none
    won back k   f(E) - f(E - e_k - D_k)        D_k: the effects that cannot be simulated without e_k, usually none
    total        f(E) = start + Σ step
    interaction  total - start - Σ alone

Every difference is taken chip by chip, the same chips on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from aimc_sim.aliases import F64
from aimc_sim.attribution.effect_table import NONE, Keys
from aimc_sim.attribution.effects import Effect, context, dependents
from aimc_sim.attribution.study import without


@dataclass(frozen=True)
class Figure:
    """A figure is a mean over chips. interval: 95 % by Student's t over chips; None from one chip. by_chip: one value
    a seed.
    """

    mean: float
    interval: tuple[float, float] | None
    by_chip: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """A row is about one effect. total: the loss with it and all before it. beside: what was on for ``alone``;
    gone_too: what is off too for ``won_back``.
    """

    effect: Effect
    step: Figure
    total: Figure
    alone: Figure
    won_back: Figure
    beside: Keys
    gone_too: Keys


@dataclass(frozen=True)
class Waterfall:
    """A waterfall takes a loss apart: total = start + Σ step, exactly; interaction = total - start - Σ alone."""

    start: Figure
    rows: tuple[Row, ...]
    total: Figure
    alone_sum: Figure
    interaction: Figure


def figure(values: F64) -> Figure:
    """Return of (chips,) values their mean and its interval over chips."""
    by_chip = tuple(float(value) for value in values)
    if len(by_chip) > 1 and len(set(by_chip)) == 1:  # no chance in it: exactly that, not up to rounding
        return Figure(by_chip[0], (by_chip[0], by_chip[0]), by_chip)
    mean = float(np.mean(by_chip))
    if len(by_chip) == 1:
        return Figure(mean, None, by_chip)
    half = float(stdtrit(len(by_chip) - 1, 0.975) * np.std(by_chip, ddof=1) / len(by_chip) ** 0.5)
    return Figure(mean, (mean - half, mean + half), by_chip)


def waterfall(effects: tuple[Effect, ...], loss: Callable[[Keys], F64]) -> Waterfall:
    """Compute the waterfall of loss(set of effects) → (chips,)."""
    everything = frozenset(effect.key for effect in effects)
    rows, alone_sum = [], np.zeros_like(loss(NONE))
    before: Keys = NONE
    for effect in effects:
        upto, beside = before | {effect.key}, context(effects, effect)
        alone = loss(beside | {effect.key}) - loss(beside)
        alone_sum = alone_sum + alone
        rows.append(
            Row(
                effect,
                figure(loss(upto) - loss(before)),
                figure(loss(upto)),
                figure(alone),
                figure(loss(everything) - loss(without(effects, effect))),
                beside,
                dependents(effects, effect),
            )
        )
        before = upto
    rest = loss(everything) - loss(NONE) - alone_sum
    return Waterfall(
        figure(loss(NONE)), tuple(rows), figure(loss(everything)), figure(alone_sum), figure(rest)
    )
