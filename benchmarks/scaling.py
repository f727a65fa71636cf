"""Does the cost grow linearly with weights, tokens and chips?

    python -m benchmarks.scaling [--json]

At least four sizes each, timed in turn over several rounds. A smaller size is repeated until it has done the work of
the largest, so that a busy machine disturbs all sizes alike; the least time of each counts, because a disturbance only
ever adds to it. Two fits: seconds = a + b·size (slope, intercept, R²), and the exponent of seconds ∝ size^e on
logarithms, with its standard error. Goal: an exponent of at most 1.05.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware import Hardware
from benchmarks.harness import Row, main, seconds
from benchmarks.tile_product import gaussian

GOAL = 1.05
ROUNDS = 7
DAY = 86_400.0
SIDES = (512, 1024, 1536, 2048, 3072, 4096)  # square matrices: 0.26 to 17 million weights
WEIGHTS = tuple(side * side for side in SIDES)
TOKENS = (128, 256, 512, 1024, 2048)
CHIPS = (1, 2, 4, 8, 16)
SIDE = 2048  # of the matrix that meets more and more tokens
SMALLEST = {
    "ROUNDS": 1, "SIDES": (32, 64, 96, 128), "WEIGHTS": (32**2, 64**2, 96**2, 128**2), "TOKENS": (1, 2, 4, 8),
    "CHIPS": (1, 2, 3, 4), "SIDE": 64,
}  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """Times of one kind of growth, and both fits."""

    name: str
    unit: str  # of the sizes
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    slope: float  # seconds per unit of size
    intercept: float  # seconds
    r_squared: float
    exponent: float
    exponent_error: float  # standard error


def fit(name: str, unit: str, sizes: tuple[int, ...], times: tuple[float, ...]) -> Fit:
    """Least squares of time on size, and of their logarithms. At least four sizes."""
    x, y = np.asarray(sizes, np.float64), np.asarray(times, np.float64)
    slope, intercept = np.polyfit(x, y, 1)
    rest = float(((y - intercept - slope * x) ** 2).sum())
    r_squared = 1 - rest / float(((y - y.mean()) ** 2).sum())
    u, v = np.log(x), np.log(y)
    exponent, offset = np.polyfit(u, v, 1)
    variance = float(((v - offset - exponent * u) ** 2).sum()) / (len(u) - 2)
    error = float(np.sqrt(variance / ((u - u.mean()) ** 2).sum()))
    return Fit(name, unit, sizes, times, float(slope), float(intercept), r_squared, float(exponent), error)


def timed(calls: list[Callable[[], object]], sizes: tuple[int, ...]) -> tuple[float, ...]:
    """The least time of each call over ROUNDS rounds of all of them, after a warm-up."""

    def repeated(call: Callable[[], object], times: int) -> float:
        return seconds(lambda: [call() for _ in range(times)]) / times

    counts = [max(sizes) // size for size in sizes]
    for call in calls:
        call()
    rounds = [[repeated(*pair) for pair in zip(calls, counts, strict=True)] for _ in range(ROUNDS)]
    return tuple(min(times) for times in zip(*rounds, strict=True))


def hardware() -> Hardware:
    """Tiles of 512 × 512 phase-change cells behind 8-bit converters, compensated for drift."""
    return Hardware.load({
        "device": "pcm-hermes-2", "tile": {"rows": 512, "cols": 512}, "dac": {}, "compensation": {},
        "adc": {"full_scale": {"rule": "lambda", "lambda_": 12.0}},
    })  # fmt: skip


def measure() -> tuple[list[Row], list[dict[str, Any]]]:
    """Weights: programming matrices. Tokens: a product with 4 million weights. Chips: a matrix on one after another."""
    spec = hardware()
    matrices = [gaussian((side, side), 1) for side in SIDES]

    def chip(w: np.ndarray[Any, np.dtype[np.float32]], count: int = 1) -> None:
        for seed in range(count):
            CellMatrix(w, spec, seed, t_s=DAY).tiles()

    tiles = CellMatrix(gaussian((SIDE, SIDE), 1), spec, seed=1, t_s=DAY).tiles()
    inputs = [gaussian((count, SIDE), 2) for count in TOKENS]
    fits = [
        fit(
            "programming and drift, by weights",
            "weights",
            WEIGHTS,
            timed([lambda w=w: chip(w) for w in matrices], WEIGHTS),  # type: ignore[misc]
        ),
        fit(
            f"product with {SIDE} × {SIDE}, by tokens",
            "tokens",
            TOKENS,
            timed([lambda x=x: tile_matmul(x, tiles) for x in inputs], TOKENS),  # type: ignore[misc]
        ),
        fit(
            f"{SIDES[1]} × {SIDES[1]} weights on chip after chip",
            "chips",
            CHIPS,
            timed([lambda n=n: chip(matrices[1], n) for n in CHIPS], CHIPS),  # type: ignore[misc]
        ),
    ]
    return [row for item in fits for row in table(item)], [asdict(item) | {"goal": GOAL} for item in fits]


def table(item: Fit) -> list[Row]:
    """The exponent against its goal, and the straight line."""
    unit = item.unit.removesuffix("s")
    error = f"± {item.exponent_error:.3f}, {len(item.sizes)} sizes from {item.sizes[0]} to {item.sizes[-1]}"
    return [
        Row(f"{item.name}: exponent", item.exponent, error, GOAL),
        Row("    slope", item.slope * 1e9, f"ns a {unit}"),
        Row("    intercept", item.intercept * 1e3, "ms"),
        Row("    R²", item.r_squared, ""),
    ]


if __name__ == "__main__":
    main(__doc__.splitlines()[0] if __doc__ else "", measure)
