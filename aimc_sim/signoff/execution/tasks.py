"""Every kind of task gets its items, steps and runner here: texts from `texts`, questions from `answers`."""

from __future__ import annotations

from pathlib import Path

from aimc_sim.aliases import Progress
from aimc_sim.evaluate.bench import Bench
from aimc_sim.evaluate.questions import Questions
from aimc_sim.signoff.design.tasks import AnyTask, TextTask
from aimc_sim.signoff.execution.answers import AnswersRunner, items_of, steps_of_requests
from aimc_sim.signoff.execution.scores import Json, Runner
from aimc_sim.signoff.execution.texts import TextRunner, windows_from_json, windows_of, windows_to_json
from aimc_sim.weightfile import WeightFile


def prepare(
    task: AnyTask,
    weight_file: WeightFile,
    source: str | Path | Questions | None,
    progress: Progress | None,
) -> Json:
    """Prepare the items of a task as JSON: computed once for a plan, kept in its journal, and sent to every worker.

    source: the text file, or the questions; nothing where the model writes its text itself.
    """
    if isinstance(task, TextTask):
        path = source if isinstance(source, str | Path) else None
        return windows_to_json(windows_of(task, weight_file, path, progress))
    return items_of(task, weight_file, None if isinstance(source, str | Path) else source)


def open_runner(task: AnyTask, items: Json, bench: Bench, progress: Progress | None = None) -> Runner:
    """Open the runner of a task on a bench. Of a text, the digital model is scored here."""
    if isinstance(task, TextTask):
        return TextRunner(task, windows_from_json(items), bench.load_digital, progress)
    return AnswersRunner(task, items, bench.weight_file)


def steps_of(task: AnyTask, items: Json) -> int:
    """Count the steps of scoring one model, without building a runner."""
    if isinstance(task, TextTask):
        return sum(1 for _ in windows_from_json(items).batches(task.batch))
    return steps_of_requests(task, items)


def tokens_of(task: AnyTask, items: Json) -> int:
    """Estimate the tokens that scoring one model reads."""
    if isinstance(task, TextTask):
        return windows_from_json(items).scored_tokens
    return steps_of(task, items) * task.batch
