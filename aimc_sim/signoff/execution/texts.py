"""`TextRunner` scores the windows of a text on a mounted model, against the digital model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import Progress
from aimc_sim.evaluate.metrics import Reference, WindowScores, score
from aimc_sim.evaluate.text import SelfText, windows_of_samples, windows_of_text
from aimc_sim.evaluate.windows import Windows
from aimc_sim.signoff.design.tasks import TextTask
from aimc_sim.signoff.execution.scores import Json, TrialScores, packed, unpacked
from aimc_sim.torch_bridge.model import load_digital
from aimc_sim.weightfile import WeightFile


class TextRunner:
    """A runner of a text scores its windows against the digital model's logits."""

    def __init__(
        self,
        task: TextTask,
        windows: Windows,
        load: Callable[[], Any],
        progress: Progress | None = None,
    ) -> None:
        self._task, self.windows = task, windows
        self.steps = sum(1 for _ in windows.batches(task.batch))

        def scored(done: int, total: int) -> None:
            if progress is not None:
                progress("digital model", done, total)

        scored(0, self.steps)  # while the model loads
        self._reference = Reference(load(), windows, task.batch, on_batch=scored)

    def digital(self, on_step: Callable[[], None]) -> TrialScores:
        """Return the digital model's scores, with the divergence from itself: none."""
        for _ in range(self.steps):
            on_step()
        return _of_windows(self._reference.own_scores)

    def score(self, model: Any, on_step: Callable[[], None]) -> TrialScores:
        """Score every window, against the digital model."""
        made = 0

        def scored(done: int, total: int) -> None:
            """Count the steps of a streamed model, which goes by layers: as many in the end."""
            nonlocal made
            while made * total < self.steps * done:
                made += 1
                on_step()

        reference, batch = self._reference, self._task.batch
        return _of_windows(score(model, self.windows, batch, reference=reference, on_batch=scored))

    def example(self) -> npt.NDArray[np.int32]:
        """Return the first window."""
        return self.windows.rows[0]

    def close(self) -> None:
        """Delete the digital model's logits."""
        self._reference.close()


def windows_of(
    task: TextTask, weight_file: WeightFile, text_path: str | Path | None, progress: Progress | None = None
) -> Windows:
    """Return the task's windows, from its text file or sampled from the digital model. Raises BadInput for another
    file.
    """
    if isinstance(task.text, SelfText):
        if progress is not None:  # while the model loads
            progress("sample", 0, task.text.sequences * task.text.length)
        return windows_of_samples(load_digital(weight_file), task.text, progress)
    return windows_of_text(weight_file, task.text, text_path, task.context)


def window_scores(scores: TrialScores, windows: Windows) -> WindowScores:
    """Return scores of a text's trial as figures of windows."""
    tokens = np.array([len(row) - 1 for row in windows.rows], dtype=np.int64)
    values = scores.values
    return WindowScores(
        values["nll"].astype(np.float64),
        tokens,
        values["kl"].astype(np.float64),
        values["agree"].astype(np.int64),
    )


def windows_to_json(windows: Windows) -> Json:
    """Return windows as `packed` sequences."""
    return packed([row.tolist() for row in windows.rows])


def windows_from_json(items: Json) -> Windows:
    """Read what `windows_to_json` gave."""
    return Windows(tuple(unpacked(items)))


def _of_windows(scores: WindowScores) -> TrialScores:
    assert scores.kl is not None
    assert scores.agree is not None
    return TrialScores({"nll": scores.nll, "kl": scores.kl, "agree": scores.agree})
