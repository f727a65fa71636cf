"""report.md and its siblings: Markdown that a pull request shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aimc_sim.signoff.report.figures import measure_of
from aimc_sim.signoff.report.headline import WORDS, headline_of, interval_of, state_of
from aimc_sim.signoff.report.words import sig, spoken


def report_md(document: dict[str, Any]) -> str:
    """One task on one hardware."""
    verdict, of = document["verdict"], document["provenance"]
    shown, measure = headline_of(document), measure_of(verdict["metric"])
    model, task = of["weight_file"] or of["architecture"] or "model", document["statistics"]["task"]
    lines = [
        f"## {shown.word}: {cell(model)} on {cell(of['hardware'])}, {cell(task)}",
        "",
        cell(shown.summary),
        "",
        *table(("", ""), headline_rows(document)),
        "",
        *table(
            ("", f"Mean, {measure.many}", "95 % interval", "Upper bound", ""),
            (
                (
                    f"after {spoken(at['time_s'])}",
                    *figures(at[measure.key], at["upper_bound"], measure.scale),
                    _word_of(at, at[measure.key], verdict["margin"]),
                )
                for at in document["rows"]["times"]
            ),
        ),
        *_previous(document["previous"]),
        "",
        "<details><summary>Provenance</summary>",
        "",
        f"{cell(of['device'])} · hardware `{of['hardware_id']}` · plan `{document['plan']['id']}`",
        "",
        *fenced(document["command"]),
        "",
        "</details>",
    ]
    return "\n".join(lines) + "\n"


def _previous(found: dict[str, Any] | None) -> list[str]:
    """Lines about the previous release, if there is one."""
    if found is None:
        return []
    heading = f"### Against {cell(found['before']['name'])}"
    return ["", heading, "", cell(found["summary"]), "", *worsening(found, None)]


def summary_md(summary: dict[str, Any]) -> str:
    """All tasks and hardware variants, side by side."""
    rows = []
    for part in summary["parts"]:
        shown = headline_of({"verdict": part["verdict"], "statistics": part})
        rows.append(
            (
                f"**{shown.word}**", part["hardware"], part["task"],
                f"{shown.effect} ({shown.interval or 'no interval'}) {shown.unit}", shown.margin, shown.on_items,
                f"≥ {shown.population_bound}" if shown.population_bound else "–", shown.lifetime,
            )
        )  # fmt: skip
    head = ("", "Hardware", "Task", "Effect at worst", "Margin", "Passing", "Of all chips", "Lifetime")
    passing = sum(part["pass"] for part in summary["parts"])
    lines = [
        f"## {'Pass' if summary['pass'] else 'Fail'}: {passing} of {len(summary['parts'])} parts within their margins",
        "",
        *table(head, rows),
        *(["", *(f"- {cell(line)}" for line in summary["left_out"])] if summary["left_out"] else []),
        "",
        *fenced(summary["command"]),
    ]
    return "\n".join(lines) + "\n"


def compare_md(document: dict[str, Any]) -> str:
    """Two sign-offs."""
    word = "Comparison" if document["pass"] is None else WORDS[state_of(document)]
    lines = [f"## {word}: {cell(document['after']['name'])} against {cell(document['before']['name'])}"]
    for part in document["parts"]:
        lines += [
            "",
            f"### {cell(part['name'])}",
            "",
            cell(part["summary"]),
            "",
            *worsening(part, document["margin"]),
        ]
    lines += ["", *(f"- {cell(note)}" for note in document["notes"])]
    return "\n".join(lines).rstrip() + "\n"


def _word_of(at: dict[str, Any], figure: dict[str, Any], margin: float) -> str:
    """A time's verdict by itself, in the words of the page."""
    low = figure["interval_95"][0]
    return "pass" if at["pass"] else "not shown" if low is None or low <= margin else "fail"


def worsening(part: dict[str, Any], margin: float | None) -> list[str]:
    """The table of two sign-offs of one task on one hardware. margin: None where there is no verdict."""
    measure = measure_of(part["metric"])
    rows = [
        (
            f"after {spoken(at['time_s'])}",
            *(sig(measure.scale * at[side]) for side in ("before", "after")),
            *figures(at, at["upper_bound"], measure.scale),
            "–" if margin is None else _word_of(at, at, margin),
        )
        for at in part["times"]
    ]
    head = ("", "Before", "After", f"Worse by, {measure.many}", "95 % interval", "Upper bound", "")
    return table(head, rows)


def headline_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    """The first screen as rows of a table."""
    shown = headline_of(document)
    item = measure_of(document["verdict"]["metric"]).item
    population = (
        f"about {shown.population}, at least {shown.population_bound}" if shown.population else "unknown"
    )
    within = f"95 % interval {shown.interval}" if shown.interval else "no interval"
    return [
        (f"Effect after {shown.when}", f"{shown.effect} {shown.unit} ({within})"),
        ("Margin", f"{shown.margin} {shown.margin_unit}, upper bound {shown.bound}"),
        (f"Yield on these {item}s", f"{shown.on_items} (95 % interval {shown.on_items_interval} %)"),
        (f"Yield of all chips, on all {item}s", population),
        ("Lifetime within the margin", f"{shown.lifetime} ({shown.lifetime_shown})"),
    ]


def figures(value: dict[str, Any], bound: float | None, scale: float) -> tuple[str, str, str]:
    """Mean, interval and upper bound as they are shown."""
    within = interval_of(value["interval_95"], scale) or "–"
    return sig(scale * value["mean"]), within, sig(None if bound is None else scale * bound)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; what would end a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell(text) for text in line) + " |" for line in lines]


def cell(text: str) -> str:
    """A text on one line, in which nothing opens a tag, a link or another cell."""
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


def fenced(command: str) -> list[str]:
    """A command as a block of code."""
    fence = "```" if "```" not in command else "~~~~"
    return [fence, command or "run through Python: see the plan in report.json", fence]
