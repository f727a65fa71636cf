"""``aimc-sim explain FILE``: what each effect of a hardware costs, as a waterfall."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import typer

from aimc_sim.cli.console import print_account, print_json, progress_bars
from aimc_sim.errors import BadInput
from aimc_sim.units import format_duration, parse_duration

BAR = 24  # characters of a bar's track


def command(
    file: Path = typer.Argument(help="A weight file."),
    hardware: str | None = typer.Option(None, help="A preset or TOML file instead of the file's default."),
    seeds: int = typer.Option(3, "--seeds", help="How many chips are simulated, the same for every set."),
    time: str = typer.Option("1d", "--time", help="Time since programming: 30s, 1h, 1d, 1y."),
    tokens: int | None = typer.Option(
        None, help="Tokens of text; of the calibration text 1,024 unless told."
    ),
    text: Path | None = typer.Option(None, "--text", help="Score this text, not the calibration text."),
    context: int | None = typer.Option(None, help="Tokens a window of --text; 1,024 unless told."),
    seed: int = typer.Option(0, help="Seed of the first chip; the others count on from it."),
    session: int = typer.Option(0, help="Which draw of the frozen 1/f noise."),
    batch: int | None = typer.Option(None, help="Windows a forward; by default about 1,024 tokens."),
    output: Path | None = typer.Option(
        None, "-o", "--output", help="Folder for explain.html, explain.json, effects.csv and matrices.csv."
    ),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Show what each effect of a hardware costs, as a waterfall."""
    from aimc_sim.attribution.study import make_study
    from aimc_sim.evaluate.text import file_text
    from aimc_sim.hardware import Hardware
    from aimc_sim.weightfile import WeightFile

    time_s = parse_duration(time)
    if context is not None and text is None:
        raise BadInput(
            "--context",
            got=context,
            why="the calibration text has windows of its own",
            do="leave it out, or give --text",
        )
    weights = WeightFile(file)
    chosen = weights.hardware if hardware is None else Hardware.load(hardware)
    study = make_study(
        weights, chosen, seeds=seeds, first_seed=seed, time_s=time_s, tokens=tokens, session=session, batch=batch,
        text=None if text is None else file_text(text, tokens), context_tokens=context,
    )  # fmt: skip

    from aimc_sim.attribution.report import document_of, write
    from aimc_sim.attribution.run import run_study
    from aimc_sim.report.pages import prepare_folder

    if output is not None:
        prepare_folder(output)
    with progress_bars(quiet=as_json) as report:
        result = run_study(study, weights, text_path=text, progress=report)
    document = document_of(result, weights, _command_line(file, study, hardware, text))
    paths = () if output is None else write(document, output)
    if as_json:
        print_json(document)
        return
    print_account({**result.account, "notes": []})
    _print(document, paths)


def _command_line(file: Path, study: Any, hardware: str | None, text: Path | None) -> str:
    """The line that makes the same files again."""
    parts = [
        "aimc-sim",
        "explain",
        str(file),
        "--seeds",
        str(len(study.seeds)),
        "--time",
        _exact(study.time_s),
    ]
    parts += [] if hardware is None else ["--hardware", hardware]
    if text is not None:
        parts += ["--text", str(text), "--context", str(study.context)]
    count = study.tokens if study.text is None else study.text.limit_tokens
    parts += [] if count is None else ["--tokens", str(count)]
    for option, value in (("--seed", study.seeds[0]), ("--session", study.session)):
        parts += [option, str(value)] if value else []
    return shlex.join([*parts, "--batch", str(study.batch), "-o", "OUT"])


def _exact(seconds: float) -> str:
    """A duration that parses back to the same number."""
    named = format_duration(seconds)
    return named if parse_duration(named) == seconds else f"{seconds!r}s"


def _print(document: dict[str, Any], paths: tuple[Path, ...]) -> None:
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(document["summary"], markup=False)
    console.print()
    console.print(
        "KL from the digital model, nats per token, ± half of its 95 % interval over chips", style="italic"
    )
    console.print(_waterfall(document, bar=console.width >= 110))
    console.print()
    console.print(
        "SNR of the products, dB: median over the matrices of a role, each effect alone and all",
        style="italic",
    )
    console.print(_ratios(document))
    console.print()
    if document["saturation"] is not None:
        first = f"chip {document['saturation']['seed']}, first {document['saturation']['tokens']:,} tokens"
        console.print(f"What clips with all effects on: {first}", style="italic")
        console.print(_clips(document, bar=console.width >= 110))
        console.print()
    for note in document["notes"]:
        console.print(f"note: {note}", markup=False, style="dim")
    for path in reversed(paths):
        console.print(str(path), markup=False, soft_wrap=True)


