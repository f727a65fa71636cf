"""`train`: from names to a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import context_limit
from aimc_sim.finetuning.evaluation import windows_of_text
from aimc_sim.finetuning.models import ANALOG_JSON, checkpoint_id, open_for_training
from aimc_sim.finetuning.numbers import parse_count
from aimc_sim.finetuning.options import Options, Outcome
from aimc_sim.finetuning.recipe import Recipe
from aimc_sim.finetuning.rows import TokenRows
from aimc_sim.finetuning.settings import Run
from aimc_sim.finetuning.trainer import STATES, Trainer
from aimc_sim.hardware import Hardware
from aimc_sim.models import Checkpoint
from aimc_sim.renames import renamed
from aimc_sim.spec import nearest

PRECISIONS, SHARDINGS = ("no", "bf16"), ("none", "fsdp2")


def train(
    checkpoint: str | Path | Checkpoint,
    output: str | Path,
    *,
    recipe: str | Path | Recipe | dict[str, Any] = "afm-small",
    hardware: str | Path | Hardware | dict[str, Any] = "afm-llama",
    data: str | Path | TokenRows,
    tokens: int | str,
    text: str | Path | None = None,
    context: int | None = None,
    seed: int = 0,
    precision: str = "no",
    evaluate_every: int = 0,
    chips: int = 3,
    chip_seed: int = 1000,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Train a checkpoint for a chip and write a plain Hugging Face folder; go on where the folder holds a part of it.

    data: a folder of token shards. tokens: how many are trained on ("2M"), in whole steps, epochs as needed. text: a
    file to evaluate on, in windows of ``context`` tokens; without one, rows of the data are held out. Everything that
    decides numbers is part of the run's id, and a folder with another run is refused. options: what decides none.

    >>> import aimc_sim
    >>> _ = aimc_sim.sample("model/", "samples", tokens=512, length=16, sequences=8, batch=8)
    >>> recipe = {"base": "afm-small", "sequences": 2, "length": 16}
    >>> outcome = aimc_sim.train("model/", "trained", data="samples", tokens=128, recipe=recipe)
    >>> outcome.finished
    True
    """
    chosen, chip, wanted = Recipe.load(recipe), Hardware.load(hardware), parse_count(str(tokens), "tokens")
    if precision not in PRECISIONS:
        raise BadInput(
            "precision", got=precision, why="there is no such one", do=nearest(precision, PRECISIONS)
        )
    if options is not None and options.sharding not in SHARDINGS:
        raise BadInput(
            "sharding",
            got=options.sharding,
            why="there is no such one",
            do=nearest(options.sharding, SHARDINGS),
        )
    opened = open_for_training(checkpoint)
    rows = data if isinstance(data, TokenRows) else TokenRows(data)
    vocabulary = opened.config.get("vocab_size")
    if isinstance(vocabulary, int):
        rows.expect(vocabulary)
    if context is not None and text is None:
        raise BadInput(
            "context", got=context, why="it cuts a text to evaluate on, and none is given",
            do="give one with text (--text), or leave it out",
        )  # fmt: skip
    width = context or min(512, context_limit(opened.config) or 512)
    windows = None if text is None else windows_of_text(opened, text, width)
    fields = {
        "checkpoint": checkpoint_id(opened),
        "data": rows.id,
        "recipe": chosen.model_dump(mode="json"),
        "hardware": chip.model_dump(mode="json"),
        "tokens": wanted,
        "seed": seed,
        "precision": precision,
        "text": None if windows is None else windows.id,
        "context": width,
        "evaluate_every": evaluate_every,
        "chips": chips,
        "chip_seed": chip_seed,
    }
    run = Run.parse(fields, "training run")
    where = Path(output)
    _check_output(where, run.id)
    return Trainer(run, opened, rows, where, windows=windows, options=options, progress=progress).train()


run_training = renamed("run_training", train)


def _check_output(folder: Path, run_id: str) -> None:
    if folder.exists() and not folder.is_dir():
        raise BadInput("output", got=str(folder), why="it is a file", do="name a folder")
    if (folder / "config.json").exists() and not (folder / STATES).is_dir() and _written_by(folder) != run_id:
        raise BadInput(
            "output",
            got=str(folder),
            why="it holds a model that this run did not write",
            do="name another folder",
        )


def _written_by(folder: Path) -> str | None:
    """Return the run that wrote the folder; a recipe that trains nothing leaves no checkpoints behind."""
    try:
        document = json.loads((folder / ANALOG_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document.get("run_id") if isinstance(document, dict) else None
