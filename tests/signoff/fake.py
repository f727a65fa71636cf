"""A bench without a model: scores that follow the crossed model exactly, so that figures can be checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from aimc_sim.evaluate.windows import Windows, from_sequences
from aimc_sim.signoff.bench import Outcome
from aimc_sim.signoff.plan import Cell, Plan
from aimc_sim.signoff.run import Result, run_cells
from aimc_sim.signoff.tasks import CellScores, windows_to_json
from aimc_sim.torch_bridge.coverage import ANALOG, ATTENTION, LOOKUP, Coverage, CoverageRow

TOKENS = 20


class FakeBench:
    """Per token: KL = 0.1 for converters, and for chip s after t seconds 0.2 + 0.05·log10(t) + 0.01·s + 0.02·window."""

    ranges_id = "0123456789abcdef"

    def __init__(self, windows: int = 6) -> None:
        self.windows: Windows = from_sequences(np.tile(np.arange(TOKENS + 1, dtype=np.int32), (windows, 1)))
        self.asked: list[Cell] = []

    def items(self, plan: Plan) -> dict[str, Any]:
        return {task.label: windows_to_json(self.windows) for task in plan.tasks}

    def run(self, cell: Cell, on_step: Callable[[], None]) -> Outcome:
        self.asked.append(cell)
        for _ in range(2):
            on_step()
        window = np.arange(len(self.windows))
        facts = {}
        if cell.kind == "digital":
            kl = 0.0 * window
        elif cell.kind == "converters":
            kl = 0.1 + 0.0 * window
            facts = {
                f"coverage/{cell.variant}": asdict(self.coverage()),
                f"ranges_id/{cell.variant}": self.ranges_id,
            }
        else:
            assert cell.seed is not None
            assert cell.time_s is not None
            kl = 0.2 + 0.05 * math.log10(cell.time_s + 1) + 0.01 * cell.seed + 0.02 * window
        agree = np.round(TOKENS * np.exp(-kl)).astype(np.int64)
        scores = CellScores({"nll": (3.0 + 0.5 * kl) * TOKENS, "kl": kl * TOKENS, "agree": agree})
        return Outcome(scores, facts, {"program_and_mount": 0.001, "score": 0.002})

    def coverage(self) -> Coverage:
        rows = (
            CoverageRow("model.embed_tokens", LOOKUP, "embedding", (258, 64), 0.0, 1),
            CoverageRow("model.layers.0.mlp.up_proj", ANALOG, "tiles", (64, 96), 6144.0, 1),
            CoverageRow("model.layers.1.mlp.up_proj", ANALOG, "tiles", (64, 96), 6144.0, 1),
            CoverageRow("model.layers.0.self_attn", ATTENTION, "bmm", (12, 64), 768.0, 2),
        )
        return Coverage(rows, 12)


def run_fake(plan: Plan, bench: FakeBench | None = None, progress: Any = None) -> Result:
    """The one result of a plan on the fake bench."""
    bench = FakeBench() if bench is None else bench
    return run_cells(plan, bench, bench.items(plan), progress).only
