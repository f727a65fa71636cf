"""What a cell is scored on: a task's items, the digital model's answers to them, and the scores of a mounted model."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.metrics import Reference, WindowScores, score
from aimc_sim.evaluate.text import SelfText, file_text, windows_of_file, windows_of_samples
from aimc_sim.evaluate.windows import Tokens, Windows
from aimc_sim.signoff.design.plan import AnyTask, TextTask

if TYPE_CHECKING:
    from aimc_sim.evaluate.questions import Questions
    from aimc_sim.weightfile import WeightFile

Json = Any


@dataclass(frozen=True)
class CellScores:
    """Scores of one cell: per name one (items,) float64 or int64 array, such as nll, kl and agree of a text."""

    values: dict[str, npt.NDArray[Any]]

    def to_json(self) -> Json:
        """Plain lists; float64 values come back bit for bit."""
        return {name: array.tolist() for name, array in self.values.items()}

    @classmethod
    def from_json(cls, data: Json) -> CellScores:
        """What `to_json` gave."""
        return cls({name: np.asarray(values) for name, values in data.items()})


class Runner(Protocol):
    """A task in one process. It is built from the items that the plan's journal holds, so it has them everywhere."""

    @property
    def steps(self) -> int:
        """Calls of on_step that scoring one model makes."""

    def digital(self, on_step: Callable[[], None]) -> CellScores:
        """The digital model's own scores."""

    def score(self, model: Any, on_step: Callable[[], None]) -> CellScores:
        """Scores of a mounted model on every item."""

    def example(self) -> npt.NDArray[np.int32]:
        """Token ids (length,) of one item, for the coverage report."""

    def close(self) -> None:
        """Give back temporary files."""


def prepare(
    task: AnyTask,
    weight_file: WeightFile,
    source: str | Path | Questions | None,
    progress: Progress | None,
) -> Json:
    """The items of a task as JSON: computed once for a plan, kept in its journal, and sent to every worker.

    source: the text file, or the questions; nothing where the model writes its text itself.
    """
    if isinstance(task, TextTask):
        path = source if isinstance(source, str | Path) else None
        return windows_to_json(windows_of(task, weight_file, path, progress))
    from aimc_sim.signoff.execution.answers import items_of

    return items_of(task, weight_file, None if isinstance(source, str | Path) else source)


def open_runner(
    task: AnyTask,
    items: Json,
    weight_file: WeightFile,
    progress: Progress | None = None,
    streamed: bool = False,
) -> Runner:
    """The runner of a task in this process. Of a text, the digital model is scored here; streamed: as chips will be."""
    if isinstance(task, TextTask):
        return TextRunner(task, windows_from_json(items), weight_file, progress, streamed)
    from aimc_sim.signoff.execution.answers import AnswersRunner

    return AnswersRunner(task, items, weight_file, progress)


def steps_of(task: AnyTask, items: Json) -> int:
    """Steps of scoring one model, without building a runner."""
    if isinstance(task, TextTask):
        return sum(1 for _ in windows_from_json(items).batches(task.batch))
    from aimc_sim.signoff.execution.answers import steps_of_requests

    return steps_of_requests(task, items)


def tokens_of(task: AnyTask, items: Json) -> int:
    """Tokens that scoring one model reads, about."""
    if isinstance(task, TextTask):
        return windows_from_json(items).scored_tokens
    return steps_of(task, items) * task.batch


class TextRunner:
    """Windows of a text, against the digital model's logits."""

    def __init__(
        self,
        task: TextTask,
        windows: Windows,
        weight_file: WeightFile,
        progress: Progress | None = None,
        streamed: bool = False,
    ) -> None:
        from aimc_sim.torch_bridge.model import load_digital
        from aimc_sim.torch_bridge.streaming import StreamedModel

        self._task, self.windows = task, windows
        self.steps = sum(1 for _ in windows.batches(task.batch))

        def scored(done: int, total: int) -> None:
            if progress is not None:
                progress("digital model", done, total)

        scored(0, self.steps)  # while the model loads
        digital = StreamedModel(weight_file) if streamed else load_digital(weight_file)
        self._reference = Reference(digital, windows, task.batch, on_batch=scored)

    def digital(self, on_step: Callable[[], None]) -> CellScores:
        """The digital model's, with the divergence from itself: none."""
        for _ in range(self.steps):
            on_step()
        return _of_windows(self._reference.own_scores)

    def score(self, model: Any, on_step: Callable[[], None]) -> CellScores:
        """Every window, against the digital model."""
        made = 0

        def scored(done: int, total: int) -> None:
            """A streamed model goes by layers: as many steps in the end."""
            nonlocal made
            while made * total < self.steps * done:
                made += 1
                on_step()

        reference, batch = self._reference, self._task.batch
        return _of_windows(score(model, self.windows, batch, reference=reference, on_batch=scored))

    def example(self) -> npt.NDArray[np.int32]:
        """The first window."""
        return self.windows.rows[0]

    def close(self) -> None:
        """Delete the digital model's logits."""
        self._reference.close()


def windows_of(
    task: TextTask, weight_file: WeightFile, text_path: str | Path | None, progress: Progress | None = None
) -> Windows:
    """The task's windows, from its text file or sampled from the digital model. Raises BadInput for another file."""
    from aimc_sim.torch_bridge.model import load_digital

    if isinstance(task.text, SelfText):
        if progress is not None:  # while the model loads
            progress("sample", 0, task.text.sequences * task.text.length)
        return windows_of_samples(load_digital(weight_file), task.text, progress)
    if text_path is None or file_text(text_path).sha256 != task.text.sha256:
        raise BadInput(
            "text file",
            got=str(text_path),
            why=f"the plan is for {task.text.name} as it was",
            do="give that file, or make a new plan",
        )
    return windows_of_file(weight_file, text_path, task.context, task.text.limit_tokens)


def window_scores(scores: CellScores, windows: Windows) -> WindowScores:
    """Scores of a text's cell as figures of windows."""
    tokens = np.array([len(row) - 1 for row in windows.rows], dtype=np.int64)
    values = scores.values
    return WindowScores(
        values["nll"].astype(np.float64),
        tokens,
        values["kl"].astype(np.float64),
        values["agree"].astype(np.int64),
    )


def windows_to_json(windows: Windows) -> Json:
    """Windows as `packed` sequences."""
    return packed([row.tolist() for row in windows.rows])


def windows_from_json(items: Json) -> Windows:
    """What `windows_to_json` gave."""
    return Windows(tuple(unpacked(items)))


def packed(sequences: Sequence[Sequence[int]]) -> Json:
    """Lengths, and all token ids as base64 of little-endian int32."""
    ids = np.array([token for sequence in sequences for token in sequence], "<i4").tobytes()
    return {"lengths": [len(each) for each in sequences], "ids": base64.b64encode(ids).decode("ascii")}


def unpacked(data: Json) -> list[Tokens]:
    """What `packed` was given, as int32 arrays."""
    ids = np.frombuffer(base64.b64decode(data["ids"]), dtype="<i4").astype(np.int32)
    return np.split(ids, np.cumsum(data["lengths"])[:-1]) if data["lengths"] else []


def _of_windows(scores: WindowScores) -> CellScores:
    assert scores.kl is not None
    assert scores.agree is not None
    return CellScores({"nll": scores.nll, "kl": scores.kl, "agree": scores.agree})
