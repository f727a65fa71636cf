"""Which matrices stay digital: an accuracy bar at least energy, with a bound on what any choice could save.

    minimise  Σ c_m x_m   with   Σ s_m x_m ≥ S - bar,   Σ w_m x_m ≤ (1 - a)·W,   x_m ∈ {0, 1}

x_m: matrix m is digital; c_m: energy that this costs (docs/sizing.md); s_m: its share of the loss S (`sensitivity`);
w_m: its weights, W those of the model, a the share that has to stay analog. Greedy by s_m/c_m, then what has become
needless is taken back; whole numbers where greedy finds nothing. The linear programme with 0 ≤ x ≤ 1 is a lower bound,
and the gap to it a certificate. Shares do not really add up, so the placement is scored, and the bar of the additive
model moved until the measured loss meets the real one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import AimcError, BadInput
from aimc_sim.hardware import Hardware, Placement, preset_names
from aimc_sim.sizing.cost import evaluate
from aimc_sim.sizing.designs import Designs
from aimc_sim.sizing.profile import Profile
from aimc_sim.sizing.sensitivity import Estimate, Measuring, Sensitivity
from aimc_sim.sizing.workload import Scenario, Workload

F64 = npt.NDArray[np.float64]
ROUNDS = 6  # placements that are scored at most


@dataclass(frozen=True)
class Choice:
    """What the additive model chooses. digital: names; energy_j: what they cost more; bound_j: no choice costs less;
    loss: what the model expects to be left, nats per token."""

    digital: tuple[str, ...]
    energy_j: float
    bound_j: float
    loss: float

    @property
    def gap(self) -> float:
        """How much of the energy a better choice could save at most, 0 to 1."""
        return (self.energy_j - self.bound_j) / self.energy_j if self.energy_j > 0 else 0.0


@dataclass(frozen=True)
class Found:
    """A placement. bar: nats per token; loss: on the chips of the search; unseen: on chips that it has not seen, beside
    the whole model in tiles (all_unseen) and converters around ideal cells there; scored: placements that were."""

    choice: Choice
    bar: float
    loss: Estimate
    unseen: Estimate
    all_unseen: Estimate
    converters: Estimate
    analog_share: float
    energy_j: float
    energy_all_analog_j: float
    scored: int

    @property
    def recovered(self) -> float:
        """Share of the loss beyond converters that the placement takes away, on chips that the search has not seen."""
        lost = self.all_unseen.mean - self.converters.mean
        return (self.all_unseen.mean - self.unseen.mean) / lost if lost > 0 else 0.0

    @property
    def met(self) -> bool:
        """Whether the loss on unseen chips is at the bar or below."""
        return self.unseen.mean <= self.bar

    def to_json(self) -> dict[str, Any]:
        """The document."""
        document = asdict(self)
        document["choice"]["gap"] = self.choice.gap
        return {**document, "recovered_share": self.recovered, "met": self.met, "unit": "nats per token"}


def extra_energy(
    work: Workload, designs: Designs, names: Sequence[str], scenario: Scenario | None = None
) -> F64:
    """(len(names),) energy of a token in J that each matrix costs more when it alone is digital; may be negative."""
    base = Placement(lm_head=work.placement.lm_head, digital=work.placement.digital)
    whole = float(evaluate(designs, replace(work, placement=base), scenario).energy_per_token_j[0])
    found = []
    for name in names:
        placed = Placement(lm_head=base.lm_head, digital=(*base.digital, name))
        found.append(
            float(evaluate(designs, replace(work, placement=placed), scenario).energy_per_token_j[0])
        )
    return np.array(found) - whole


def choose(
    names: Sequence[str], shares: npt.ArrayLike, energy_j: npt.ArrayLike, weights: npt.ArrayLike, bar: float,
    analog: float = 0.0, total_weights: float | None = None,
) -> Choice:  # fmt: skip
    """Names that become digital so that at most ``bar`` nats per token of the additive model are left.

    shares: (M,) nats per token; energy_j: (M,) what each costs more; weights: (M,) of total_weights (None: their sum);
    analog: the share of them that stays in tiles. Raises AimcError where no choice meets both, naming the best.
    """
    s, c, w = (np.asarray(value, np.float64) for value in (shares, energy_j, weights))
    needed = max(float(s.sum()) - bar, 0.0)
    total = float(w.sum() if total_weights is None else total_weights)
    room = (1.0 - analog + 1e-12) * total
    bound = _programme(s, c, w, needed, room)
    taken = None
    if bound is not None:
        taken = _greedy(s, c, w, needed, room)
        if taken is None:  # what only just fits
            whole = _programme(s, c, w, needed, room, whole=True)
            taken = None if whole is None else whole[1] > 0.5
    if bound is None or taken is None:
        least = least_loss(s, w, analog, total)
        raise AimcError(
            f"no placement leaves {bar:.4g} nats per token with {100 * analog:.3g} % of the weights analog: the "
            f"additive model comes down to {least:.4g}. Next: allow a larger loss with --budget, or fewer analog "
            "weights with --analog."
        )
    chosen = np.flatnonzero(taken).tolist()
    return Choice(
        tuple(names[i] for i in chosen), float(c[chosen].sum()), bound[0], float(s.sum() - s[chosen].sum())
    )


def _greedy(s: F64, c: F64, w: F64, needed: float, room: float) -> npt.NDArray[np.bool_] | None:
    """The cheaper of two orders, by loss per energy and by loss per weight, each without what it does not need."""
    best = None
    # In the first what saves energy comes first of all; the second is for when room is scarce.
    for value in (np.where(c > 0, s / np.maximum(c, 1e-300), np.inf), s / np.maximum(w, 1.0)):
        taken, won, used = np.zeros(len(s), bool), 0.0, 0.0
        for i in np.lexsort((-s, -value)):
            enough = won >= needed
            if used + w[i] > room or (enough and c[i] >= 0) or (not enough and s[i] <= 0 and c[i] >= 0):
                continue
            taken[i], won, used = True, won + s[i], used + w[i]
        if won < needed:
            continue
        for i in np.flatnonzero(taken)[np.argsort(-c[taken], kind="stable")]:
            if c[i] > 0 and won - s[i] >= needed:
                taken[i], won = False, won - s[i]
        if best is None or c[taken].sum() < c[best].sum():
            best = taken
    return best


def _programme(
    s: F64, c: F64, w: F64, needed: float, room: float, whole: bool = False
) -> tuple[float, F64] | None:
    """Optimum and x of the linear programme, or of the one in whole numbers; None where it has no solution."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    # All in units of their largest sum: the solver's tolerances are absolute.
    cost, won, used = (max(float(np.abs(value).sum()), 1e-300) for value in (c, s, w))
    limits = LinearConstraint(np.stack([s / won, w / used]), [needed / won, -np.inf], [np.inf, room / used])
    found = milp(c / cost, integrality=np.full(len(c), int(whole)), bounds=Bounds(0, 1), constraints=limits)
    return (float(found.fun) * cost, np.asarray(found.x)) if found.x is not None else None


