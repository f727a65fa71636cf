"""Any text as token shards: a file, or a data set by the package `datasets`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import bos_of, read_text
from aimc_sim.finetuning.data_plan import TextPlan
from aimc_sim.finetuning.evaluation import rows_of_text
from aimc_sim.finetuning.models import checkpoint_id, require
from aimc_sim.finetuning.shards import rows_for, write_text_shards
from aimc_sim.models import Checkpoint, load_tokenizer

PREFIX = "datasets:"
READERS = {
    ".jsonl": "json",
    ".json": "json",
    ".txt": "text",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}


def shards_of_text(
    opened: Checkpoint, source: str, folder: str | Path, *, tokens: int, length: int, sequences: int = 256
) -> list[Path]:
    """Cut a text into rows of ``length`` tokens, as many as hold ``tokens``, and write shards → their paths.

    source: a UTF-8 file, or ``datasets:NAME[:SPLIT[:COLUMN]]``, where NAME is a file (jsonl, json, txt, csv, parquet,
    arrow), a folder of such files or of `save_to_disk`, or a data set of the hub; SPLIT is "train" and COLUMN "text"
    unless given. The texts of a data set follow each other, each on a line of its own. A source with fewer tokens gives
    fewer rows.
    """
    texts, name = _texts(source)
    rows = rows_of_text(opened, texts, length, rows_for(tokens, length))
    plan = TextPlan.parse(
        {
            "model": checkpoint_id(opened),
            "text": name,
            "sha256": hashlib.sha256(rows.tobytes()).hexdigest(),
            "length": length,
            "sequences": sequences,
            "bos_id": bos_of(load_tokenizer(opened.tokenizer_files, opened.config)),
        },
        "text shards",
    )
    return write_text_shards(folder, plan, rows)


def _texts(source: str) -> tuple[Iterable[str], str]:
    if not source.startswith(PREFIX):
        return [read_text(source)], Path(source).name
    name, split, column = [*source[len(PREFIX) :].split(":"), "", ""][:3]
    if not name:
        raise BadInput("data set", got=source, why="it has no name", do="use datasets:NAME[:SPLIT[:COLUMN]]")
    with _explain_errors(name):
        table = _table(name, split or "train")
    return _column(table, name, column or "text"), source


def _table(name: str, split: str) -> Any:
    """Open the rows of one split, read as they are asked for."""
    datasets = require("datasets", f"reading {PREFIX}{name}")
    path = Path(name)
    if path.is_dir() and any((path / mark).exists() for mark in ("state.json", "dataset_dict.json")):
        table = datasets.load_from_disk(name)
        if not isinstance(table, dict):
            return table
        if split not in table:
            raise BadInput(
                "split of the data set",
                got=split,
                why=f"{name} has others",
                do=f"name one of {', '.join(table)}",
            )
        return table[split]
    reader = READERS.get(path.suffix.lower())
    if path.is_file():
        if reader is None:
            raise BadInput(
                "data set",
                got=name,
                why="a file of this kind is not known",
                do=f"use one of {', '.join(READERS)}",
            )
        return datasets.load_dataset(reader, data_files={split: name}, split=split, streaming=True)
    if not path.exists() and (reader is not None or name.startswith((".", "/", "~"))):
        raise BadInput("data set", got=name, why="there is no such file or folder", do="check the path")
    return datasets.load_dataset(name, split=split, streaming=True)


def _column(table: Any, name: str, column: str) -> Iterator[str]:
    """Yield the texts, each ending its line; rows without one are passed over."""
    with _explain_errors(name):
        for row in table:
            if column not in row:
                raise BadInput(
                    "column of the data set",
                    got=column,
                    why=f"{name} has others",
                    do=f"name one of {', '.join(row)}, as in datasets:{name}:train:{next(iter(row), 'text')}",
                )
            text = row[column]
            if text is not None and not isinstance(text, str):
                raise BadInput(
                    "column of the data set",
                    got=column,
                    why=f"it holds {type(text).__name__}, not text",
                    do=f"name another of {', '.join(row)}, or write the texts to a file",
                )
            if text:
                yield text if text.endswith("\n") else text + "\n"


@contextmanager
def _explain_errors(name: str) -> Iterator[None]:
    """Turn what the package raises (its own, of files and of networks) into BadInput: to the user it all means "not
    there".
    """
    try:
        yield
    except (BadInput, GeneratorExit):
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise BadInput(
            "data set",
            got=name,
            why=f"it could not be read ({reason})",
            do="check its name and split, and the network where it is a data set of the hub; without a network name a "
            "file or folder",
        ) from None
