"""Questions of a task of lm-evaluation-harness: what to ask a model, and how its answers are marked.

The harness builds prompts and marks answers; in between stand plain requests, which any worker can put to a model.
"""

from __future__ import annotations

import contextlib
import hashlib
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.marking import Answer, Marking, harness_version
from aimc_sim.evaluate.task_manager import quiet, task_manager
from aimc_sim.identity import canonical_json
from aimc_sim.spec import nearest

FEWSHOT_SEED = 1234  # the harness's own default
OWN_TASKS = Path(__file__).with_name("afm_tasks")
MAX_NEW_TOKENS = 256  # the harness's default for Hugging Face models
# Columns that reports have beside the marks of a task.
_OWN_COLUMNS = frozenset(
    "agreement chips choice loss lost p_mcnemar pass plain_acc seed time time_s upper_bound won".split()
)
Kind = Literal["likelihood", "text"]
_LENGTHS: dict[str, Callable[[str], int]] = {
    "acc_norm": len,
    "acc_bytes": lambda choice: len(choice.encode()),
}


@dataclass(frozen=True)
class Question:
    """A question is one item. requests: (context, continuation) each, or (context,) to write on from. choices: may be
    empty; answer: the index of the right one, or the right text.
    """

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int | str
    requests: tuple[tuple[str, ...], ...]

    def example(self) -> dict[str, Any]:
        """Return what a report shows of it."""
        return {
            "id": self.id,
            "question": self.question,
            "choices": list(self.choices),
            "answer": self.answer,
        }


@dataclass(frozen=True)
class Questions:
    """These are a task's questions, in order. until, max_new_tokens: of texts. metrics: those that give one number a
    question.
    """

    name: str
    kind: Kind
    items: tuple[Question, ...]
    metrics: tuple[str, ...]
    until: tuple[str, ...] = ()
    max_new_tokens: int = MAX_NEW_TOKENS
    _marking: tuple[Marking, ...] = field(default=(), repr=False, compare=False)

    @cached_property
    def id(self) -> str:
        """Short sha256 of everything that is asked, of what is right, and of how answers are marked."""
        asked = [[each.example(), each.requests] for each in self.items]
        rows = [part.rows for part in self._marking]
        return _short_hash([self.kind, asked, rows, self.until, self.max_new_tokens, self.configuration])

    @cached_property
    def configuration(self) -> str:
        """How the tasks are set up, whatever their rows, and by which harness: ``lm_eval 0.4.13, tasks
        0123456789abcdef``."""
        return f"lm_eval {harness_version()}, tasks {_short_hash([part.settings for part in self._marking])}"

    def check_metric(self, metric: str) -> None:
        """Raise BadInput where the task has no such metric of one number a question, higher being better."""
        if metric not in self.metrics:
            raise BadInput(
                f"metric of {self.name}",
                got=metric,
                why="the task gives no such number for each question that is better the higher it is",
                do=nearest(metric, self.metrics),
            )

    def mark(self, answers: Sequence[Sequence[Answer]], metric: str) -> dict[str, Any]:
        """Mark answers (one sequence a question, one answer a request): arrays over questions.

        ``acc``: the metric; ``choice``: the index of the answer chosen by it, −1 where there are none to choose from;
        then the task's other metrics (its own ``acc`` as ``plain_acc``, where the metric is another). Raises BadInput
        where marks of the metric are no shares, 0 to 1: a verdict speaks of points.
        """
        marks: list[dict[str, float]] = []
        start = 0
        for part in self._marking:
            marks += part.marks(answers[start : start + part.count])
            start += part.count
        decisive = _column(marks, metric)
        wrong = decisive[~((decisive >= 0) & (decisive <= 1))]
        if wrong.size:
            raise BadInput(
                f"metric {metric} of {self.name}",
                got=float(wrong[0]),
                why="a mark is a share, 0 for wrong to 1 for right, and margins are in points of it",
                do="choose another metric with --metric, or a text with --text for a loss in nats",
            )
        marked = {"acc": decisive, "choice": self._choices(answers, metric)}
        for name in self.metrics:
            if name != metric:
                marked["plain_acc" if name == "acc" else name] = _column(marks, name)
        return marked

    def _choices(self, answers: Sequence[Sequence[Answer]], metric: str) -> Any:
        chosen = np.full(len(self.items), -1, np.int64)
        length = _LENGTHS.get(metric, _one)
        for index, (item, given) in enumerate(zip(self.items, answers, strict=True)):
            if self.kind == "likelihood" and 1 < len(item.choices) <= len(given):
                values = [
                    answer[0] / max(length(choice), 1)
                    for answer, choice in zip(given, item.choices, strict=False)
                    if not isinstance(answer, str)
                ]
                chosen[index] = int(np.argmax(values))
        return chosen


