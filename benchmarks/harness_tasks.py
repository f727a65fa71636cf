"""Question: do tasks give plain lm-evaluation-harness's scores, and how many more cells an hour does a sign-off get?

Rival: the harness's own model for transformers (HFLM) around the same mounted chip, called once a cell, with its
fastest of three batch sizes; start-up, loading of model and rows are left out on both sides, programming and mounting
are counted on both. Goals: digital scores equal; at least 1.5 times the cells an hour.

With --text: perplexity of the digital model from its GGUF file, dequantised, and from a Hugging Face folder with the
same weights in float16, where SmolLM2's known figure (24.193) comes from.

Rows: a folder with ``arc_easy/test.jsonl`` (query, choices, gold) and ``piqa/validation.jsonl`` (goal, sol1, sol2,
label).
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import asdict
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Row, command_line, machine, show, two_threads

HARDWARE, TIME_S = "hermes-256", 86400.0
SMOLLM2 = {"arc_easy": (0.510, 0.465), "piqa": (0.640, 0.655)}  # of its GGUF, first 200 questions
WIKITEXT2 = 24.193  # of the same weights in float16, 32 windows of 1024 tokens
LIMIT, CELLS, THREADS = 200, 2, 2
SMALLEST = {"LIMIT": 1, "CELLS": 1, "THREADS": 1}
TASKS = {
    "arc_easy": {
        "dataset_kwargs": {"data_files": {"test": "arc_easy/test.jsonl"}},
        "test_split": "test",
        "doc_to_text": "query",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
    },
    "piqa": {
        "dataset_kwargs": {"data_files": {"validation": "piqa/validation.jsonl"}},
        "validation_split": "validation",
        "doc_to_text": "Question: {{goal}}\nAnswer:",
        "doc_to_choice": "{{[sol1, sol2]}}",
        "doc_to_target": "label",
    },
}


def write_tasks(rows: Path, folder: Path) -> None:
    """The tasks as YAML (which JSON is) files over local rows, called bench_arc_easy and bench_piqa."""
    for name, task in TASKS.items():
        files = {
            split: str((rows / file).resolve())
            for split, file in task["dataset_kwargs"]["data_files"].items()
        }  # type: ignore[index]
        metrics = [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True}
            for metric in ("acc", "acc_norm")
        ]
        document = {
            **task,
            "task": f"bench_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files},
            "output_type": "multiple_choice",
            "metric_list": metrics,
        }
        (folder / f"{name}.yaml").write_text(json.dumps(document))


def plain(lm: Any, folder: Path, limit: int) -> tuple[dict[str, tuple[float, float]], float]:
    """(acc, acc_norm) by task as the harness finds them with a model of its own, and the seconds that it took."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    with redirect_stderr(StringIO()):
        tasks = list(manager.load([f"bench_{name}" for name in TASKS])["tasks"].values())
        start = time.perf_counter()
        found = lm_eval.simple_evaluate(lm, tasks=tasks, limit=limit, bootstrap_iters=0, task_manager=manager)
        seconds = time.perf_counter() - start
    results = found["results"]
    return {
        name: (results[f"bench_{name}"]["acc,none"], results[f"bench_{name}"]["acc_norm,none"])
        for name in TASKS
    }, seconds


def harness_model(model: Any, weights: Any, batch: int) -> Any:
    """The harness's own model around ours."""
    from lm_eval.models.huggingface import HFLM

    from aimc_sim.evaluate.text import load_tokenizer

    return HFLM(pretrained=model, tokenizer=load_tokenizer(weights), batch_size=batch)


