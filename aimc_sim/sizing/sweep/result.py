"""What a sweep has found: the cost and accuracy of every point, and which of them no other beats."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.snr import decibels
from aimc_sim.report.shown import Shown, table_of
from aimc_sim.sizing.cost.analog import Cost
from aimc_sim.sizing.cost.workload import Workload
from aimc_sim.sizing.sweep.explorer import lead, notes, write
from aimc_sim.sizing.sweep.pareto import front
from aimc_sim.sizing.sweep.plan import Space, SweepPlan
from aimc_sim.sizing.sweep.table import columns, front_table

if TYPE_CHECKING:
    from rich.console import Console

FIGURES = ("energy_per_token_j", "latency_per_token_s", "area_total_mm2")


@dataclass(frozen=True)
class Loss:
    """A loss holds what was measured of a design: nll (chips, windows) summed nats, on the first windows of the
    text.
    """

    nll: F64

    def nats(self, tokens: npt.NDArray[np.int64]) -> float:
        """Return the negative log-likelihood, nats per token, mean over chips. tokens: of every window."""
        return float(self.nll.mean(axis=0).sum() / tokens[: self.nll.shape[1]].sum())


@dataclass(frozen=True, repr=False)
class Sweep(Shown):
    """A sweep is finished. costs: one a variant of the space. noise: {design: {matrix: noise-to-signal ratio}}.

    losses: of the designs that were measured; digital: (windows,) summed nats; tokens: scored ones of each window;
    files: what was written; command: the beginning of the command that sizes one point.

    >>> import aimc_sim
    >>> swept = aimc_sim.sweep("SmolLM2-135M", adc_bits=[6, 8])
    >>> swept.columns["adc_bits"]
    [6, 8]
    """

    plan: SweepPlan
    space: Space
    workload: Workload
    costs: tuple[Cost, ...]
    noise: dict[str, dict[str, float]] = field(default_factory=dict)
    losses: dict[str, Loss] = field(default_factory=dict)
    digital: F64 | None = None
    tokens: npt.NDArray[np.int64] | None = None
    files: tuple[Path, ...] = ()
    command: str = "aimc-sim size"

    @property
    def summary(self) -> str:
        """How many points there are, how many on the front, and what was measured."""
        return f"{len(self.space):,} points, {len(self.front):,} on the front. {lead(self)}"

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """Every figure of every point, a list a figure, units in the names; None for what was not measured."""
        return columns(self)

    @cached_property
    def front(self) -> list[dict[str, Any]]:
        """The points that no other beats in accuracy, energy, latency and area, the least energy first."""
        points = [
            dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)
        ]
        return sorted(
            (row for row in points if row["on_front"]), key=lambda row: float(row["energy_per_token_j"])
        )

    def to_frame(self) -> Any:
        """Return the columns as a pandas DataFrame. Raises BadInput where pandas is not installed."""
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise BadInput(
                "pandas", why="a frame is its own and it is not installed", do="pip install pandas"
            ) from None
        return pandas.DataFrame(self.columns)

    def to_dict(self) -> dict[str, Any]:
        """Return the front, what was measured, and notes; `columns` has the other points."""
        return {
            "model": self.workload.model.name, "plan_id": self.plan.id, "points": len(self.space),
            "designs_with_noise": len(self.noise), "designs_with_perplexity": len(self.losses), "front": self.front,
            "notes": notes(self), "files": [str(path) for path in self.files],
        }  # fmt: skip

    def print_on(self, console: Console) -> None:
        """Print a dozen points of the front, and notes."""
        console.print(self.summary, soft_wrap=True)
        console.print(table_of(*front_table(self.front[:: max(1, -(-len(self.front) // 12))])))
        for line in [*(f"NOTE: {note}" for note in notes(self)), *map(str, self.files)]:
            console.print(line, soft_wrap=True)

    def write(self, folder: str | Path) -> Sweep:
        """Write the page and tables of the sweep into a folder, all or none, and return it with its files."""
        return replace(self, files=tuple(write(self, Path(folder))))

    def cost(self, name: str) -> F64:
        """Return a figure of `Cost`, (P,)."""
        return np.concatenate([np.asarray(getattr(cost, name)) for cost in self.costs])

    @cached_property
    def mean_noise(self) -> F64:
        """(P,) noise-to-signal ratio, mean over matrices; NaN without measurement."""
        means = {
            label: float(np.mean(list(ratios.values()))) for label, ratios in self.noise.items() if ratios
        }
        return np.array([means.get(label, math.nan) for label in self.space.accuracy_of])

    @cached_property
    def sqnr_db(self) -> F64:
        """(P,) signal-to-noise ratio of a product, dB, of the mean noise-to-signal ratio."""
        return decibels(self.mean_noise)

    @cached_property
    def worst_db(self) -> F64:
        """(P,) signal-to-noise ratio of the noisiest matrix, dB."""
        worst = {label: max(ratios.values()) for label, ratios in self.noise.items() if ratios}
        return decibels([worst.get(label, math.nan) for label in self.space.accuracy_of])

    @cached_property
    def loss_nats(self) -> F64:
        """(P,) loss above the digital model's on the same windows, nats per token; NaN where it was not measured."""
        return np.array([self._above(label) for label in self.space.accuracy_of])

    def _above(self, label: str) -> float:
        loss = self.losses.get(label)
        if loss is None or self.digital is None or self.tokens is None:
            return math.nan
        windows = loss.nll.shape[1]
        digital = Loss(self.digital[None, :windows])
        return loss.nats(self.tokens) - digital.nats(self.tokens)

    @cached_property
    def perplexity(self) -> F64:
        """(P,) exp of the digital model's loss on the whole text and what the design adds; NaN where unmeasured."""
        if self.digital is None or self.tokens is None:
            return np.full(len(self.space), math.nan)
        base = Loss(self.digital[None]).nats(self.tokens)
        with np.errstate(over="ignore"):
            return np.exp(base + self.loss_nats)

    @cached_property
    def figures(self) -> F64:
        """(P, 3) energy and latency a token, area."""
        return np.stack([self.cost(name) for name in FIGURES], axis=1)

    @cached_property
    def on_front(self) -> npt.NDArray[np.bool_]:
        """(P,) whether no point beats it in accuracy (noise, where it was measured), energy, latency and area."""
        return front(np.column_stack([np.nan_to_num(self.mean_noise, nan=0.0), self.figures]))
