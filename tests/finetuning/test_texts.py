"""Text that exists becomes rows: files, data sets in every local form, and what cannot be read said in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.finetuning.models import open_for_training
from aimc_sim.finetuning.rows import TokenRows
from aimc_sim.finetuning.texts import shards_of_text
from aimc_sim.models import load_tokenizer

LINES = ["abcdefghij", None, "", "klmnopqrst\n", "uvwxyz"] * 4
JOINED = "abcdefghij\nklmnopqrst\nuvwxyz\n" * 4


def jsonl(folder: Path) -> str:
    folder.mkdir()
    (folder / "train.jsonl").write_text(
        "".join(json.dumps({"text": line}) + "\n" for line in LINES), encoding="utf-8"
    )
    return f"datasets:{folder}"


def one_file(folder: Path) -> str:
    jsonl(folder)
    return f"datasets:{folder / 'train.jsonl'}:validation"


def plain_text(folder: Path) -> str:
    folder.mkdir()
    (folder / "some.txt").write_text(JOINED, encoding="utf-8")
    return f"datasets:{folder / 'some.txt'}"


def saved(folder: Path) -> str:
    datasets.Dataset.from_dict({"story": LINES}).save_to_disk(folder)
    return f"datasets:{folder}::story"


def saved_splits(folder: Path) -> str:
    one = datasets.Dataset.from_dict({"text": LINES})
    datasets.DatasetDict({"test": one}).save_to_disk(folder)
    return f"datasets:{folder}:test"


def parquet(folder: Path) -> str:
    folder.mkdir()
    datasets.Dataset.from_dict({"text": LINES}).to_parquet(folder / "train-00000.parquet")
    return f"datasets:{folder}"


def arrow(folder: Path) -> str:
    saved(folder)
    return f"datasets:{next(folder.glob('*.arrow'))}::story"


def cut(tiny_checkpoint: Path, source: str, folder: Path, tokens: int = 64, length: int = 8) -> np.ndarray:
    shards_of_text(
        open_for_training(tiny_checkpoint), source, folder, tokens=tokens, length=length, sequences=5
    )
    rows = TokenRows(folder)
    return np.stack([rows[i] for i in range(len(rows))])


def test_a_file_becomes_rows(tiny_checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("abcdefghij" * 9, encoding="utf-8")
    assert cut(tiny_checkpoint, str(text), tmp_path / "t").shape == (8, 8)
    assert cut(tiny_checkpoint, str(text), tmp_path / "more", tokens=17).shape == (3, 8)
    with pytest.raises(BadInput, match="256 positions"):
        cut(tiny_checkpoint, str(text), tmp_path / "u", length=257)
    (tmp_path / "short.txt").write_text("abcdefghij", encoding="utf-8")
    with pytest.raises(BadInput, match="shorter length"):
        cut(tiny_checkpoint, str(tmp_path / "short.txt"), tmp_path / "u", length=64)
    for length in (0, 1):
        with pytest.raises(BadInput, match="2 or more"):
            cut(tiny_checkpoint, str(text), tmp_path / "u", length=length)
    with pytest.raises(BadInput, match="sequences"):
        shards_of_text(
            open_for_training(tiny_checkpoint), str(text), tmp_path / "u", tokens=9, length=8, sequences=0
        )
    assert not (tmp_path / "u").exists()


@pytest.mark.parametrize("make", [jsonl, one_file, plain_text, saved, saved_splits, parquet, arrow])
def test_every_local_form_of_a_data_set(
    make: Callable[[Path], str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """Rows without text are passed over, each other ends its line, and all is cut as the same text from a file."""
    (tmp_path / "all.txt").write_text(JOINED, encoding="utf-8")
    wanted = cut(tiny_checkpoint, str(tmp_path / "all.txt"), tmp_path / "wanted")
    found = cut(tiny_checkpoint, make(tmp_path / "data"), tmp_path / "rows")
    assert np.array_equal(found, wanted)
    opened = open_for_training(tiny_checkpoint)
    again = load_tokenizer(opened.tokenizer_files, opened.config).decode(wanted[0], skip_special_tokens=True)
    assert JOINED.startswith(again.replace(" ", ""))


def test_no_more_is_read_than_the_rows_take(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A bad row behind the wanted ones is never met; before them it is explained."""
    source = jsonl(tmp_path / "data")
    (tmp_path / "data" / "train_2.jsonl").write_text("{broken\n", encoding="utf-8")
    assert len(cut(tiny_checkpoint, source, tmp_path / "few", tokens=40)) == 5
    with pytest.raises(BadInput, match="could not be read"):
        cut(tiny_checkpoint, source, tmp_path / "all", tokens=10**6)
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("datasets:", "has no name"),
        ("datasets:{}/nothing.jsonl", "no such file"),
        ("datasets:{}/notes.odt", "jsonl"),
        ("datasets:{}/rows.jsonl:train:story", "text, number"),
        ("datasets:{}/rows.jsonl:train:number", "holds int, not text"),
        ("datasets:{}/saved:validation", "name one of test"),
        ("datasets:{}/empty", "could not be read"),
        ("datasets:nobody/nothing-of-this-name", "without a network"),
    ],
)
def test_what_cannot_be_read_is_explained(
    source: str, said: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    (tmp_path / "rows.jsonl").write_text('{"text": "abc", "number": 3}\n', encoding="utf-8")
    (tmp_path / "notes.odt").touch()
    (tmp_path / "empty").mkdir()
    saved_splits(tmp_path / "saved")
    with pytest.raises(BadInput) as caught:
        cut(tiny_checkpoint, source.format(tmp_path), tmp_path / "rows")
    assert said in str(caught.value)
    assert not (tmp_path / "rows").exists()
