"""``aimc-sim place FILE --budget …``: which matrices stay digital."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from aimc_sim.cli.console import print_json, progress_bars
from aimc_sim.cli.scenario import ASSUMED, CONTEXT, HEAD, PHASE, RATE, STREAMS, scenario
from aimc_sim.cli.sensitivity import number, prepared, show, write
from aimc_sim.errors import BadInput

if TYPE_CHECKING:
    from aimc_sim.sizing.partition.result import Found, OverChips


def command(
    file: Path = typer.Argument(help="A weight file."),
    budget: str = typer.Option(
        ..., help="Loss that may remain: nats per token (0.2), or a share of what analog cells lose (50%)."
    ),
    analog: float = typer.Option(0.9, help="Share of the weights that stays in tiles."),
    hardware: str | None = typer.Option(None, help="A preset or TOML file instead of the file's default."),
    profile: str | None = typer.Option(None, help="Constants of cost; by the device's name."),
    phase: str = PHASE,
    context: int = CONTEXT,
    streams: int = STREAMS,
    rate: float | None = RATE,
    head: bool = HEAD,
    assumed: bool = ASSUMED,
    moves: str = typer.Option(
        "digital,rotate,copies,devices,adc-bits",
        help="What may be done to a matrix, as far as the hardware allows it.",
    ),
    unseen: int = typer.Option(3, help="Chips that the search has not seen, for the check."),
    forwards: int = typer.Option(
        300, help="Budget of the sensitivity profile: forward passes over the text."
    ),
    chips: int = typer.Option(2, help="Chips of the search."),
    metric: str = typer.Option("kl", help="kl (from the digital model) or loss, nats per token."),
    tokens: int = typer.Option(1024, help="Tokens of text."),
    text: Path | None = typer.Option(None, "--text", help="Score this text, not the calibration text."),
    time: str = typer.Option("1d", "--time", help="Time since programming: 30s, 1h, 1d, 1y."),
    seed: int = typer.Option(0, help="The first chip."),
    workers: int | None = typer.Option(None, help="Processes; as many as pay off unless told."),
    output: Path = typer.Option(
        Path("placement"),
        "-o",
        "--output",
        help="Folder; one of `aimc-sim sensitivity` has the profile already.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Choose which matrices stay digital, or are held better, to meet an accuracy at least energy."""
    from aimc_sim.files import write_together
    from aimc_sim.report.pages import to_json
    from aimc_sim.sizing import Designs, Workload
    from aimc_sim.sizing.partition import sensitivity as profiles
    from aimc_sim.sizing.partition.moves import applied, moves_of, placement_file
    from aimc_sim.sizing.partition.search import Pricing, parse_budget, search

    parse_budget(budget, 1.0, 0.0)
    asked = scenario(phase, context, streams, head, rate)
    if not 0 <= analog < 1:
        raise BadInput("--analog", got=analog, why="it is a share of the weights", do="use 0 to below 1")
    if unseen < 1:
        raise BadInput(
            "--unseen", got=unseen, why="the search has chosen for its own chips", do="use 1 or more"
        )
    plan, weight_file, chip, scored = prepared(
        file, hardware, output, forwards=forwards, chips=chips, metric=metric, tokens=tokens, text=text,
        time=time, seed=seed, workers=workers, quiet=as_json,
    )  # fmt: skip
    work, designs = Workload.of(weight_file, chip.placement), Designs.of(chip, profile)
    possible = moves_of(chip, [kind.strip() for kind in moves.split(",")])
    held = {label: move.every(chip) for label, move in possible.items() if not move.digital}
    pricing = Pricing.of(work, designs, asked, assumed=assumed)
    with (
        progress_bars(quiet=as_json) as report,
        profiles.Measuring(
            plan, weight_file, chip, output, text=scored, workers=workers, progress=report, moves=held
        ) as measuring,
    ):
        sensitivity = profiles.profile(measuring, weight_file, chip)
        found = search(measuring, sensitivity, pricing, budget, possible, analog=analog, unseen=unseen)
    write(sensitivity, output)
    note = "\n".join(_lines(found))
    write_together({
        output / "placement.toml": placement_file(chip, applied(chip, found.choice.taken, possible), note),
        output / "placement.json": to_json(found.to_json()),
    })  # fmt: skip
    if as_json:
        print_json({**found.to_json(), "file": str(output / "placement.toml")})
    else:
        show(sensitivity)
        sys.stdout.write("\n".join([*_lines(found), str(output / "placement.toml")]) + "\n")
    if not found.met:
        raise typer.Exit(1)


