"""report.md and its siblings: Markdown that a pull request shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aimc_sim.report.words import spoken
from aimc_sim.signoff.report.figures import Measure, measure_of
from aimc_sim.signoff.report.headline import WORDS, Headline, headline_of, state_of


def report_md(document: dict[str, Any]) -> str:
    """Write the page of one task on one hardware."""
    verdict, of, statistics = document["verdict"], document["provenance"], document["statistics"]
    shown, measure = headline_of(verdict, statistics), measure_of(verdict["metric"])
    model, previous = of["weight_file"] or of["architecture"] or "model", document["previous"]
    head = ("", f"Mean, {measure.many}", "95 % interval", "Upper bound", "")
    rows = (
        (
            f"after {spoken(at['time_s'])}",
            *_figures(at[measure.key], at["upper_bound"], measure),
            _word_of(at, at[measure.key], verdict["margin"]),
        )
        for at in document["rows"]["times"]
    )
    lines = [
        f"## {shown.word}: {cell(model)} on {cell(of['hardware'])}, {cell(statistics['task'])}",
        cell(shown.summary),
        _table(("", ""), _headline_rows(shown, measure)),
        _table(head, rows),
    ]
    if previous is not None:
        lines += [f"### Against {cell(previous['before']['name'])}", cell(previous["summary"])]
        lines.append(_worsening(previous, None))
    lines += [
        "<details><summary>Provenance</summary>",
        f"{cell(of['device'])} · hardware `{of['hardware_id']}` · plan `{document['plan']['id']}`",
        _fence(document["command"]),
        "</details>",
    ]
    return _paragraphs(lines)


def summary_md(summary: dict[str, Any]) -> str:
    """Write the page of all tasks and hardware variants, side by side."""
    rows = []
    for part in summary["parts"]:
        shown = headline_of(part["verdict"], part)
        rows.append(
            (
                f"**{shown.word}**", part["hardware"], part["task"],
                f"{shown.effect} ({shown.interval or 'no interval'}) {shown.unit}", shown.margin, shown.on_items,
                f"≥ {shown.population_bound}" if shown.population_bound else "–", shown.lifetime,
            )
        )  # fmt: skip
    head = ("", "Hardware", "Task", "Effect at worst", "Margin", "Passing", "Of all chips", "Lifetime")
    passing = sum(part["pass"] for part in summary["parts"])
    return _paragraphs(
        [
            f"## {'Pass' if summary['pass'] else 'Fail'}: {passing} of {len(rows)} parts within their margins",
            _table(head, rows),
            _list(summary["left_out"]),
            _fence(summary["command"]),
        ]
    )


def compare_md(document: dict[str, Any]) -> str:
    """Write the page that compares two sign-offs."""
    word = "Comparison" if document["pass"] is None else WORDS[state_of(document)]
    lines = [f"## {word}: {cell(document['after']['name'])} against {cell(document['before']['name'])}"]
    for part in document["parts"]:
        lines += [f"### {cell(part['name'])}", cell(part["summary"]), _worsening(part, document["margin"])]
    return _paragraphs([*lines, _list(document["notes"])])


def _word_of(at: dict[str, Any], figure: dict[str, Any], margin: float) -> str:
    """Name a time's verdict by itself, in the words of the page."""
    low = figure["interval_95"][0]
    return "pass" if at["pass"] else "not shown" if low is None or low <= margin else "fail"


def _worsening(part: dict[str, Any], margin: float | None) -> str:
    """Write the table of two sign-offs of one task on one hardware. margin: None where there is no verdict."""
    measure = measure_of(part["metric"])
    rows = [
        (
            f"after {spoken(at['time_s'])}",
            *(measure.write(at[side]) for side in ("before", "after")),
            *_figures(at, at["upper_bound"], measure),
            "–" if margin is None else _word_of(at, at, margin),
        )
        for at in part["times"]
    ]
    head = ("", "Before", "After", f"Worse by, {measure.many}", "95 % interval", "Upper bound", "")
    return _table(head, rows)


def _headline_rows(shown: Headline, measure: Measure) -> list[tuple[str, str]]:
    """Return the first screen as rows of a table."""
    population = (
        f"about {shown.population}, at least {shown.population_bound}" if shown.population else "unknown"
    )
    within = f"95 % interval {shown.interval}" if shown.interval else "no interval"
    return [
        (f"Effect after {shown.when}", f"{shown.effect} {shown.unit} ({within})"),
        ("Margin", f"{shown.margin} {shown.margin_unit}, upper bound {shown.bound}"),
        (f"Yield on these {measure.item}s", f"{shown.on_items} (95 % interval {shown.on_items_interval} %)"),
        (f"Yield of all chips, on all {measure.item}s", population),
        ("Lifetime within the margin", f"{shown.lifetime} ({shown.lifetime_shown})"),
    ]


def _figures(value: dict[str, Any], bound: float | None, measure: Measure) -> tuple[str, str, str]:
    """Write the mean, interval and upper bound as they are shown."""
    return measure.write(value["mean"]), measure.span(value["interval_95"]) or "–", measure.write(bound)


def _paragraphs(blocks: Iterable[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table as one block; what would end a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines)


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {cell(line)}" for line in lines)


def cell(text: str) -> str:
    """Write a text on one line, in which nothing opens a tag, a link or another cell."""
    for letter, written in (
        ("\u200b", ""),
        ("\n", " "),
        ("\\", "\\\\"),
        ("|", "\\|"),
        ("<", "&lt;"),
        ("[", "\\["),
    ):
        text = text.replace(letter, written)
    return text


def _fence(command: str) -> str:
    """Write a command as a block of code."""
    fence = "```" if "```" not in command else "~~~~"
    return "\n".join((fence, command or "run through Python: see the plan in report.json", fence))
