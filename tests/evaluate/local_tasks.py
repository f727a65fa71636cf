"""Tasks of lm-evaluation-harness over rows that are written here, and a model of its own around ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ANIMALS = ("dog", "cat", "cow", "old horse", "hen")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def choice_rows(count: int = 12) -> list[dict[str, Any]]:
    """Questions with answers of different lengths, the right one here and there."""
    return [
        {
            "id": f"q{n}",
            "query": f"Question: what makes sound {n * n}?\nAnswer:",
            "choices": [f"the {ANIMALS[(n + k) % 5]}" + " again" * (k % 2) for k in range(3 + n % 2)],
            "gold": n % 3,
        }
        for n in range(count)
    ]


def write_choice_task(folder: Path, name: str = "sounds", **changes: Any) -> Path:
    """A multiple-choice task over `choice_rows`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / "rows.jsonl"
    write_rows(rows, choice_rows())
    metrics = [
        {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
    ]
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows)}, "cache_dir": str(folder / "cache")},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "query",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": metrics,
        **changes,
    }
    (folder / f"{name}.yaml").write_text(json.dumps(task))  # YAML reads JSON
    return folder


def write_text_task(folder: Path, name: str = "sums", **changes: Any) -> Path:
    """A task whose answers are written: right where they begin with the target."""
    return write_choice_task(
        folder,
        name,
        **{
            "output_type": "generate_until",
            "doc_to_target": "{{choices[0]}}",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 5, "do_sample": False},
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
            "doc_to_choice": None,
            **changes,
        },
    )
