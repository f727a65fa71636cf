"""Signal-to-noise ratios layer by layer, as inline SVG, and by role, as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from aimc_sim.report.svg import WIDE, Scale, drawing, text_at, ticks


def by_layer(document: dict[str, Any], width: int) -> str:
    """A dot for each matrix over its layer, a line through each layer's noisiest one."""
    rows = [row for row in document["layers"]["matrices"] if row["snr_db"] is not None]
    height, left, right, top, bottom = (300 if width == WIDE else 260), 44, 14, 26, 44
    layers = sorted({row["layer"] for row in rows if row["layer"] is not None})
    outside = [row for row in rows if row["layer"] is None]
    places = {layer: float(index) for index, layer in enumerate(layers)}
    last = float(len(layers) + (0.6 if outside else 0) - (0 if outside else 1))
    values = [row["snr_db"] for row in rows]
    room = max(max(values) - min(values), 2.0)
    x = Scale(-0.5, max(last, 0.0) + 0.5, left, width - right)
    y = Scale(min(0.0, min(values) - 0.1 * room), max(values) + 0.1 * room, height - bottom, top)
    parts = []
    for value in ticks(y):
        kind = "base" if value == 0 else "grid"
        parts.append(
            f'<line class="{kind}" x1="{left}" x2="{width - right}" y1="{y(value)}" y2="{y(value)}"/>'
        )
        parts.append(text_at(left - 8, y(value) + 4, f"{value:g}", "label", "end"))
    every = max(1, math.ceil(len(layers) * 26 / (width - left - right)))
    for layer in layers[::every]:
        parts.append(text_at(x(places[layer]), height - bottom + 18, str(layer), "label", "middle"))
    if outside:
        parts.append(text_at(x(last), height - bottom + 18, "head", "label", "middle"))
    parts.append(text_at((left + width - right) / 2, height - 6, "layer", "axis", "middle"))
    for row in rows:
        at = last if row["layer"] is None else places[row["layer"]]
        parts.append(f'<circle class="chip" cx="{x(at)}" cy="{y(row["snr_db"])}" r="3.4"/>')
    worst = {layer: min(row["snr_db"] for row in rows if row["layer"] == layer) for layer in layers}
    if len(worst) > 1:
        line = " ".join(f"{x(places[layer])},{y(value)}" for layer, value in worst.items())
        parts.append(f'<polyline class="mean" points="{line}"/>')
    parts.append(text_at(0, 14, "SNR of a product, dB (higher is cleaner)", "axis", "start"))
    noisiest = min(rows, key=lambda row: row["snr_db"])
    description = (
        f"{len(rows)} matrices over {len(layers)} layers, from {min(values):.1f} to {max(values):.1f} dB. "
        f"The noisiest is {noisiest['name']}."
    )
    return drawing(f"layers-{width}", width, height, "Signal-to-noise ratio by layer", description, parts)


def by_role(layers: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a table: matrices of one role, in the order in which roles first occur."""
    rows = []
    for role in dict.fromkeys(row["role"] for row in layers["matrices"]):
        mine = [row for row in layers["matrices"] if row["role"] == role]
        heard = [row for row in mine if row["snr_db"] is not None]
        worst = min(heard, key=lambda row: row["snr_db"]) if heard else None
        rows.append(
            {
                "role": role,
                "matrices": len(mine),
                "median": median(row["snr_db"] for row in heard) if heard else None,
                "worst": None if worst is None else worst["snr_db"],
                "where": "" if worst is None else worst["name"],
                "inputs": _most([row["inputs_clipped"] for row in mine]),
                "conversions": _most([row["conversions_saturated"] for row in mine]),
            }
        )
    return rows


def _most(shares: Sequence[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return max(known) if known else None
