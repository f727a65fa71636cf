"""Which matrices stay digital, or are held better than the rest, to meet an accuracy bar with the least energy.

`moves` says what can be done to a matrix of a hardware. A move
takes off as much of a matrix's share of the loss (`sensitivity`) as it takes off the noise of its product; digital
takes all of it. `choice` chooses. Shares do not really add up, so placements are scored by forward passes,
and the bar of the additive model moved until the measured loss meets the real one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aimc_sim.aliases import F64
from aimc_sim.errors import AimcError, BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.sizing.cost.activity import Activity
from aimc_sim.sizing.cost.analog import evaluate
from aimc_sim.sizing.cost.designs import Designs
from aimc_sim.sizing.cost.estimate import activity_of
from aimc_sim.sizing.cost.workload import Scenario, Workload
from aimc_sim.sizing.partition.choice import DIGITAL, Choice, Options, choose, least_loss
from aimc_sim.sizing.partition.moves import Move, applied
from aimc_sim.sizing.partition.result import OverChips, Partition, Sensitivity
from aimc_sim.sizing.partition.sensitivity import Estimate, Measuring, Metric

ROUNDS = 6  # placements that are scored at most


@dataclass(frozen=True)
class Pricing:
    """Pricing holds what the energy of a placement depends on: work and scenario as `size` costs them, activity
    measured or assumed.
    """

    work: Workload
    designs: Designs
    scenario: Scenario
    activity: Activity

    @classmethod
    def of(
        cls, work: Workload, designs: Designs, scenario: Scenario | None = None, *, assumed: bool = False
    ) -> Pricing:
        """Make one with the activity that `size` would take."""
        activity, work = activity_of(work, designs, assumed=assumed)
        return cls(work, designs, scenario or Scenario(), activity)

    def energy_j(self, taken: Mapping[str, str], moves: Mapping[str, Move]) -> float:
        """Return the energy of a token, with what is done to these matrices; the whole design is costed."""
        placed = applied(self.designs.hardware, taken, moves)
        at, work = replace(self.designs, hardware=placed), replace(self.work, placement=placed.placement)
        return float(evaluate(at, work, self.scenario, self.activity).energy_per_token_j[0])


def extra_energy(pricing: Pricing, names: Sequence[str], moves: Mapping[str, Move]) -> F64:
    """Compute the (names, moves) energy of a token in J that each matrix adds when it alone is held so; may be
    negative.
    """
    whole = pricing.energy_j({}, moves)
    alone = [[pricing.energy_j({name: move}, moves) for move in moves] for name in names]
    return np.array(alone).reshape(len(names), len(moves)) - whole


def parse_budget(budget: str | float, whole: float, converters: float) -> float:
    """Read the bar in nats per token: ``0.2``, or ``50%`` of what the whole model in tiles loses beyond its converters.

    >>> parse_budget("50%", whole=3.0, converters=1.0)
    2.0
    """
    text = str(budget)
    try:
        value = float(text.rstrip("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < (100.0 if text.endswith("%") else np.inf):
        raise BadInput(
            "budget", got=text, why="it is the loss that may remain",
            do="write nats per token (0.2), or a share (50%)",
        )  # fmt: skip
    return converters + value / 100 * (whole - converters) if text.endswith("%") else value


def search(
    measuring: Measuring,
    sensitivity: Sensitivity,
    pricing: Pricing,
    budget: str | float,
    moves: Mapping[str, Move],
    *,
    analog: float = 0.9,
    unseen: int = 3,
) -> Partition:
    """Find the partition that meets the budget on the chips of the search, checked on ``unseen`` chips of other seeds.

    Where none does with that share of the weights analog, the one that comes nearest; `Partition.met` says so.
    """
    plan, work, designs = measuring.plan, pricing.work, pricing.designs
    if designs.hardware.placement.special:
        raise BadInput(
            "hardware: placement.special", got=designs.hardware.name, do="start from the hardware without that table",
            why="matrices that are held otherwise already would be taken for plain ones, and lose what they have",
        )  # fmt: skip
    matrices = sensitivity.matrices
    names = [matrix.name for matrix in matrices]
    shares = np.array([matrix.share for matrix in matrices])
    weights = np.array([float(matrix.weights) for matrix in matrices])
    total = float(sum(matrix.rows * matrix.cols for matrix in work.model.matrices()))
    bar = parse_budget(budget, sensitivity.all.mean, sensitivity.converters.mean)
    seeds = range(plan.seed, plan.seed + plan.chips)
    other = range(plan.seed + plan.chips, plan.seed + plan.chips + unseen)
    in_tiles = float(weights.sum()) / total  # the hardware may keep some digital anyway
    if analog > in_tiles:
        raise BadInput(
            "analog", got=analog, do="ask for less",
            why=f"the hardware itself keeps only {100 * in_tiles:.1f} % of the weights in tiles",
        )  # fmt: skip
    options = Options(
        tuple(names), tuple(moves), shares[:, None] * _taken_off(measuring, work, designs.hardware, names, moves),
        extra_energy(pricing, names, moves),
        weights[:, None] * np.array([move.digital for move in moves.values()]),
        float(shares.sum()), total, analog + 1.0 - in_tiles,
    )  # fmt: skip
    best: tuple[Choice, Estimate] | None = None
    target, tried = bar, 0
    while tried < ROUNDS:
        try:
            choice = choose(options, target)
        except AimcError:  # by the additive model; what the room allows may do better than that
            target = least_loss(options)
            choice = choose(options, target)
        loss = _score(measuring, choice, names, seeds, "placements")
        tried += 1
        if best is not None and choice.taken == best[0].taken:
            break
        if best is None or _better((choice, loss), best, bar):
            best = (choice, loss)
        if 0.97 * bar <= loss.mean <= bar or (loss.mean <= bar and not choice.taken):
            break
        target = max(target + 0.99 * bar - loss.mean, 0.0)
    assert best is not None  # of the first round
    choice, loss = best
    key = _key(choice)
    measuring.run("unseen chips", {"all": tuple(names), key: _held(names, choice)}, other)
    measuring.run("unseen chips", {"converters": tuple(names)}, other[:1])
    digital = set(choice.digital)
    return Partition(
        choice, bar, loss,
        unseen=measuring.loss(key, other),
        all_unseen=measuring.loss("all", other),
        converters=measuring.loss("converters", other[:1]),
        unseen_chips=OverChips.of([measuring.loss(key, range(chip, chip + 1)).mean for chip in other]),
        recovered={
            "kl": _recovered(measuring, key, other, "kl"), "loss": _recovered(measuring, key, other, "loss"),
        },
        metric=plan.metric,
        analog_share=sum(m.weights for m in matrices if m.name not in digital) / total,
        energy_j=pricing.energy_j(choice.taken, moves),
        energy_all_analog_j=pricing.energy_j({}, moves),
        scenario=pricing.scenario,
        activity=pricing.activity.source,
        scored=tried,
        original=designs.hardware,
        hardware=applied(designs.hardware, choice.taken, moves),
        sensitivity=sensitivity,
    )  # fmt: skip


def _better(new: tuple[Choice, Estimate], old: tuple[Choice, Estimate], bar: float) -> bool:
    """Say whether one is better: at the bar beats above it; then less energy, or less loss."""
    if (new[1].mean <= bar) != (old[1].mean <= bar):
        return new[1].mean <= bar
    return new[0].energy_j < old[0].energy_j if new[1].mean <= bar else new[1].mean < old[1].mean


def _taken_off(
    measuring: Measuring,
    work: Workload,
    hardware: Hardware,
    names: Sequence[str],
    moves: Mapping[str, Move],
) -> F64:
    """Return the (names, moves) share of the noise of each product that a move takes off."""
    assert work.file is not None
    better = {label: move.every(hardware) for label, move in moves.items() if not move.digital}
    plain, *others = measuring.noise(work.file, {"": hardware, **better})
    measured = dict(zip(better, others, strict=True))
    share = np.ones((len(names), len(moves)))
    for j, label in enumerate(moves):
        if label in measured:
            left = [measured[label][name] / plain[name] if plain[name] else 1.0 for name in names]
            share[:, j] = np.clip(1 - np.array(left), 0, 1)
    return share


def _recovered(measuring: Measuring, key: str, seeds: range, metric: Metric) -> OverChips:
    """Return the share of the loss beyond converters that the placement takes away, of each chip."""
    first = measuring.plan.seed + measuring.plan.chips  # ideal cells are alike on every chip
    floor = measuring.loss("converters", range(first, first + 1), metric).mean
    shares = []
    for seed in seeds:
        whole, left = (measuring.loss(at, range(seed, seed + 1), metric).mean for at in ("all", key))
        shares.append((whole - left) / (whole - floor) if whole > floor else 0.0)
    return OverChips.of(shares)


def _held(names: Sequence[str], choice: Choice) -> dict[str, str]:
    """Return matrix → how it is held, of those in tiles."""
    return {name: choice.taken.get(name, "") for name in names if choice.taken.get(name) != DIGITAL}


def _key(choice: Choice) -> str:
    return "placed/" + json.dumps(choice.taken, sort_keys=True, separators=(",", ":"))


def _score(measuring: Measuring, choice: Choice, names: Sequence[str], seeds: range, stage: str) -> Estimate:
    measuring.run(stage, {_key(choice): _held(names, choice)}, seeds)
    return measuring.loss(_key(choice), seeds)
