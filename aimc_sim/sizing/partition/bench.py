"""One model in which any matrix can be analog or digital from one forward pass to the next, on chip after chip."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aimc_sim.aliases import F64
from aimc_sim.calibrate import ranges_for
from aimc_sim.chip.ranges import needs_ranges
from aimc_sim.evaluate.metrics import Reference, score
from aimc_sim.evaluate.windows import Windows
from aimc_sim.hardware import Hardware
from aimc_sim.programming import program
from aimc_sim.torch_bridge.linear import TileLinear
from aimc_sim.torch_bridge.model import build_model, load_digital
from aimc_sim.weightfile import WeightFile

Held = tuple[str, ...] | dict[str, str]  # analog matrices, or how each of them is held


@dataclass(frozen=True)
class Scores:
    """(windows,) sums over their tokens, in nats: kl, the divergence from the digital model, and nll, the loss."""

    kl: F64
    nll: F64

    def to_json(self) -> dict[str, list[float]]:
        """Plain lists."""
        return {"kl": self.kl.tolist(), "nll": self.nll.tolist()}


class PlacementBench:
    """Scores sets of analog matrices, each held as the hardware says or as one of ``moves`` does, by its label.

    A matrix is programmed once a chip and way; a set of them costs one forward pass.
    """

    def __init__(
        self, weight_file: WeightFile, hardware: Hardware, windows: Windows, time_s: float,
        moves: Mapping[str, Hardware] | None = None,
    ) -> None:  # fmt: skip
        self._weights, self._time_s = weight_file, time_s
        self._ways = {"": hardware, **(moves or {})}
        self._model: Any = build_model(weight_file, hardware)
        self._analog = {
            module.matrix_name: module for module in self._model.modules() if isinstance(module, TileLinear)
        }
        digital: Any = load_digital(weight_file)
        self._digital = {name: digital.get_submodule(name) for name in self._analog}
        self._batch = max(1, 1024 // max(len(row) for row in windows.rows))
        self._reference = Reference(digital, windows, self._batch)
        self._mounted: dict[str, tuple[int, bool, str]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Matrices that may be analog."""
        return tuple(self._analog)

    @property
    def digital(self) -> Scores:
        """Of the digital model."""
        scores = self._reference.scores
        return Scores(np.zeros(len(scores.nll)), scores.nll)

    def score(self, seed: int, analog: Collection[str] | Mapping[str, str], *, ideal: bool = False) -> Scores:
        """Of the chip ``seed`` with only these matrices in tiles; of a mapping, each held as its label says.

        ideal: the same converters around ideal cells.
        """

        chips: dict[str, Any] = {}
        for name in analog:
            way = analog[name] if isinstance(analog, Mapping) else ""
            if self._mounted.get(name) == (seed, ideal, way):
                continue
            if way not in chips:
                chips[way] = self._chip(seed, ideal, way)
            self._mounted.pop(name, None)
            self._analog[name].unmount()  # one at a time in memory
            self._analog[name].mount(chips[way].tiles(name))
            self._mounted[name] = (seed, ideal, way)
        self._arrange(
            {name: (self._analog if name in analog else self._digital)[name] for name in self._analog}
        )
        found = score(self._model, self._reference.windows, self._batch, reference=self._reference)
        assert found.kl is not None
        return Scores(found.kl, found.nll)

    def close(self) -> None:
        """Delete the digital model's logits."""
        self._reference.close()

    def _chip(self, seed: int, ideal: bool, way: str) -> Any:
        hardware = self._ways[way]
        ranges = ranges_for(self._weights, hardware) if needs_ranges(hardware) else {}
        chosen = hardware.with_ideal_cells() if ideal else hardware
        return program(self._weights, seed, chosen, ranges=ranges).at(self._time_s)

    def _arrange(self, modules: Mapping[str, Any]) -> None:
        for name, module in modules.items():
            parent, _, leaf = name.rpartition(".")
            setattr(self._model.get_submodule(parent), leaf, module)


@dataclass(frozen=True)
class Task:
    """Sets to score on one chip: key → analog matrices, or how each is held; "converters" has ideal cells."""

    seed: int
    sets: Mapping[str, Held]


class Worker:
    """What one process does: a task in, {"loss/seed/key": scores} out."""

    def __init__(
        self, path: Path, hardware: Hardware, windows: Windows, time_s: float, moves: Mapping[str, Hardware]
    ) -> None:
        self._bench = PlacementBench(WeightFile(path), hardware, windows, time_s, moves)

    def __call__(self, task: Task) -> dict[str, Any]:
        found = {}
        for key, analog in task.sets.items():
            if key == "digital":
                found["loss/digital"] = self._bench.digital.to_json()
                continue
            scores = self._bench.score(task.seed, analog, ideal=key == "converters")
            found[f"loss/{task.seed}/{key}"] = scores.to_json()
        return found

    def close(self) -> None:
        """Delete the temporary file."""
        self._bench.close()
