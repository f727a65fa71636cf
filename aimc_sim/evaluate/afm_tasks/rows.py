"""Local rows, in the fields that their sets are published with, as questions with lettered answers.

ROWS holds one folder a task (arc_easy, arc_challenge, mmlu, boolq, hellaswag, medqa, agieval, anli, gsm8k), each with
JSON lines: ``test.jsonl`` (else ``validation.jsonl``) is asked, and worked examples are the first rows of ``dev.jsonl``
(else ``validation.jsonl``, ``train.jsonl``), of the same subject where rows have one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aimc_sim.errors import BadInput
from aimc_sim.files import reading

LETTERS = "ABCDEFGHIJ"
ASKED, EXAMPLES = ("test", "validation"), ("dev", "validation", "train")
ENTAILMENT = ("true", "neither true nor false", "false")
Row = dict[str, Any]


def lettered(task: str, shots: int = 0, rows: str | None = None, **_: Any) -> Mapping[str, Any]:
    """Return a task's splits, for the harness: ``test``, rows of ``query``, ``letters``, ``gold``, ``id``,
    ``shown``.
    """
    folder = _folder(task, rows)
    name, asked = _read(folder, ASKED)
    examples: list[tuple[str, str, int]] = []
    if shots:
        others = [each for each in EXAMPLES if each != name]
        examples = [_question(row, f"{task} example") for row in _read(folder, others)[1]]
    lettered_rows = []
    for number, row in enumerate(asked):
        text, subject, right_one = _question(row, f"{task}, row {number + 1}")
        mine = [each for each in examples if each[1] == subject][:shots]
        if len(mine) < shots:
            raise BadInput(
                f"worked examples of {task}",
                got=len(mine),
                why=f"the task has {shots}" + (f" of the subject {subject}" if subject else ""),
                do=f"put more rows into dev.jsonl in {folder}",
            )
        prompt = "".join(f"{shown} {LETTERS[right]}\n\n" for shown, _, right in mine) + text
        choices = list(_choices(row))
        lettered_rows.append(
            {
                "id": str(row.get("id", row.get("ind", number))),
                "query": prompt,
                "letters": list(LETTERS[: len(choices)]),
                "gold": right_one,
                # What a report shows: the question without the worked examples, and the answers in words.
                "shown": {"question": text.split("\nA. ")[0].removeprefix("Question: "), "choices": choices},
            }
        )
    return {"test": _dataset(lettered_rows)}


def word_problems(task: str, rows: str | None = None, **_: Any) -> Mapping[str, Any]:
    """Return the rows of GSM8K, as they are: ``question`` and ``answer``."""
    asked = _read(_folder(task, rows), ASKED)[1]
    return {"test": _dataset([{"question": row["question"], "answer": row["answer"]} for row in asked])}


def worked_problems() -> list[Row]:
    """Return the eight worked problems of Wei et al. (NeurIPS 2022), as the harness has them in its task gsm8k_cot."""
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    path = Path(lm_eval.tasks.__file__).parent / "gsm8k" / "gsm8k-cot.yaml"
    return list(load_yaml(path, resolve_func=False)["fewshot_config"]["samples"])


def _question(row: Row, where: str) -> tuple[str, str, int]:
    """Read (text up to the letter, subject, index of the right answer) of a row in any of the published forms."""
    try:
        choices = _choices(row)
        lines = [str(row[key]) for key in ("passage", "premise") if row.get(key)]
        if "hypothesis" in row:
            lines.append(f"Question: {row['hypothesis']} True, false, or neither?")
        elif "ctx" in row:
            lines.append(f"Question: How does this go on? {row['ctx']}")
        else:
            asked = str(row.get("question", row.get("query")))
            asked = asked.removeprefix("Question: ").removesuffix("\nAnswer:")
            lines.append(f"Question: {asked}")
        lines += [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
        gold = _gold(row, choices)
        if not 0 <= gold < len(choices) <= len(LETTERS):
            raise ValueError(f"answer {gold} of {len(choices)}")
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise BadInput(
            where,
            why=f"its fields are not those of the published set ({type(error).__name__}: {error})",
            do="see docs/how-to/sign-off-on-tasks.md for the fields that are read",
        ) from None
    return "\n".join([*lines, "Answer:"]), str(row.get("subject") or ""), gold


def _choices(row: Row) -> Sequence[str]:
    if "hypothesis" in row:
        return ENTAILMENT
    if isinstance(row.get("answer"), bool):
        return ("yes", "no")
    given = _first(row, "choices", "endings", "options")
    if isinstance(given, Mapping):
        given = given["text"] if "text" in given else list(given.values())
    return [_without_letter(str(each)) for each in given]


def _without_letter(choice: str) -> str:
    """Take the letter off: ``(A) a dog`` → ``a dog``, as AGIEval writes its options."""
    letter, closed, rest = choice[:2], choice[2:3], choice[3:]
    return (
        rest.strip()
        if len(letter) == 2 and letter[0] == "(" and letter[1] in LETTERS and closed == ")"
        else choice
    )


def _first(row: Row, *keys: str) -> Any:
    for key in keys:
        if key in row:
            return row[key]
    raise KeyError(" or ".join(keys))


def _gold(row: Row, choices: Sequence[str]) -> int:
    if isinstance(row.get("answer"), bool):
        return 0 if row["answer"] else 1
    right = _first(row, "gold", "answerKey", "answer_idx", "label", "answer")
    if isinstance(right, list):
        right = right[0]
    if isinstance(right, int):
        return right
    labels = row["choices"]["label"] if isinstance(row.get("choices"), Mapping) else list(LETTERS)
    text = str(right).strip()
    return labels.index(text) if text in labels else int(text)


def _folder(task: str, rows: str | None) -> Path:
    if rows is None:
        raise BadInput(
            f"rows of {task}",
            why="its questions are read from local files, and no folder of rows was named",
            do="give --rows DIR (in lm-evaluation-harness: --metadata rows=DIR)",
        )
    return Path(rows) / task


def _read(folder: Path, names: Iterable[str]) -> tuple[str, list[Row]]:
    wanted = list(names)
    for name in wanted:
        path = folder / f"{name}.jsonl"
        if path.is_file():
            with reading(path, "rows", kind="JSON lines", mend="write one object a line"):
                lines = path.read_text("utf-8").splitlines()
                return name, [json.loads(line) for line in lines if line.strip()]
    raise BadInput(
        "rows",
        got=str(folder),
        why=f"there is no {' or '.join(f'{name}.jsonl' for name in wanted)}",
        do="put the rows of the published set there, one JSON object a line",
    )


def _dataset(rows: list[Row]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(rows)