def least_loss(shares: npt.ArrayLike, weights: npt.ArrayLike, analog: float, total_weights: float) -> float:
    """What the additive model leaves at least, with this share of the weights analog; infinite where nothing fits."""
    s, w = (np.asarray(value, np.float64) for value in (shares, weights))
    found = _programme(s * 0, -s, w, 0.0, (1.0 - analog + 1e-12) * total_weights, whole=True)
    # A little more than that: what is asked for next must not fail by a rounding.
    return math.inf if found is None else float(s[found[1] < 0.5].sum() + 1e-9 * np.abs(s).sum())


def parse_budget(text: str, whole: float, converters: float) -> float:
    """The bar in nats per token: ``0.2``, or ``50%`` of what the whole model in tiles loses beyond its converters."""
    try:
        value = float(text.rstrip("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < (100.0 if text.endswith("%") else np.inf):
        raise BadInput(
            "--budget", got=text, why="it is the loss that may remain",
            do="write nats per token (0.2), or a share (50%)",
        )  # fmt: skip
    return converters + value / 100 * (whole - converters) if text.endswith("%") else value


def search(
    measuring: Measuring,
    sensitivity: Sensitivity,
    work: Workload,
    designs: Designs,
    budget: str,
    *,
    analog: float = 0.9,
    unseen: int = 3,
    scenario: Scenario | None = None,
) -> Found:
    """The placement that meets the budget on the chips of the search, checked on ``unseen`` chips of other seeds.

    Where none does with that share of the weights analog, the one that comes nearest; `Found.met` says so.
    """
    plan = measuring.plan
    matrices = sensitivity.matrices
    names = [matrix.name for matrix in matrices]
    shares = [matrix.share for matrix in matrices]
    weights = [float(matrix.weights) for matrix in matrices]
    total = float(sum(matrix.rows * matrix.cols for matrix in work.model.matrices()))
    bar = parse_budget(budget, sensitivity.all.mean, sensitivity.converters.mean)
    energy = extra_energy(work, designs, names, scenario)
    seeds = range(plan.seed, plan.seed + plan.chips)
    other = range(plan.seed + plan.chips, plan.seed + plan.chips + unseen)
    in_tiles = sum(weights) / total  # the hardware may keep some digital anyway
    if analog > in_tiles:
        raise BadInput(
            "--analog", got=analog, do="ask for less",
            why=f"the hardware itself keeps only {100 * in_tiles:.1f} % of the weights in tiles",
        )  # fmt: skip
    kept = analog + 1.0 - in_tiles
    best: tuple[Choice, Estimate] | None = None
    target, tried = bar, 0
    while tried < ROUNDS:
        try:
            choice = choose(names, shares, energy, weights, target, kept, total)
        except AimcError:  # by the additive model; what the room allows may do better than that
            target = least_loss(shares, weights, kept, total)
            choice = choose(names, shares, energy, weights, target, kept, total)
        loss = _score(measuring, choice, names, seeds, "placements")
        tried += 1
        if best is not None and choice.digital == best[0].digital:
            break
        if best is None or _better((choice, loss), best, bar):
            best = (choice, loss)
        if 0.97 * bar <= loss.mean <= bar or (loss.mean <= bar and not choice.digital):
            break
        target = max(target + 0.99 * bar - loss.mean, 0.0)
    assert best is not None  # of the first round
    choice, loss = best
    measuring.run("unseen chips", {"all": tuple(names), _key(choice.digital): _analog(names, choice)}, other)
    measuring.run("unseen chips", {"converters": tuple(names)}, other[:1])
    held = set(choice.digital)
    placed = replace(work, placement=merged(work.placement, choice.digital))
    return Found(
        choice, bar, loss,
        unseen=measuring.loss(_key(choice.digital), other),
        all_unseen=measuring.loss("all", other),
        converters=measuring.loss("converters", other[:1]),
        analog_share=sum(m.weights for m in matrices if m.name not in held) / total,
        energy_j=float(evaluate(designs, placed, scenario).energy_per_token_j[0]),
        energy_all_analog_j=float(evaluate(designs, work, scenario).energy_per_token_j[0]),
        scored=tried,
    )  # fmt: skip


def _better(new: tuple[Choice, Estimate], old: tuple[Choice, Estimate], bar: float) -> bool:
    """At the bar beats above it; then less energy, or less loss."""
    if (new[1].mean <= bar) != (old[1].mean <= bar):
        return new[1].mean <= bar
    return new[0].energy_j < old[0].energy_j if new[1].mean <= bar else new[1].mean < old[1].mean


def _analog(names: Collection[str], choice: Choice) -> tuple[str, ...]:
    held = set(choice.digital)
    return tuple(name for name in names if name not in held)


def _key(digital: Collection[str]) -> str:
    return "digital/" + json.dumps(sorted(digital), separators=(",", ":"))


def _score(
    measuring: Measuring, choice: Choice, names: Collection[str], seeds: range, stage: str
) -> Estimate:
    key = _key(choice.digital)
    measuring.run(stage, {key: _analog(names, choice)}, seeds)
    return measuring.loss(key, seeds)


def merged(placement: Placement, digital: Collection[str]) -> Placement:
    """A placement with more digital matrices."""
    return Placement(lm_head=placement.lm_head, digital=(*placement.digital, *digital))


def placement_file(hardware: Hardware, digital: Collection[str], note: str = "") -> str:
    """A hardware file with these matrices digital: laid over its preset where it is one, else everything in full."""
    placed = merged(hardware.placement, digital)
    lines = [f"# {line}" for line in note.splitlines()]
    preset = next((name for name in preset_names() if Hardware.load(name).id == hardware.id), None)
    if preset is None:
        chosen = hardware.model_copy(update={"placement": placed, "name": f"{hardware.name}, placed"})
        return "\n".join([*lines, chosen.to_toml()])
    names = ",\n    ".join(json.dumps(name, ensure_ascii=False) for name in placed.digital)
    head = [f'base = "{preset}"', f'name = "{preset}, placed"', "", "[placement]"]
    if placed.lm_head != "analog":
        head.append(f'lm_head = "{placed.lm_head}"')
    return "\n".join([*lines, *head, f"digital = [\n    {names},\n]" if names else "digital = []", ""])


def designs_of(hardware: Hardware, profile: Profile | None) -> Designs:
    """The one point that a placement is priced at."""
    return Designs.of(hardware, profile)
