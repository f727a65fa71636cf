"""How fast is a cost point, alone and among ten thousand?

The bar is a second for 10,000 points of Llama-3.2-1B (tiles, energy by component, latency, area), and a millisecond for
one, on one core. There is no rival here: public cost tools map one point in seconds to hours.
"""

from __future__ import annotations

import numpy as np

from aimc_sim.sizing import Designs, Workload, evaluate
from benchmarks.harness import Row, main, median_seconds

POINTS = 10_000
SMALLEST = {"POINTS": 16}


def totals(designs: Designs, workload: Workload) -> float:
    """Everything that a sweep keeps of its points."""
    cost = evaluate(designs, workload)
    kept = (cost.tiles, cost.utilisation, cost.conversions, cost.energy_per_token_j, cost.latency_per_token_s,
            cost.area_total_mm2, cost.tokens_per_s, cost.chips)  # fmt: skip
    return float(sum(array.sum() for array in kept))


def measure() -> tuple[list[Row], None]:
    """Seconds of a sweep, milliseconds of a point."""
    rows = []
    at = np.arange(POINTS)
    sweep = {
        "rows": 64 * (1 + at % 16), "cols": 64 * (1 + at // 16 % 16), "adc_bits": 5 + at % 5, "dac_bits": 4 + at % 5,
        "adcs_per_tile": 1 + at % 64,
    }  # fmt: skip
    for model in ("Llama-3.2-1B", "DeepSeek-V3"):
        workload = Workload.of(model)
        for hardware in ("hermes-256", "pcm-512"):
            seconds = median_seconds(lambda: totals(Designs.of(hardware, **sweep), workload))  # noqa: B023
            rows.append(Row(f"{POINTS:,} points, {model}, {hardware}", seconds, "s", 1.0))
    one, workload = Designs.of("hermes-256"), Workload.of("Llama-3.2-1B")
    rows.append(Row("one point", median_seconds(lambda: totals(one, workload), 201) * 1e3, "ms", 1.0))
    return rows, None


if __name__ == "__main__":
    main(__doc__.splitlines()[0] if __doc__ else "", measure)
