"""One model in which any matrix can be analog or digital from one forward pass to the next, on chip after chip."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimc_sim.calibrate import ranges_for
from aimc_sim.chip import ChipState
from aimc_sim.evaluate.metrics import Reference, WindowScores, score
from aimc_sim.evaluate.windows import Windows
from aimc_sim.hardware import Hardware
from aimc_sim.programming import program
from aimc_sim.torch_bridge.model import build_model, load_digital
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.analog import analog_matrices

Held = tuple[str, ...] | dict[str, str]  # analog matrices, or how each of them is held


class PlacementBench:
    """A bench scores sets of analog matrices, each held as the hardware says or as one of ``moves`` does, by its
    label.

    A matrix is programmed once a chip and way; a set of them costs one forward pass.
    """

    def __init__(
        self, weight_file: WeightFile, hardware: Hardware, windows: Windows, time_s: float,
        moves: Mapping[str, Hardware] | None = None,
    ) -> None:  # fmt: skip
        self._weights, self._time_s = weight_file, time_s
        self._ways = {"": hardware, **(moves or {})}
        self._model: Any = build_model(weight_file, hardware)
        digital: Any = load_digital(weight_file)
        names = [matrix.name for matrix in analog_matrices(weight_file, hardware)]
        self._analog, self._digital = (
            {name: model.get_submodule(name) for name in names} for model in (self._model, digital)
        )
        self._reference = Reference(digital, windows)
        self._mounted: dict[str, tuple[int, bool, str]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Matrices that may be analog."""
        return tuple(self._analog)

    @property
    def digital(self) -> WindowScores:
        """Of the digital model."""
        return self._reference.own_scores

    def score(
        self, seed: int, analog: Collection[str] | Mapping[str, str], *, ideal: bool = False
    ) -> WindowScores:
        """Score the chip ``seed`` with only these matrices in tiles; of a mapping, each held as its label says.

        ideal: the same converters around ideal cells.
        """
        chips: dict[str, ChipState] = {}
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
        for name in self._analog:
            parent, _, leaf = name.rpartition(".")
            module = (self._analog if name in analog else self._digital)[name]
            setattr(self._model.get_submodule(parent), leaf, module)
        return score(self._model, self._reference.windows, reference=self._reference)

    def close(self) -> None:
        """Delete the digital model's logits."""
        self._reference.close()

    def _chip(self, seed: int, ideal: bool, way: str) -> ChipState:
        hardware = self._ways[way]
        chosen = hardware.with_ideal_cells() if ideal else hardware
        ranges = ranges_for(self._weights, hardware)
        return program(self._weights, seed, chosen, ranges=ranges).at(self._time_s)


@dataclass(frozen=True)
class Task:
    """A task lists sets to score on one chip: key → analog matrices, or how each is held; "converters" has ideal
    cells.
    """

    seed: int
    sets: Mapping[str, Held]


class Worker:
    """A worker does what one process does: a task in, {"loss/seed/key": scores} out."""

    def __init__(
        self, path: Path, hardware: Hardware, windows: Windows, time_s: float, moves: Mapping[str, Hardware]
    ) -> None:
        self._bench = PlacementBench(WeightFile(path), hardware, windows, time_s, moves)

    def __call__(self, task: Task) -> dict[str, Any]:
        scores_of = {}
        for key, analog in task.sets.items():
            if key == "digital":
                name, scores = "loss/digital", self._bench.digital
            else:
                name = f"loss/{task.seed}/{key}"
                scores = self._bench.score(task.seed, analog, ideal=key == "converters")
            assert scores.kl is not None
            scores_of[name] = {"kl": scores.kl.tolist(), "nll": scores.nll.tolist()}
        return scores_of

    def close(self) -> None:
        """Delete the temporary file."""
        self._bench.close()
