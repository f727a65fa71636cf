"""What is done to which matrix: an accuracy bar with the least energy, and a bound on what any choice could save.

    minimise  Σ c_mo x_mo   with   Σ s_mo x_mo ≥ S - bar,   Σ w_mo x_mo ≤ room,   Σ_o x_mo ≤ 1,   x_mo ∈ {0, 1}

x_mo: matrix m is held by move o; c_mo: energy that this costs; s_mo: what it takes off the loss S; w_mo: the weights
that leave the tiles with it. A knapsack of several choices. Greedy, then what has become needless is taken back; whole
numbers where greedy finds nothing, up to a number of nodes, so that no clock decides. The linear programme with
0 ≤ x ≤ 1 is a lower bound on the energy that moves add, as far as losses and energies add up; the gap to it certifies
that, and nothing about a design whose energies do not add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aimc_sim.aliases import F64, I64
from aimc_sim.errors import AimcError, BadInput

DIGITAL = "digital"
NODES = 1000  # of branch and bound
_LEAVE = -1  # a matrix stays as it is
_INFEASIBLE = 2  # what `scipy.optimize.milp` says


@dataclass(frozen=True)
class Choice:
    """A choice is what the additive model takes. taken: matrix → move; energy_j: what they add, a negative one saves;
    bound_j: no choice that leaves at most ``bar`` of the model's loss adds less, None: unknown; loss: what the
    model expects to be left, nats per token.
    """

    taken: dict[str, str]
    energy_j: float
    bound_j: float | None
    bar: float
    loss: float

    @property
    def digital(self) -> tuple[str, ...]:
        """Matrices that leave the tiles."""
        return tuple(name for name, move in self.taken.items() if move == DIGITAL)

    @property
    def gap_j(self) -> float | None:
        """What another choice could save at most, J per token of the additive model; None: unknown."""
        return None if self.bound_j is None else max(self.energy_j - self.bound_j, 0.0)


@dataclass(frozen=True)
class Options:
    """Options say what each of M matrices may become. won_nats, energy_j, leaves: (M, O), in the order of ``moves``.

    whole_nats: the loss with nothing done; total_weights: the model's; kept: the share of them that may not leave.
    """

    names: tuple[str, ...]
    moves: tuple[str, ...]
    won_nats: F64
    energy_j: F64
    leaves: F64
    whole_nats: float
    total_weights: float
    kept: float = 0.0

    @property
    def room(self) -> float:
        """Weights that may leave the tiles."""
        return (1.0 - self.kept + 1e-12) * self.total_weights


def choose(options: Options, bar: float) -> Choice:
    """Choose moves so that at most ``bar`` nats per token of the additive model are left.

    Raises AimcError where no choice meets that with the share of weights that is kept, naming the best, and where none
    was found in ``NODES`` nodes.
    """
    needed = max(options.whole_nats - bar, 0.0)
    bound = _programme(options, options.energy_j, needed)
    taken, why = None, ""
    if not bound.infeasible:
        taken = _greedy(options, needed)
        if taken is None:  # what only just fits
            whole = _programme(options, options.energy_j, needed, whole=True)
            taken = None if whole.x is None else _round(whole.x)
            why = "" if whole.infeasible else f" None was found in {NODES} nodes of branch and bound."
    if taken is None:
        raise AimcError(
            f"no placement leaves {bar:.4g} nats per token with {100 * options.kept:.3g} % of the weights analog: the "
            f"additive model comes down to {least_loss(options):.4g}.{why} Next: allow a larger loss with --budget, "
            "fewer analog weights with --analog, or more with --moves."
        )
    at = np.flatnonzero(taken != _LEAVE)
    return Choice(
        {options.names[m]: options.moves[taken[m]] for m in at},
        float(options.energy_j[at, taken[at]].sum()),
        bound.value,
        bar,
        float(options.whole_nats - options.won_nats[at, taken[at]].sum()),
    )


def least_loss(options: Options) -> float:
    """Return what the additive model leaves at least, or where branch and bound is cut off, what greedy comes down to.

    Raises BadInput where more weights are to be kept than there are.
    """
    if options.room < 0:
        raise BadInput(
            "analog", got=options.kept, why="more weights would have to stay in tiles than there are",
            do="use 0 to below 1",
        )  # fmt: skip
    won = [_take_in_order(options, np.inf, by_weight).won for by_weight in (False, True)]
    solved = _programme(options, -options.won_nats, 0.0, whole=True)
    if solved.x is not None:
        taken = _round(solved.x)
        at = np.flatnonzero(taken != _LEAVE)
        won.append(float(options.won_nats[at, taken[at]].sum()))
    # A little more than that: what is asked for next must not fail by a rounding.
    return float(options.whole_nats - max(won)) + 1e-9 * float(np.abs(options.won_nats).sum())


def _round(x: F64) -> I64:
    """Return the move (M,) that each row of x (M, O) takes."""
    return np.where(x.max(axis=1) > 0.5, x.argmax(axis=1), _LEAVE)


class _State:
    """A state holds the moves taken so far, and what they win, cost and take out of the tiles."""

    def __init__(self, options: Options) -> None:
        nothing = np.zeros((len(options.names), 1))
        # column 0: leave it
        self.s, self.c, self.w = (
            np.hstack([nothing, table]) for table in (options.won_nats, options.energy_j, options.leaves)
        )
        self.at = np.zeros(len(options.names), np.int64)

    def _now(self, table: F64) -> F64:
        return np.take_along_axis(table, self.at[:, None], axis=1)

    def total(self, table: F64) -> float:
        """Add up what is taken."""
        return float(self._now(table).sum())

    @property
    def won(self) -> float:
        """Nats per token that the moves take off."""
        return self.total(self.s)

    def changes(self) -> tuple[F64, F64, F64]:
        """Return (M, O + 1) what each other move would win, cost and use more."""
        s, c, w = (table - self._now(table) for table in (self.s, self.c, self.w))
        return s, c, w


def _greedy(options: Options, needed: float) -> I64 | None:
    """Return the cheapest of two orders, by loss per energy and by loss per weight; None where neither meets
    the bar.
    """
    states = [_take_in_order(options, needed, by_weight) for by_weight in (False, True)]
    meeting = [state for state in states if state.won >= needed]
    return min(meeting, key=lambda state: state.total(state.c)).at - 1 if meeting else None


def _take_in_order(options: Options, needed: float, by_weight: bool) -> _State:
    """Take moves one after the other until ``needed`` is won, then what saves energy and is not missed."""
    state = _State(options)
    while True:
        ds, dc, dw = state.changes()
        won, used = state.won, state.total(state.w)
        fits = (used + dw <= options.room) | (dw <= 0)
        if won >= needed:
            value = np.where(fits & (dc < 0) & (won + ds >= needed), -dc, -np.inf)
        else:
            free = np.where(by_weight, dw <= 0, dc <= 0)
            price = np.where(by_weight, np.maximum(dw, 1e-300), np.maximum(dc, 1e-300))
            # In the first what saves energy comes first of all; the second is for when room is scarce.
            value = np.where(fits & (ds > 0), np.where(free, 1e300 * (1 + ds), ds / price), -np.inf)
        m, o = np.unravel_index(int(np.argmax(value)), value.shape)
        if value[m, o] == -np.inf:
            return state
        state.at[m] = o


class _Solved(NamedTuple):
    """This is what the solver gave. value: the optimum, None where the solver has none; x: (M, O), None where it found
    nothing.
    """

    infeasible: bool
    value: float | None
    x: F64 | None


def _programme(options: Options, cost: F64, needed: float, whole: bool = False) -> _Solved:
    """Make the linear programme, or the one in whole numbers, of which x may be the best of ``NODES`` nodes."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, eye_array, kron, vstack

    s, c, w = options.won_nats.ravel(), cost.ravel(), options.leaves.ravel()
    # All in units of their largest sum: the solver's tolerances are absolute.
    scale, won, used = (max(float(np.abs(value).sum()), 1e-300) for value in (c, s, w))
    count, moves = options.won_nats.shape
    one_each = kron(eye_array(count), np.ones((1, moves)))
    table = vstack([csr_array(np.stack([s / won, w / used])), one_each], format="csr")
    low = np.concatenate([[needed / won, -np.inf], np.full(count, -np.inf)])
    high = np.concatenate([[np.inf, options.room / used], np.ones(count)])
    result = milp(
        c / scale, integrality=np.full(len(c), int(whole)), bounds=Bounds(0, 1),
        constraints=LinearConstraint(table, low, high), options={"node_limit": NODES} if whole else None,
    )  # fmt: skip
    solved = result.status == 0 and result.x is not None
    x = None if result.x is None else np.asarray(result.x).reshape(count, moves)
    return _Solved(result.status == _INFEASIBLE, float(result.fun) * scale if solved else None, x)
