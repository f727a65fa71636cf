"""The benchmark of tasks runs, and finds the same digital scores as the harness's own model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aimc_sim.testing import assert_bits
from benchmarks.harness_tasks import half_precision, joined, measure


def test_digital_scores_are_those_of_the_harness(
    tiny_weights: Path, tmp_path: Path, local_tasks: Any
) -> None:
    local_tasks.write_rows(tmp_path / "arc_easy" / "test.jsonl", local_tasks.choice_rows(4))
    pairs = [
        {"goal": f"Open {n}", "sol1": "Turn it.", "sol2": "Pull it off.", "label": n % 2} for n in range(4)
    ]
    local_tasks.write_rows(tmp_path / "piqa" / "validation.jsonl", pairs)
    table, found = measure(tiny_weights, tmp_path, limit=3, cells=1, reference=False)
    differences = [row for row in table if "difference" in row.name]
    assert len(differences) == 4
    assert all(row.met for row in differences)
    assert table[-1].name == "ours over theirs"
    assert {side: len(seconds) for side, seconds in found["seconds"].items()} == {"ours": 1, "plain": 1}


def test_a_folder_in_half_precision(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from aimc_sim.models import open_checkpoint

    whole = {tensor.name: tensor for tensor in open_checkpoint(tiny_checkpoint).tensors()}
    found = list(open_checkpoint(half_precision(tiny_checkpoint, tmp_path / "half")).tensors())
    assert {tensor.name for tensor in found} == set(whole)
    for tensor in found:
        assert tensor.dtype == "float16"
        assert_bits(tensor.bits, whole[tensor.name].bits.astype(np.float16))


def test_rows_of_a_text_are_joined_with_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text(" \n = A = \n \n B . \n")
    assert joined(tmp_path / "raw") == "\n\n = A = \n\n\n\n\n B . \n"
