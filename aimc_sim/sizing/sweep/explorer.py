"""explorer.html: one self-contained interactive page about a sweep, and the tables beside it."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.errors import BadInput
from aimc_sim.files import write_together
from aimc_sim.identity import finite_json
from aimc_sim.sizing.cost.warnings import warnings_of_designs
from aimc_sim.sizing.sweep.table import breakdowns, matrices, roles, table
from aimc_sim.units import format_duration

if TYPE_CHECKING:
    from aimc_sim.sizing.sweep.result import Sweep

TEMPLATES = Path(__file__).parent / "templates"


def check_plotly() -> None:
    """Raise BadInput where plotly is not installed, before hours are spent."""
    _plotly()


def write(sweep: Sweep, folder: Path) -> list[Path]:
    """Write points.csv, matrices.csv (where noise was measured) and explorer.html, all or none."""
    pages = {folder / "points.csv": table(sweep)}
    if sweep.noise:
        pages[folder / "matrices.csv"] = matrices(sweep)
    pages[folder / "explorer.html"] = render(sweep)
    write_together(pages)
    return list(pages)


def render(sweep: Sweep) -> str:
    """Write the page. It loads nothing: plotly's script, style and figures are inside."""
    chips = [designs.hardware for designs in sweep.space.variants]
    document: dict[str, Any] = {
        "columns": sweep.columns,
        "breakdown": breakdowns(sweep),
        "roles": roles(sweep),
        "command": sweep.command,
        "axes": list(sweep.plan.axes),
        "devices": {chip.name: chip.device.name for chip in chips} if len(chips) > 1 else {},
        "square": "rows" in sweep.plan.axes and "cols" not in sweep.plan.axes,
    }
    text = json.dumps(finite_json(document), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    model = sweep.workload.model.name
    parts = {
        "@TITLE@": escape(f"Designs for {model}"),
        "@HEADING@": escape(f"{len(sweep.space):,} designs for {model}"),
        "@LEAD@": escape(lead(sweep)),
        "@NOTES@": "\n".join(f'<p class="note">{escape(note)}</p>' for note in notes(sweep)),
        "@FRONT@": f"Large points are on the front: no other beats them in {'noise, ' if sweep.noise else ''}energy, "
        "latency and area.",
        "@FILES@": "All points and all figures are in <code>points.csv</code>"
        + (", the noise of every matrix in <code>matrices.csv</code>" if sweep.noise else "")
        + ", beside this page.",
        "@CSS@": (TEMPLATES / "explorer.css").read_text(encoding="utf-8"),
        "@DATA@": text.replace("<", "\\u003c"),  # nothing in it may end the script
        "@PLOTLY@": _plotly(),
        "@SCRIPT@": (TEMPLATES / "explorer.js").read_text(encoding="utf-8"),
    }
    page = (TEMPLATES / "explorer.html").read_text(encoding="utf-8")
    # One pass: what is put in is not searched again.
    return re.sub("@[A-Z]+@", lambda found: parts[found[0]], page)


def lead(sweep: Sweep) -> str:
    """Say what was computed and what was measured, in a sentence or three."""
    plan, scenario = sweep.plan, sweep.plan.scenario
    phase = "decoding" if scenario.get("phase", "decode") == "decode" else "reading a prompt"
    sentences = [
        f"Costs in closed forms, {phase} with a context of {scenario.get('context', 1024):,} tokens."
    ]
    if sweep.noise:
        sentences.append(
            f"Noise of every product of {len(sweep.noise):,} designs on chip {plan.seed}, "
            f"{format_duration(plan.time_s)} after programming: designs that differ in cost alone share it."
        )
    if sweep.losses:
        sentences.append(
            f"Perplexity of {len(sweep.losses):,} designs near the front, on the same chips and text."
        )
    return " ".join(sentences)


def notes(sweep: Sweep) -> list[str]:
    """Say what must be known before a figure is used."""
    notes = [f"{line}." for designs in sweep.space.variants for line in warnings_of_designs(designs)]
    if not sweep.noise:
        notes.append(
            "Accuracy was not measured, so few bits and large tiles look good for nothing: it is on no axis."
        )
    notes += [f"{count:,} points were left out: {why}." for why, count in sweep.space.dropped.items()]
    return list(dict.fromkeys(notes))


def _plotly() -> str:
    """Return Plotly's own script, about 5 MB."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise BadInput(
            "plotly", why="the explorer draws with it and it is not installed",
            do='pip install "aimc-sim[report]"',
        ) from None  # fmt: skip
    script: str = get_plotlyjs()
    return script
