"""A sweep as columns: one list a figure, one entry a point, and the same as CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.evaluate.snr import decibels
from aimc_sim.report.pages import to_csv
from aimc_sim.report.words import si
from aimc_sim.sizing.cost.analog import COMPONENTS
from aimc_sim.sizing.cost.designs import REAL, WHOLE

if TYPE_CHECKING:
    from aimc_sim.sizing.sweep.result import Sweep

ALWAYS = ("rows", "cols", "dac_bits", "adc_bits", "enob", "adcs_per_tile")
COSTS = ("energy_per_token_j", "latency_per_token_s", "area_total_mm2", "tokens_per_s", "power_w",
         "tokens_per_s_per_w", "tokens_per_s_per_mm2", "tiles", "utilisation", "conversions", "chips")  # fmt: skip

_RENAMED = {"chips": "dies", "area_total_mm2": "area_mm2"}  # what is simulated are chips, too


def columns(sweep: Sweep) -> dict[str, list[Any]]:
    """List every figure of every point, units in the names; None for what was not measured."""
    space = sweep.space
    variant, _ = space.where
    names = [designs.hardware.name for designs in space.variants]
    profiles = [designs.profile.name for designs in space.variants]
    known = [name for name in (*WHOLE, *REAL) if hasattr(space.variants[0], name)]  # t_lsb_ns says t_read_ns
    varied = [name for name in known if name in sweep.plan.axes or np.ptp(space.values(name)) > 0]
    chosen = list(dict.fromkeys([*ALWAYS, *varied]))
    measured = [sweep.losses.get(label) for label in space.accuracy_of]
    return {
        "point": list(range(len(space))),
        "hardware": [names[i] for i in variant],
        "profile": [profiles[i] for i in variant],
        **{name: _numbers(space.values(name)) for name in chosen},
        "sqnr_db": _numbers(sweep.sqnr_db), "worst_sqnr_db": _numbers(sweep.worst_db),
        "loss_nats": _numbers(sweep.loss_nats), "perplexity": _numbers(sweep.perplexity),
        "chips_measured": [0 if loss is None else len(loss.nll) for loss in measured],
        "windows_measured": [0 if loss is None else loss.nll.shape[1] for loss in measured],
        **{_RENAMED.get(name, name): _numbers(sweep.cost(name)) for name in COSTS},
        "on_front": [bool(value) for value in sweep.on_front],
        "design": list(space.accuracy_of),
    }  # fmt: skip


def front_table(front: Sequence[dict[str, Any]]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Put points of the front into words: names of columns, and rows."""

    def number(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:,.{digits}f}"

    names = [
        "tile",
        "ADC bits",
        "converters",
        "SQNR, dB",
        "loss, nats",
        "energy/token",
        "latency/token",
        "mm²",
    ]
    return names, [
        (
            f"{row['rows']} × {row['cols']}", row["adc_bits"], row["adcs_per_tile"], number(row["sqnr_db"], 2),
            number(row["loss_nats"], 3), si(row["energy_per_token_j"], "J"), si(row["latency_per_token_s"], "s"),
            number(row["area_mm2"], 1),
        )
        for row in front
    ]  # fmt: skip


def table(sweep: Sweep) -> str:
    """Write ``columns`` as CSV, a row a point; what was not measured is empty."""
    return to_csv([sweep.columns, *zip(*sweep.columns.values(), strict=True)])


def matrices(sweep: Sweep) -> str:
    """Write the SQNR of every matrix of every measured design, as CSV."""
    rows = [("design", "hardware", "matrix", "sqnr_db")]
    for label, ratios in sweep.noise.items():
        name = sweep.space.hardware[label].name
        rows += [(label, name, matrix, f"{float(decibels(ratio)):.4f}") for matrix, ratio in ratios.items()]
    return to_csv(rows)


def breakdowns(sweep: Sweep) -> dict[str, dict[str, list[Any]]]:
    """Return energy (J), time (s) and area (mm²) of every point by component; components that are zero everywhere left
    out.
    """

    def parts(table: str) -> dict[str, list[Any]]:
        values = {
            component: np.concatenate([
                np.broadcast_to(getattr(cost, table).get(component, 0.0), len(cost.designs)) for cost in sweep.costs
            ])
            for component in COMPONENTS
        }  # fmt: skip
        return {component: _numbers(value, 4) for component, value in values.items() if value.any()}

    return {"energy": parts("energy_j"), "latency": parts("path_s"), "area": parts("area_mm2")}


def roles(sweep: Sweep) -> dict[str, dict[str, float]]:
    """Return per measured design the SQNR in dB by role, of the mean noise-to-signal ratio."""
    if sweep.workload.file is None:
        return {}
    role = {matrix.name: matrix.role for matrix in sweep.workload.file.matrices}
    means: dict[str, dict[str, float]] = {}
    for label, noise in sweep.noise.items():
        groups: dict[str, list[float]] = {}
        for name, ratio in noise.items():
            groups.setdefault(role[name], []).append(ratio)
        means[label] = {key: round(float(decibels(np.mean(values))), 2) for key, values in groups.items()}
    return means


def _numbers(values: npt.ArrayLike, digits: int = 6) -> list[Any]:
    """Return plain numbers of so many digits; whole ones as int, those that are not finite as None."""
    out: list[Any] = []
    for value in np.asarray(values, np.float64).tolist():
        if not math.isfinite(value):
            out.append(None)
        elif value == int(value) and abs(value) < 1e15:
            out.append(int(value))
        else:
            out.append(float(f"{value:.{digits}g}"))
    return out