def measure(
    checkpoint: Path, rows: Path, limit: int = 200, cells: int = 2, reference: bool = True
) -> tuple[list[Row], dict[str, Any]]:
    """Rows of the table; and everything that was measured. checkpoint: a weight file, or what `export` reads."""
    from aimc_sim import WeightFile
    from aimc_sim.evaluate.bench import Bench
    from aimc_sim.evaluate.questions import load_questions
    from aimc_sim.hardware import Hardware
    from aimc_sim.programming import program
    from aimc_sim.signoff.design.plan import plan_of
    from aimc_sim.signoff.design.trials import Trial
    from aimc_sim.signoff.execution.answers import items_of, marker
    from aimc_sim.signoff.execution.bench import ModelBench, Setup
    from aimc_sim.torch_bridge import load_digital

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    table: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tasks(rows, folder)
        weights = WeightFile(checkpoint if checkpoint.suffix == ".h5" else _export(checkpoint, folder))
        questions = {task: load_questions(f"bench_{task}", folder=folder, limit=limit) for task in TASKS}
        plan = plan_of(
            weights=weights.id, hardware=[Hardware.load(HARDWARE)], chips=cells, times_s=(TIME_S,), threads=THREADS,
            tasks=[
                {"kind": "harness", "label": task, "task": task, "questions_id": each.id,
                 "questions": len(each.items), "margin": 0.02}
                for task, each in questions.items()
            ],
        )  # fmt: skip
        specs = {task: plan.task(task) for task in questions}
        items = {task: items_of(specs[task], weights, each) for task, each in questions.items()}  # type: ignore[arg-type]
        marks = {task: marker(specs[task], items[task], each, weights) for task, each in questions.items()}  # type: ignore[arg-type]
        design = Hardware.load(HARDWARE)
        ranges = program(weights, 0, design).ranges
        bench = ModelBench(Setup(plan, weights.path, items, {HARDWARE: ranges}))

        digital = {
            task: marks[task](bench.run(Trial("digital", task=task), lambda: None).scores).values
            for task in TASKS
        }
        theirs, _ = plain(harness_model(load_digital(weights), weights, 16), folder, limit)
        for task in TASKS:
            ours = tuple(float(np.mean(digital[task][metric])) for metric in ("acc", "acc_norm"))
            for metric, mine, other in zip(("acc", "acc_norm"), ours, theirs[task], strict=True):
                table.append(Row(f"digital, {task} {metric}: ours", mine, ""))
                table.append(Row("  difference to the harness's", abs(mine - other), "", 0.0))
            if reference and limit == 200:
                far = max(abs(a - b) for a, b in zip(ours, SMOLLM2[task], strict=True))
                table.append(Row("  difference to SmolLM2's known scores", far, "", 5e-4))

        plain_bench = Bench(weights)
        model = plain_bench.mount(design, cells, TIME_S, ranges=ranges)  # no chip that is timed below
        tries = {
            batch: plain(harness_model(model, weights, batch), folder, max(limit // 10, 2))[1]
            for batch in (1, 8, 32)
        }
        batch = min(tries, key=lambda each: tries[each])
        lm = harness_model(model, weights, batch)
        bench.run(
            Trial("converters", variant=HARDWARE, task="arc_easy"), lambda: None
        )  # both have run before
        seconds: dict[str, list[float]] = {"ours": [], "plain": []}
        for seed in range(cells):
            start = time.perf_counter()
            for task in TASKS:
                marks[task](bench.run(Trial("chip", seed, TIME_S, HARDWARE, task), lambda: None).scores)
            seconds["ours"].append(time.perf_counter() - start)
            start = time.perf_counter()
            plain_bench.mount(design, seed, TIME_S, ranges=ranges)
            mounted = time.perf_counter() - start
            seconds["plain"].append(mounted + plain(lm, folder, limit)[1])
    hour = {side: 3600 * len(TASKS) / float(np.median(values)) for side, values in seconds.items()}
    table += [
        Row("cells an hour: ours", hour["ours"], "/h"),
        Row(f"cells an hour: the harness's own model, batches of {batch}", hour["plain"], "/h"),
        Row("ours over theirs", hour["ours"] / hour["plain"], "×", 1.5, at_least=True),
    ]
    return table, {"seconds": seconds, "batch": batch, "tries": tries, "theirs": theirs}


def perplexities(checkpoint: Path, text: Path, reference: bool) -> list[Row]:
    """Of the digital model on WikiText-2, from the checkpoint as it is and from a folder in float16."""
    with tempfile.TemporaryDirectory() as name:
        rows = [perplexity_of(checkpoint, text, "")]
        if checkpoint.suffix != ".h5":
            rows.append(perplexity_of(half_precision(checkpoint, Path(name)), text, ", float16 folder"))
    if reference:
        rows.append(Row("  difference to SmolLM2's known figure", abs(rows[-1].value - WIKITEXT2), "", 5e-4))
    return rows


def half_precision(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint as a Hugging Face folder whose weights are float16."""
    import torch

    from aimc_sim.finetuning.models import load_plain, save_folder
    from aimc_sim.models import open_checkpoint

    opened = open_checkpoint(checkpoint)
    save_folder(folder, load_plain(opened, torch.float16), opened, {}, {})
    return folder


def perplexity_of(checkpoint: Path, text: Path, which: str, context: int = 1024, windows: int = 32) -> Row:
    """Of the digital model: windows of `context` tokens that do not overlap, their first not scored."""
    from aimc_sim import WeightFile
    from aimc_sim.evaluate.metrics import score
    from aimc_sim.evaluate.text import load_tokenizer, tokenise
    from aimc_sim.evaluate.windows import cut
    from aimc_sim.torch_bridge import load_digital

    with tempfile.TemporaryDirectory() as name:
        weights = WeightFile(checkpoint if checkpoint.suffix == ".h5" else _export(checkpoint, Path(name)))
        ids = tokenise(load_tokenizer(weights), joined(text), context * windows)
        found = score(load_digital(weights), cut(ids, context), 1)
    return Row(
        f"WikiText-2, {int(found.tokens.sum()):,} tokens, context {context}{which}",
        found.perplexity,
        "perplexity",
    )


def joined(text: Path) -> str:
    """The rows of wiki.test.raw as its published form has them (empty, or a line with its end), with blank lines
    between."""
    lines = text.read_text(encoding="utf-8").split("\n")[:-1]
    return "\n\n".join("" if not line.strip() else f"{line}\n" for line in lines)


def _export(checkpoint: Path, folder: Path) -> Path:
    from aimc_sim import export

    return export(checkpoint, folder / "model.h5", HARDWARE).path


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Command line: a table, or JSON."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = command_line("Tasks through lm-evaluation-harness: equal scores, more cells.", globals(), words)
    parser.add_argument("--rows", type=Path, help="folder with arc_easy/test.jsonl and piqa/validation.jsonl")
    parser.add_argument("--text", type=Path, help="wiki.test.raw: perplexity of the digital model")
    parser.add_argument("--model", type=Path, help="weight file or checkpoint; SmolLM2 unless told")
    parser.add_argument("--limit", type=int, default=LIMIT, help="questions of each task")
    parser.add_argument("--cells", type=int, default=CELLS, help="chips that are timed")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(words)
    if options.rows is None and options.text is None:
        parser.error("give --rows DIR, --text FILE, or both")
    if options.rows is not None and find_spec("lm_eval") is None:
        parser.error("--rows needs lm-evaluation-harness: pip install 'aimc-sim[eval]'")
    from aimc_sim.models import smollm2_path

    two_threads()
    checkpoint = Path(smollm2_path()) if options.model is None else options.model
    rows: list[Row] = []
    if options.rows is not None:
        rows += measure(checkpoint, options.rows, options.limit, options.cells, options.model is None)[0]
    if options.text is not None:
        rows += perplexities(checkpoint, options.text, options.model is None)
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(machine())
        show("Tasks through lm-evaluation-harness", rows)
    return rows


if __name__ == "__main__":
    main()