_METRICS = {"kl": "KL divergence", "loss": "loss (negative log-likelihood)"}


def _lines(found: Found) -> list[str]:
    """What was found, as an engineer would write it down."""
    choice, chips = found.choice, len(found.unseen_chips.by_chip)
    counts = Counter(choice.taken.values())
    done = ", ".join(f"{count} × {move}" for move, count in sorted(counts.items())) or "nothing"
    recovered = [
        f"Recovered of the {_METRICS[name]} beyond converters: {_over_chips(value, 100, '.0f', ' %')}."
        for name, value in found.recovered.items()
    ]
    use = found.scenario
    return [
        f"Matrices: {done}. {100 * found.analog_share:.1f} % of the weights analog.",
        f"Bar: {found.bar:.4f} nats per token. On the chips of the search: {number(found.loss)}.",
        f"On chips that the search has not seen: {number(found.unseen)}; all in tiles: {number(found.all_unseen)}; "
        f"converters alone: {number(found.converters)}.",
        f"Over those {chips} chips: {_over_chips(found.unseen_chips, 1, '.4f', '')}. {_MET[found.met_by]}.",
        *recovered,
        f"Energy per token: {1e6 * found.energy_j:.4g} µJ, all in tiles {1e6 * found.energy_all_analog_j:.4g} µJ, so "
        f"{1e6 * abs(found.added_j):.4g} µJ {'more' if found.added_j > 0 else 'less'} ({use.phase}, context "
        f"{use.context:,}, streams {use.streams}; activity {found.activity}).",
        *_certificate(found),
    ]


_MET = {
    "interval": "The bar is met, with the whole interval",
    "mean": "The bar is met by the mean, and not by an interval",
    "no": "The bar is not met",
}


def _over_chips(value: OverChips, unit: float, form: str, name: str) -> str:
    """The mean and its interval over chips; of fewer than three every value, and that there is no interval."""
    listed = ", ".join(f"{unit * one:{form}}" for one in value.by_chip)
    if value.interval is None:
        return f"{listed}{name}, chip by chip (no interval of fewer than three chips)"
    low, high = (f"{unit * end:{form}}" for end in value.interval)
    return f"{unit * value.mean:{form}}{name} (95 % interval {low} to {high}; chip by chip {listed})"


def _certificate(found: Found) -> list[str]:
    """What the bound is of, and how far the model that it belongs to is from the placement."""
    choice, off = found.choice, found.not_additive_j
    if choice.gap_j is None or found.gap_share is None:
        bound = "Gap to a bound: unknown, because the linear programme was not solved."
    else:
        bound = (
            f"Gap to the bound: {1e6 * choice.gap_j:.4g} µJ per token, {100 * found.gap_share:.2g} % of the "
            "placement's energy. The bound is of the additive model: where matrices' energies and shares of the loss "
            f"add up, no choice of these moves that leaves {choice.bar:.4g} nats per token or less needs less by more "
            "than this gap. It says nothing of other moves, or of what does not add up."
        )
    if abs(off) <= 1e-9 * found.energy_j:
        return [bound, "Its energies add up: as much as the placement costed as a whole."]
    return [
        bound,
        f"Its energies sum to {1e6 * choice.energy_j:+.4g} µJ over all in tiles; the placement costed as a whole has "
        f"{1e6 * found.added_j:+.4g} µJ, {1e6 * off:+.2g} µJ beside it.",
    ]
