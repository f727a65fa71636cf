"""One model of a weight file in this process, on chip after chip."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aimc_sim.aliases import Progress
from aimc_sim.chip import ChipState
from aimc_sim.chip.ranges import Ranges
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.metrics import OnBatch, Reference, WindowScores, score
from aimc_sim.evaluate.windows import Windows
from aimc_sim.hardware import Hardware
from aimc_sim.programming import program
from aimc_sim.torch_bridge.model import build_model, load_digital, mount
from aimc_sim.torch_bridge.streaming import StreamedModel
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.analog import analog_matrices


class Bench:
    """A bench mounts chip after chip of a weight file on one model, and scores them.

    streamed: whether models go through memory layer by layer; scores do not depend on it.

        bench = Bench("model.h5")
        for seed in range(20):
            bench.mount("hermes-256", seed, "1d")
            print(bench.score(windows).loss)
    """

    def __init__(self, weight_file: WeightFile | str | os.PathLike[str], *, streamed: bool = False) -> None:
        self.weight_file = WeightFile.of(weight_file)
        self.streamed = streamed
        self._model: Any = None  # of transformers, or a `StreamedModel`
        self._state: ChipState | None = None
        self._analog: tuple[str, ...] = ()  # matrices of the model that run in tiles

    def mount(
        self,
        hardware: Hardware | str | Path | Mapping[str, Any] | None = None,
        seed: int = 0,
        time: float | str = 0.0,
        *,
        session: int = 0,
        ranges: Ranges | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Mount the chip of a seed as it is at one time, and return the model. Arguments are those of `load_model`.

        What is mounted already stays; the model is built again only where other matrices run in tiles.
        """
        chip = program(self.weight_file, seed, hardware, ranges=ranges, progress=progress)
        state = chip.at(time, session)
        if self._state == state:
            return self._model
        self._state = None  # a chip that is half mounted is none
        if self.streamed:
            self._model = None
            self._model = StreamedModel(self.weight_file, state)
        else:
            analog = tuple(matrix.name for matrix in analog_matrices(self.weight_file, chip.hardware))
            if self._model is None or self._analog != analog:
                self._model = None
                self._model, self._analog = build_model(self.weight_file, chip.hardware), analog
            mount(self._model, state)
        self._state = state
        return self._model

    @property
    def state(self) -> ChipState:
        """The chip that is mounted, as it is at one time. Raises BadInput where none is."""
        return self._mounted[1]

    @property
    def _mounted(self) -> tuple[Any, ChipState]:
        if self._state is None:
            raise BadInput("bench", why="no chip is mounted", do="call mount(hardware, seed, time) first")
        return self._model, self._state

    def load_digital(self) -> Any:
        """Load the digital model, which leaves what is mounted as it is."""
        return StreamedModel(self.weight_file) if self.streamed else load_digital(self.weight_file)

    def score(
        self,
        windows: Windows,
        batch: int | None = None,
        *,
        reference: Reference | None = None,
        on_batch: OnBatch | None = None,
    ) -> WindowScores:
        """Score what is mounted on every window: `metrics.score`. Raises BadInput where nothing is."""
        return score(self._mounted[0], windows, batch, reference=reference, on_batch=on_batch)
