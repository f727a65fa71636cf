"""A bench without a model: scores that follow the crossed model exactly, so that figures can be checked."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from aimc_sim.evaluate.metrics import WindowScores
from aimc_sim.evaluate.windows import Windows, from_sequences
from aimc_sim.signoff.plan import Cell
from aimc_sim.torch_bridge.coverage import ANALOG, ATTENTION, LOOKUP, Coverage, CoverageRow

TOKENS = 20


class FakeBench:
    """Per token: KL = 0.1 for converters, and for chip s after t seconds 0.2 + 0.05·log10(t) + 0.01·s + 0.02·window."""

    steps = 3
    ranges_id: str | None = "0123456789abcdef"

    def __init__(self, windows: int = 6) -> None:
        self.windows: Windows = from_sequences(np.tile(np.arange(TOKENS + 1, dtype=np.int32), (windows, 1)))
        self.asked: list[Cell] = []

    def scores(self, cell: Cell, on_step: Callable[[], None]) -> WindowScores:
        self.asked.append(cell)
        for _ in range(self.steps):
            on_step()
        window = np.arange(len(self.windows))
        tokens = np.full(len(window), TOKENS)
        if cell.kind == "digital":
            kl = 0.0 * window
        elif cell.kind == "converters":
            kl = 0.1 + 0.0 * window
        else:
            assert cell.seed is not None
            assert cell.time_s is not None
            kl = 0.2 + 0.05 * math.log10(cell.time_s + 1) + 0.01 * cell.seed + 0.02 * window
        nll = (3.0 + 0.5 * kl) * TOKENS
        return WindowScores(nll, tokens, kl * TOKENS, np.round(TOKENS * np.exp(-kl)).astype(np.int64))

    def coverage(self) -> Coverage:
        rows = (
            CoverageRow("model.embed_tokens", LOOKUP, "embedding", (258, 64), 0.0, 1),
            CoverageRow("model.layers.0.mlp.up_proj", ANALOG, "tiles", (64, 96), 6144.0, 1),
            CoverageRow("model.layers.1.mlp.up_proj", ANALOG, "tiles", (64, 96), 6144.0, 1),
            CoverageRow("model.layers.0.self_attn", ATTENTION, "bmm", (12, 64), 768.0, 2),
        )
        return Coverage(rows, 12)
