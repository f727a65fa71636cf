"""What clips on a chip, for the report: shares by matrix and by role, and the worst tile of each."""

from __future__ import annotations

from typing import Any

from aimc_sim.attribution.run import Result
from aimc_sim.chip.saturation import Saturation
from aimc_sim.evaluate.saturation import TOKENS


def of_matrix(saturation: Saturation | None) -> dict[str, Any]:
    """Return shares of inputs and conversions beyond their converter's range, and [row, column] of the worst tile.

    None where there is no such converter.
    """
    inputs = saturation is not None and saturation.inputs.sum()
    conversions = saturation is not None and saturation.conversions.sum()
    return {
        "inputs_clipped": saturation.input_share if saturation and inputs else None,
        "conversions_saturated": saturation.conversion_share if saturation and conversions else None,
        "worst_tile": list(saturation.worst_tile) if saturation and conversions else None,
        "worst_tile_saturated": saturation.worst_share if saturation and conversions else None,
    }


def of_roles(result: Result) -> dict[str, Any] | None:
    """Return shares by role on the first chip, and in each role the matrix and tile where most conversions saturate.

    None without a DAC, where nothing clips.
    """
    if not result.saturation:
        return None
    roles = []
    for role in dict.fromkeys(matrix.role for matrix in result.matrices):
        counts = {m.name: result.saturation[m.name] for m in result.matrices if m.role == role}
        worst = max(counts, key=lambda name: counts[name].worst_share)
        inputs, conversions = (
            sum(int(getattr(saturation, kind).sum()) for saturation in counts.values())
            for kind in ("inputs", "conversions")
        )
        clipped, saturated = (
            sum(int(getattr(saturation, f"{kind}_clipped").sum()) for saturation in counts.values())
            for kind in ("inputs", "conversions")
        )
        roles.append({
            "role": role,
            "inputs_clipped": clipped / inputs,
            "conversions_saturated": saturated / conversions if conversions else None,
            "worst": {"matrix": worst, **of_matrix(counts[worst])},
        })  # fmt: skip
    return {
        "tokens": min(TOKENS, sum(map(len, result.windows.rows))),
        "seed": result.study.seeds[0],
        "roles": roles,
    }