def _waterfall(document: dict[str, Any], bar: bool) -> Any:
    """The table of effects; ``bar``: with the waterfall drawn beside their names."""
    from rich.table import Table
    from rich.text import Text

    from aimc_sim.attribution.words import places, share
    from aimc_sim.signoff.report.words import perplexity_text

    kl, decimals = document["kl_nats"], places(document)
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ("effect", "", "step", "share", "perplexity", "alone", "won back")
    for index, column in enumerate(columns):
        if bar or index != 1:
            table.add_column(column, justify="left" if index < 2 else "right")

    def add(*cells: str, style: str = "") -> None:
        table.add_row(*(Text(cell) for i, cell in enumerate(cells) if bar or i != 1), style=style)

    def error(figure: dict[str, Any]) -> str:
        return _with_error(figure, decimals)

    before = kl["start"]["mean"]
    top = max([kl["total"]["mean"], *(effect["kl_nats"]["total"]["mean"] for effect in document["effects"])])
    add("exact tiles", "", error(kl["start"]), "", perplexity_text(document["perplexity"]["digital"]), "", "")
    for effect in document["effects"]:
        part = effect["kl_nats"]
        after = part["total"]["mean"]
        add(
            effect["name"], _bar(before, after, top), error(part["step"]), share(effect["share"]),
            perplexity_text(effect["perplexity"]), error(part["alone"]), error(part["won_back"]),
        )  # fmt: skip
        before = after
    chip = perplexity_text(document["perplexity"]["chip"])
    ends = (error(kl["total"]), "", chip, error(kl["alone_sum"]), "")
    add("total", _bar(0.0, kl["total"]["mean"], top), *ends, style="bold")
    add("interaction", "", "", "", "", error(kl["interaction"]), "")
    return table


def _ratios(document: dict[str, Any]) -> Any:
    """The table of ratios: a column a role, a row an effect."""
    from rich.table import Table

    from aimc_sim.attribution.words import db

    roles = document["snr_db"]["roles"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("effect")
    for role in roles:
        table.add_column(role["role"], justify="right")
    for effect in document["effects"]:
        table.add_row(effect["name"], *(db(role["alone"][effect["effect"]]["median"]) for role in roles))
    table.add_row("all", *(db(role["all"]["median"]) for role in roles), style="bold")
    table.add_row("all, worst", *(db(role["all"]["worst"]) for role in roles))
    return table


def _clips(document: dict[str, Any], bar: bool) -> Any:
    """The table of what clips: a row a role; ``bar``: with the share of saturated conversions drawn."""
    from rich.table import Table

    from aimc_sim.attribution.words import rare

    roles = document["saturation"]["roles"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(
        ("role", "inputs", "conversions", "", "worst tile", "of matrix", "row, column")
    ):
        if bar or index != 3:
            table.add_column(column, justify="right" if index in (1, 2, 4) else "left")
    top = max((role["conversions_saturated"] or 0.0 for role in roles), default=0.0)
    for role in roles:
        worst, share = role["worst"], role["conversions_saturated"]
        tile = worst["worst_tile_saturated"]
        where = (worst["matrix"], "{}, {}".format(*worst["worst_tile"])) if tile else ("", "")
        cells = [
            role["role"],
            rare(role["inputs_clipped"]),
            rare(share),
            _bar(0.0, share, top) if share else "",
        ]
        table.add_row(*(cell for i, cell in enumerate((*cells, rare(tile), *where)) if bar or i != 3))
    return table


def _with_error(figure: dict[str, Any], decimals: int) -> str:
    """0.849 ± 0.137; without chance or from one chip, the mean alone."""
    from aimc_sim.attribution.words import loss

    low, high = figure["interval_95"]
    mean = loss(figure["mean"], decimals)
    return mean if low is None or high == low else f"{mean} ± {loss((high - low) / 2, decimals)}"


def _bar(before: float, after: float, top: float) -> str:
    """A bar from one value to another on a track from 0 to ``top``, to an eighth of a character at its end."""
    if top <= 0:
        return ""
    low, high = (min(max(value / top, 0.0), 1.0) * BAR for value in sorted((before, after)))
    start = min(int(low), BAR - 1)
    eighths = max(round(8 * (high - low)), 1)
    full, rest = divmod(eighths, 8)
    return " " * start + "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
