"""Fronts: which points no other point beats in every figure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64


def front(figures: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Say (P,) whether no other point is as good in all figures and better in one. figures: (P, F), less is better.

    Equal points are all on the front. NaN is beaten by every number. Time grows with P times the size of the front.
    """
    values = np.asarray(figures, np.float64)
    values = np.where(np.isnan(values), np.inf, values)
    # No point beats the first in this order, and each that it beats is out of the way at once.
    left = np.lexsort(values.T[::-1])
    best = np.zeros(len(values), bool)
    while left.size:
        point, others = values[left[0]], values[left]
        beaten = (point <= others).all(axis=1) & (point < others).any(axis=1)
        same = (point == others).all(axis=1)
        best[left[same]] = True
        left = left[~(beaten | same)]
    return best


def ranks(figures: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Rank points (P,): 0 for the front, 1 for the front without those, and so on (non-dominated sorting; Deb et al.
    2002).
    """
    values = np.asarray(figures, np.float64)
    rank = np.full(len(values), -1, np.int64)
    level, left = 0, np.arange(len(values))
    while left.size:
        on = front(values[left])
        rank[left[on]] = level
        left, level = left[~on], level + 1
    return rank


def crowding(figures: npt.ArrayLike) -> F64:
    """Measure (P,) how much room each point has on its front: the sum over figures of the distance between its
    neighbours, as a share of the whole range; infinite at the ends (Deb et al. 2002).
    """
    values = np.asarray(figures, np.float64)
    room = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]] if len(order) else 0.0
        if not np.isfinite(span) or span <= 0:
            continue
        room[order[[0, -1]]] = np.inf
        room[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return room


def nearest_to_front(figures: npt.ArrayLike, count: int) -> npt.NDArray[np.int64]:
    """Choose the indices of ``count`` points: front by front, on each those with most room first; ties in the given
    order.
    """
    values = np.asarray(figures, np.float64)
    rank, room = ranks(values), np.zeros(len(values))
    for level in range(int(rank.max(initial=-1)) + 1):
        on = rank == level
        room[on] = crowding(values[on])
    return np.lexsort((-room, rank))[:count]
