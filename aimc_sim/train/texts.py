"""Any text as token shards: a file, or a data set by the package `datasets`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import bos_of, read_text
from aimc_sim.models import Checkpoint, load_tokenizer
from aimc_sim.train.evaluation import rows_of_text
from aimc_sim.train.models import checkpoint_id, require
from aimc_sim.train.shards import TextPlan, write_text_shards

PREFIX = "datasets:"


def shards_of_text(
    opened: Checkpoint, source: str, folder: str | Path, *, tokens: int, length: int, sequences: int = 256
) -> list[Path]:
    """Cut a text into rows of ``length`` tokens, about ``tokens`` of them, and write shards → their paths.

    source: a UTF-8 file, or ``datasets:NAME[:SPLIT[:COLUMN]]``, where NAME is a folder of `save_to_disk` or a data set
    of the hub, SPLIT is "train" and COLUMN "text" unless given.
    """
    texts, name = _texts(source)
    # Roughly: a token is rarely longer than eight characters, and what is too much is cut below.
    wanted, found = 8 * tokens, []
    for text in texts:
        found.append(text)
        wanted -= len(text)
        if wanted <= 0:
            break
    rows = rows_of_text(opened, found, length)[: max(1, tokens // length)]
    plan = TextPlan(
        model=checkpoint_id(opened),
        text=name,
        sha256=hashlib.sha256(rows.tobytes()).hexdigest(),
        length=length,
        sequences=sequences,
        bos_id=bos_of(load_tokenizer(opened.tokenizer_files, opened.config)),
    )
    return write_text_shards(folder, plan, rows)


def _texts(source: str) -> tuple[Iterable[str], str]:
    if not source.startswith(PREFIX):
        return [read_text(source)], Path(source).name
    name, split, column = [*source[len(PREFIX) :].split(":"), "", ""][:3]
    datasets = require("datasets", f"reading {source}")
    split, column = split or "train", column or "text"
    try:
        if Path(name).is_dir() and (Path(name) / "state.json").exists():
            table = datasets.load_from_disk(name)
        elif Path(name).is_dir() and (Path(name) / "dataset_dict.json").exists():
            table = datasets.load_from_disk(name)[split]
        else:
            table = datasets.load_dataset(name, split=split, streaming=True)
    # The package raises its own, OS and network errors alike; to the user they all mean "not there".
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise BadInput(
            "data set", got=name, why=f"it could not be opened ({reason})", do="check its name and split"
        ) from None
    return _column(table, column, source), source


def _column(table: Any, column: str, source: str) -> Iterator[str]:
    for row in table:
        if column not in row:
            raise BadInput(
                "data set", got=source, why=f"it has no column {column!r}", do=f"name one of {', '.join(row)}"
            )
        yield str(row[column])