def _one(choice: str) -> int:
    return 1


def _short_hash(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def load_questions(
    name: str,
    *,
    folder: str | Path | None = None,
    rows: str | Path | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
) -> Questions:
    """Load the questions of a task or group of lm-evaluation-harness: of a folder of YAML files, ours, or its own.

    rows: a folder of local rows for the tasks that take one (``afm_*``). limit: the first questions of each task.
    num_fewshot: worked examples in front of each; None for the task's own number.

    Raises BadInput for an unknown name, rows that cannot be had, YAML files that do not fit them, metrics called like
    columns of a report, and tasks that this cannot ask: with pictures, code to run, sampled texts, perplexities of
    whole texts, or several answers a question.
    """
    if limit is not None and limit < 1:
        raise BadInput("--limit", got=limit, why="there is nothing to ask", do="use 1 or more")
    with quiet(), _reasons(name):
        parts = _build(name, folder, rows, limit, num_fewshot)
        items: list[Question] = []
        for part in parts:
            prefix = f"{part.task.config.task}:" if len(parts) > 1 else ""
            items += [_question(part.task, doc, asked, prefix) for doc, asked in part.items()]
        kind: Kind = "text" if parts[0].task.OUTPUT_TYPE == "generate_until" else "likelihood"
        until, longest = _generation(parts) if kind == "text" else ((), MAX_NEW_TOKENS)
        blank: Answer = "" if kind == "text" else (-1.0, False)
        tried = [
            mark for part in parts for mark in part.marks([[blank] * len(asked) for _, asked in part.items()])
        ]
    better = {metric for part in parts for metric, up in part.task.higher_is_better().items() if up}
    shared = set.intersection(*({*mark} for mark in tried))
    metrics = tuple(sorted(each for each in shared if each.split(",")[0] in better))
    if not metrics:
        raise BadInput(
            f"task {name}",
            why="it gives no number for each question that is better the higher it is",
            do="choose a task with acc or exact_match",
        )
    for metric in metrics:
        if metric in _OWN_COLUMNS:
            raise BadInput(
                f"task {name}",
                got=metric,
                why="it has a metric of that name, which reports use for a column of their own",
                do="rename the metric in a copy of its YAML and give --tasks-dir",
            )
    return Questions(name, kind, tuple(items), metrics, until, longest, tuple(parts))


def _build(
    name: str,
    folder: str | Path | None,
    rows: str | Path | None,
    limit: int | None,
    num_fewshot: int | None,
) -> list[Marking]:
    if num_fewshot is not None and num_fewshot < 0:
        raise BadInput(
            "--num-fewshot", got=num_fewshot, why="it is a number of worked examples", do="use 0 or more"
        )
    parts = []
    for task in _tasks(name, folder, rows):
        _check(task, name)
        if num_fewshot and task.get_config("num_fewshot") == 0:
            raise BadInput(
                "--num-fewshot",
                got=num_fewshot,
                why=f"{name} states that it is asked without further worked examples",
                do="leave it out, or choose a task that leaves their number open",
            )
        if num_fewshot is not None:
            task.set_config(key="num_fewshot", value=num_fewshot)
        elif task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        try:
            task.build_all_requests(limit=limit, rank=0, world_size=1)
        except (ValueError, IndexError) as error:
            raise BadInput(
                f"task {name}",
                got=str(error),
                why="its questions cannot be made from its rows",
                do="check that its splits have rows, and more of them than worked examples are asked for",
            ) from error
        parts.append(Marking(task))
    kinds = {part.task.OUTPUT_TYPE for part in parts}
    if "generate_until" in kinds and len(kinds) > 1:
        raise BadInput(
            f"task {name}", why="it mixes likelihoods and written answers", do="name its tasks one by one"
        )
    return parts


def _tasks(name: str, folder: str | Path | None, rows: str | Path | None) -> list[Any]:
    if folder is not None and not Path(folder).is_dir():
        raise BadInput(
            "--tasks-dir", got=str(folder), why="it is not a folder", do="give a folder of YAML files"
        )
    managers: list[tuple[Any, bool]] = []
    for where in (folder, OWN_TASKS if name.startswith("afm_") else None, None):
        if where is None and managers and managers[-1][1]:
            break
        manager = task_manager(None if where is None else str(where), None if rows is None else str(rows))
        managers.append((manager, name in manager.task_index))
        if managers[-1][1]:
            break
    manager = managers[-1][0]
    if name not in manager.task_index:
        known = {each for other, _ in managers for each in other.all_tasks}
        raise BadInput("task", got=name, why="no task of that name is known", do=_suggest(name, known))
    return list(manager.load([name])["tasks"].values())


@contextlib.contextmanager
def _reasons(name: str) -> Iterator[None]:
    """Turn whatever the harness, or functions beside a YAML file, raise inside into a BadInput with a fitting
    advice.
    """
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {_one_line(error)}"
        if isinstance(error, ImportError):
            why, do = f"it needs what is not installed: {reason}", "install that package"
        elif isinstance(error, OSError) or any(
            frame.f_code.co_name == "download" for frame, _ in traceback.walk_tb(error.__traceback__)
        ):
            why = f"its rows cannot be had: {reason}"
            do = "without a network, point a copy of its YAML to local files (dataset_path: json) and give --tasks-dir"
        else:
            why = f"its YAML does not fit its rows or the harness: {reason}"
            do = (
                "correct the YAML, or a function that it names: templates name fields of the rows, splits those that "
                "the rows have, and process_docs returns the rows"
            )
        raise BadInput(f"task {name}", why=why, do=do) from error


def _check(task: Any, name: str) -> None:
    """Refuse what cannot be asked."""
    generation = task.get_config("generation_kwargs") or {}
    sampled = generation.get("do_sample") or (generation.get("temperature") or 0) > 0
    for wrong, why in (
        (getattr(task, "MULTIMODAL", False), "it shows pictures or sounds"),
        (getattr(task, "UNSAFE_CODE", False), "it runs code that the model writes"),
        (
            task.OUTPUT_TYPE == "loglikelihood_rolling",
            "it is the perplexity of a text, which --text measures",
        ),
        (
            task.OUTPUT_TYPE == "generate_until" and sampled,
            "its answers are sampled, so chips cannot be paired",
        ),
        ((task.get_config("repeats") or 1) > 1, "it asks each question several times"),
        (not hasattr(task, "set_fewshot_seed"), "it is of an old kind"),
    ):
        if wrong:
            raise BadInput(f"task {name}", why=why, do="choose a task whose questions have one answer each")


def _question(task: Any, doc: Any, instances: list[Any], prefix: str) -> Question:
    choices: tuple[str, ...] = ()
    if task.get_config("doc_to_choice") is not None:
        choices = tuple(str(choice) for choice in task.doc_to_choice(doc))
    text, answer = task.doc_to_text(doc), task.doc_to_target(doc)
    if getattr(task, "multiple_input", 0):  # the choices are texts that the same target follows
        text, answer = str(answer), text
    if isinstance(answer, list):
        answer = answer[0] if answer else ""
    own_id = doc.get("id", doc.get("ind")) if isinstance(doc, dict) else None
    shown = doc.get("shown") if isinstance(doc, dict) else None  # our tasks say what people should read
    if isinstance(shown, dict) and {"question", "choices"} <= shown.keys():
        text, choices = shown["question"], tuple(shown["choices"])
    number = instances[0].doc_id
    requests = tuple(
        (str(each.args[0]),) if task.OUTPUT_TYPE == "generate_until" else tuple(map(str, each.args[:2]))
        for each in instances
    )
    return Question(
        prefix + str(number if own_id is None else own_id),
        str(text),
        choices,
        int(answer) if isinstance(answer, int) else str(answer),
        requests,
    )


def _generation(parts: Sequence[Marking]) -> tuple[tuple[str, ...], int]:
    """Say where written answers end, and after how many tokens at the latest: the same for the whole task."""
    limits = set()
    for part in parts:
        asked = dict(part.task.get_config("generation_kwargs") or {})
        until = asked.get("until") or []
        names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
        longest = next((asked[name] for name in names if asked.get(name) is not None), MAX_NEW_TOKENS)
        limits.add((tuple([until] if isinstance(until, str) else until), int(longest)))
    if len(limits) > 1:
        raise BadInput(
            f"task {parts[0].task.config.task}",
            why="its parts end their answers in different ways",
            do="name them one by one",
        )
    return limits.pop()


def _column(marks: Sequence[dict[str, float]], metric: str) -> Any:
    values = np.array([mark[metric] for mark in marks], np.float64)
    whole = bool(np.isfinite(values).all()) and np.array_equal(values, np.round(values))
    return values.astype(np.int64) if whole else values


def _suggest(name: str, known: Collection[str]) -> str:
    """Suggest the nearest names only: there are fifteen thousand."""
    text = nearest(name, known)
    near = text.split("? Known:")[0].removeprefix("did you mean ")
    return f"perhaps it is {near}" if near != text else "`lm_eval ls tasks` lists what there is"


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:199] + "…"
