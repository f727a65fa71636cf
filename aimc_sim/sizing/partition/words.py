"""What a profile and a partition say, as an engineer would write it down."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimc_sim.sizing.partition.result import OverChips, Partition
    from aimc_sim.sizing.partition.sensitivity import Estimate, Shares

_ENDS = [(kind, end) for kind in ("alone", "won") for end in ("mean", "low", "high")]
_COLUMNS = ("name", "role", "weights", "sqnr_db", "share", "measured")


def number(value: Estimate | None) -> str:
    """Write 0.123 (0.101 to 0.145); a dash where there was no forward pass."""
    if value is None:
        return "–"
    if value.low == value.high:
        return f"{value.mean:.4f}"
    return f"{value.mean:.4f} ({value.low:.4f} to {value.high:.4f})"


def of_sensitivity(shares: Shares) -> list[str]:
    """Say what the whole model loses, and what was measured."""
    measured = sum(matrix.measured for matrix in shares.matrices)
    what = "KL divergence" if shares.plan.metric == "kl" else "loss"
    return [
        f"{what}, nats per token: {number(shares.all)} with every matrix in tiles, {number(shares.converters)} with "
        "converters alone.",
        f"{shares.forwards:,} forward passes measured {measured} of {len(shares.matrices)} matrices on "
        f"{shares.plan.chips} chips; the others' shares are estimates from the noise of their products.",
    ]


def worst(shares: Shares, rows: int = 16) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Put the matrices that cost most into a table: names of columns, and rows."""
    total = sum(matrix.share for matrix in shares.matrices) or 1.0
    return ("matrix", "share of the loss", "alone analog", "won when digital"), [
        (
            matrix.name, f"{100 * matrix.share / total:.1f} %{'' if matrix.measured else ' (estimate)'}",
            number(matrix.alone), number(matrix.won),
        )
        for matrix in shares.matrices[:rows]
    ]  # fmt: skip


def csv_of(document: Mapping[str, Any]) -> str:
    """Write the matrices of a profile's document as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("matrix", "role", "weights", "sqnr_db", "share_nats", "measured")
    writer.writerow([*names, *(f"{kind}_{end}_nats" for kind, end in _ENDS)])
    for row in document["matrices"]:
        ends = [row[kind][end] if row[kind] else None for kind, end in _ENDS]
        writer.writerow([*(row[name] for name in _COLUMNS), *ends])
    return text.getvalue()


_METRICS = {"kl": "KL divergence", "loss": "loss (negative log-likelihood)"}


def of_partition(partition: Partition) -> list[str]:
    """Say what is done to which matrices, what it leaves and costs, and how far both are known."""
    choice, chips = partition.choice, len(partition.unseen_chips.by_chip)
    counts = Counter(choice.taken.values())
    done = ", ".join(f"{count} × {move}" for move, count in sorted(counts.items())) or "nothing"
    recovered = [
        f"Recovered of the {_METRICS[name]} beyond converters: {_over_chips(value, 100, '.0f', ' %')}."
        for name, value in partition.recovered.items()
    ]
    use = partition.scenario
    return [
        f"Matrices: {done}. {100 * partition.analog_share:.1f} % of the weights analog.",
        f"Bar: {partition.bar:.4f} nats per token. On the chips of the search: {number(partition.loss)}.",
        f"On chips that the search has not seen: {number(partition.unseen)}; all in tiles: "
        f"{number(partition.all_unseen)}; converters alone: {number(partition.converters)}.",
        f"Over those {chips} chips: {_over_chips(partition.unseen_chips, 1, '.4f', '')}. {MET[partition.met_by]}.",
        *recovered,
        f"Energy per token: {1e6 * partition.energy_j:.4g} µJ, all in tiles "
        f"{1e6 * partition.energy_all_analog_j:.4g} µJ, so {1e6 * abs(partition.added_j):.4g} µJ "
        f"{'more' if partition.added_j > 0 else 'less'} ({use.phase}, context {use.context:,}, streams "
        f"{use.streams}; activity {partition.activity}).",
        *_certificate(partition),
    ]


MET = {
    "interval": "The bar is met, with the whole interval",
    "mean": "The bar is met by the mean, and not by an interval",
    "no": "The bar is not met",
}


def _over_chips(value: OverChips, unit: float, form: str, name: str) -> str:
    """Write the mean and its interval over chips; of fewer than three every value, and that there is no interval."""
    listed = ", ".join(f"{unit * one:{form}}" for one in value.by_chip)
    if value.interval is None:
        return f"{listed}{name}, chip by chip (no interval of fewer than three chips)"
    low, high = (f"{unit * end:{form}}" for end in value.interval)
    return f"{unit * value.mean:{form}}{name} (95 % interval {low} to {high}; chip by chip {listed})"


def _certificate(partition: Partition) -> list[str]:
    """Say what the bound is of, and how far the model that it belongs to is from the placement."""
    choice, off = partition.choice, partition.not_additive_j
    if choice.gap_j is None or partition.gap_share is None:
        bound = "Gap to a bound: unknown, because the linear programme was not solved."
    else:
        bound = (
            f"Gap to the bound: {1e6 * choice.gap_j:.4g} µJ per token, {100 * partition.gap_share:.2g} % of the "
            "placement's energy. The bound is of the additive model: where matrices' energies and shares of the loss "
            f"add up, no choice of these moves that leaves {choice.bar:.4g} nats per token or less needs less by more "
            "than this gap. It says nothing of other moves, or of what does not add up."
        )
    if abs(off) <= 1e-9 * partition.energy_j:
        return [bound, "Its energies add up: as much as the placement costed as a whole."]
    return [
        bound,
        f"Its energies sum to {1e6 * choice.energy_j:+.4g} µJ over all in tiles; the placement costed as a whole has "
        f"{1e6 * partition.added_j:+.4g} µJ, {1e6 * off:+.2g} µJ beside it.",
    ]
