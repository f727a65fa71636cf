"""What ``aimc-sim signoff`` prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def print_report(document: dict[str, Any], paths: Sequence[Path]) -> None:
    """The report on stdout: a table, the verdict, the notes, and where the files are."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(_of_questions(document["rows"]) if "questions" in document else _of_text(document["rows"]))
    verdict = document["verdict"]
    console.print()
    console.print(
        Text("PASS" if verdict["pass"] else "FAIL", style="bold green" if verdict["pass"] else "bold red")
    )
    console.print(verdict["summary"], markup=False)
    for line in against_previous([document]):
        console.print(line, markup=False)
    for note in document["notes"]:
        console.print(f"note: {note}", markup=False, style="dim")
    for path in reversed(paths):
        console.print(str(path), markup=False, soft_wrap=True)


def against_previous(documents: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each report that has a partner in the previous release."""
    return [
        f"against {found['before']['name']}, {found['name']}: {found['summary']}"
        for found in (document["previous"] for document in documents)
        if found is not None
    ]


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", title=None)
    for column in ("", *columns):
        table.add_column(column, justify="left" if not column else "right")
    return table


def _of_questions(rows: dict[str, Any]) -> Table:
    """Accuracy of every model, and how many answers were lost and won against the digital one."""
    from rich.text import Text

    def row(name: str | Text, marks: dict[str, Any]) -> None:
        table.add_row(
            name, percent(marks["acc"]), percent(marks["loss"]), str(marks["lost"]), str(marks["won"])
        )

    def percent(share: float) -> str:
        return f"{100 * share:.1f} %"

    table = _table("accuracy", "loss", "lost", "won")
    row("digital", rows["digital"])
    row("converters only (ideal cells)", rows["converters_only"])
    for at in rows["times"]:
        low, high = at["loss"]["interval_95"]
        between = "" if low is None or high is None else f" ({percent(low)} to {percent(high)})"
        table.add_row(
            _chips_at(at),
            percent(at["acc"]["mean"]),
            percent(at["loss"]["mean"]) + between,
            "",
            "",
        )
        for chip in at["chips"]:
            row(Text(f"  seed {chip['seed']}", style="dim"), chip)
    return table


def _chips_at(at: dict[str, Any]) -> Text:
    """What the row of a time is called."""
    from rich.text import Text

    count = len(at["chips"])
    return Text(f"{count} {'chip' if count == 1 else 'chips'}, {at['time']}", style="bold")


def _of_text(rows: dict[str, Any]) -> Table:
    """Figures of every model on a text."""
    from rich.text import Text

    from aimc_sim.signoff.report.words import nats_text, perplexity_text

    table = _table("perplexity", "KL, nats", "agreement")
    table.add_row("digital", *_figures(rows["digital"]))
    table.add_row("converters only (ideal cells)", *_figures(rows["converters_only"]))
    for at in rows["times"]:
        low, high = at["kl_nats"]["interval_95"]
        between = "" if low is None or high is None else f" ({nats_text(low)} to {nats_text(high)})"
        table.add_row(
            _chips_at(at),
            perplexity_text(at["perplexity"]["mean"]),
            f"{nats_text(at['kl_nats']['mean'])}{between}",
            f"{100 * at['agreement']['mean']:.1f} %",
        )
        for chip in at["chips"]:
            table.add_row(Text(f"  seed {chip['seed']}", style="dim"), *_figures(chip))
    return table


def _figures(scores: dict[str, Any]) -> tuple[str, str, str]:
    from aimc_sim.signoff.report.words import nats_text, perplexity_text

    return (
        perplexity_text(scores["perplexity"]),
        nats_text(scores["kl_nats"]),
        f"{100 * scores['agreement']:.1f} %",
    )


def print_parts(documents: Sequence[dict[str, Any]], summary: dict[str, Any], paths: Sequence[Path]) -> None:
    """One line a task and hardware, side by side."""
    from aimc_sim.cli.console import print_table
    from aimc_sim.signoff.report.headline import headline_of

    rows = []
    for part in summary["parts"]:
        shown = headline_of({"verdict": part["verdict"], "statistics": part})
        rows.append(
            (
                part["hardware"],
                part["task"],
                shown.word.lower() if part["decision"] == "fixed" else part["decision"],
                f"{shown.effect} (at most {shown.bound}) {shown.unit}",
                shown.on_items.removesuffix(" chips").removesuffix(" chip"),
                f"{shown.lifetime} ({shown.lifetime_shown})",
            )
        )
    print_table(("hardware", "task", "verdict", "loss at worst", "chips passing", "lifetime"), rows)
    typer.echo("PASS" if summary["pass"] else "FAIL")
    for line in against_previous(documents):
        typer.echo(line)
    for path in paths:
        typer.echo(str(path))
