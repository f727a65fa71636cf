"""The tasks of the paper over local rows: each published form is read, letters are what is scored."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.afm_tasks import FOLDER
from aimc_sim.evaluate.afm_tasks.rows import lettered
from aimc_sim.evaluate.questions import load_questions

logging.getLogger("lm_eval").setLevel(logging.ERROR)
TEXTS = ["one", "two", "three", "four"]
FORMS: dict[str, dict[str, Any]] = {
    "mmlu": {"question": "What?", "subject": "law", "choices": TEXTS, "answer": 2},
    "boolq": {"passage": "It is.", "question": "is it", "answer": True},
    "hellaswag": {"ind": 4, "ctx": "A man", "endings": TEXTS, "label": "2"},
    "medqa": {"question": "Which?", "options": dict(zip("ABCD", TEXTS, strict=True)), "answer_idx": "C"},
    "agieval": {"passage": None, "question": "Which?", "options": ["(A)one", "(B)two", "(C)three", "(D)four"],
                "label": "C"},
    "arc_challenge": {"id": "x", "question": "Which?", "choices": {"text": TEXTS, "label": ["1", "2", "3", "4"]},
                      "answerKey": "3"},
    "arc_easy": {"id": "x", "query": "Question: Which?\nAnswer:", "choices": TEXTS, "gold": 2},
    "anli": {"premise": "It rains.", "hypothesis": "It is wet.", "label": 2},
}  # fmt: skip
SHOTS = {
    "mmlu": 5, "boolq": 0, "hellaswag": 5, "medqa": 2, "agieval": 0, "arc_challenge": 10, "arc_easy": 10, "anli": 7,
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, local_tasks: Any) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    for task, row in FORMS.items():
        local_tasks.write_rows(folder / task / "test.jsonl", [row])
        local_tasks.write_rows(folder / task / "dev.jsonl", [row] * 10)
    local_tasks.write_rows(
        folder / "gsm8k" / "test.jsonl", [{"question": "Two and two?", "answer": "2+2=4\n#### 4,000"}]
    )
    return folder


@pytest.mark.parametrize("task", FORMS)
def test_every_published_form_becomes_lettered_answers(rows: Path, task: str) -> None:
    questions = load_questions(f"afm_{task}", rows=rows)
    (item,) = questions.items
    right = 0 if task == "boolq" else 2
    assert item.answer == right
    letters = [continuation for _, continuation in item.requests]
    assert letters == [f" {letter}" for letter in "ABCD"[: len(letters)]]
    prompt = item.requests[0][0]
    assert prompt.endswith("\nAnswer:")
    assert prompt.count("\nAnswer:") == SHOTS[task] + 1
    assert prompt.count(f"Answer: {'ABC'[right]}\n\n") == SHOTS[task]
    assert f"{'ABC'[right]}. {item.choices[right]}" in prompt
    assert "(A)" not in prompt
    given = [[(float(k == right), False) for k in range(len(letters))]]
    assert questions.mark(given, "acc")["acc"].tolist() == [1]


def test_every_task_of_the_paper_is_there() -> None:
    named = {path.stem for path in FOLDER.glob("*.yaml")} - {"_lettered"}
    assert named == {*FORMS, "gsm8k"}


def test_word_problems_are_written_after_eight_worked_ones(rows: Path) -> None:
    questions = load_questions("afm_gsm8k", rows=rows)
    assert questions.kind == "text"
    assert questions.items[0].requests[0][0].count("A: ") == 8
    for text, mark in (
        (" So it is. The answer is 4,000.", 1),
        (" The answer is $4000", 1),
        (" The answer is 40", 0),
        ("", 0),
    ):
        assert questions.mark([[text]], "exact_match")["acc"].tolist() == [mark], text


def test_examples_are_of_the_subject(tmp_path: Path, local_tasks: Any) -> None:
    row = FORMS["mmlu"]
    local_tasks.write_rows(tmp_path / "mmlu" / "test.jsonl", [row])
    local_tasks.write_rows(tmp_path / "mmlu" / "dev.jsonl", [row] * 4 + [{**row, "subject": "art"}] * 5)
    with pytest.raises(BadInput, match="5 of the subject law"):
        lettered("mmlu", 5, str(tmp_path))


def test_rows_that_are_missing_or_of_another_form_are_named(tmp_path: Path, local_tasks: Any) -> None:
    with pytest.raises(BadInput, match="--rows DIR"):
        load_questions("afm_boolq")
    with pytest.raises(BadInput, match=r"no test.jsonl or validation.jsonl"):
        load_questions("afm_boolq", rows=tmp_path)
    local_tasks.write_rows(tmp_path / "boolq" / "test.jsonl", [FORMS["boolq"], {"other": 1}])
    with pytest.raises(BadInput, match="boolq, row 2"):
        load_questions("afm_boolq", rows=tmp_path)
    (tmp_path / "boolq" / "test.jsonl").write_text("{")
    with pytest.raises(BadInput, match="not JSON lines"):
        load_questions("afm_boolq", rows=tmp_path)
