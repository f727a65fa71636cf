"""`AnswersRunner` puts requests, as token ids, to a model in any worker; marks are given where the plan is driven."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.completions import completions
from aimc_sim.evaluate.continuations import Request, forwards, likelihoods, trees_of
from aimc_sim.evaluate.encoding import Encoder
from aimc_sim.evaluate.marking import Answer
from aimc_sim.evaluate.questions import Questions
from aimc_sim.evaluate.text import check_vocabulary, context_limit, load_tokenizer
from aimc_sim.signoff.design.tasks import HarnessTask
from aimc_sim.signoff.execution.scores import Json, TrialScores, packed, unpacked
from aimc_sim.torch_bridge.model import load_digital
from aimc_sim.weightfile import WeightFile

POSITIONS = 2048  # of a model whose configuration names no limit, as in the harness
Mark = Callable[[TrialScores], TrialScores]


def items_of(task: HarnessTask, weight_file: WeightFile, questions: Questions | None) -> Json:
    """Return the items as JSON: examples for people, and requests as token ids. Raises BadInput for other questions
    than the plan's, a prompt that does not fit, and a tokenizer that is not the model's.
    """
    check_questions(task, questions)
    assert questions is not None
    encoder = Encoder(load_tokenizer(weight_file))
    longest = context_limit(weight_file.config) or POSITIONS
    contexts: dict[tuple[int, ...], int] = {}
    context_of: list[int] = []
    continuations: list[Sequence[int]] = []
    for item in questions.items:
        for request in item.requests:
            if questions.kind == "likelihood":
                context, continuation = encoder.pair(*request)
                continuations.append(continuation)
            else:
                context = _cut_to_fit(encoder.encode(request[0]), longest, questions)
            context_of.append(contexts.setdefault(tuple(context), len(contexts)))
    for ids in (*contexts, *continuations):
        check_vocabulary(weight_file, ids)
    return {
        "kind": questions.kind,
        "examples": [item.example() for item in questions.items],
        "counts": [len(item.requests) for item in questions.items],
        "contexts": packed(list(contexts)),
        "context_of": context_of,
        "continuations": packed(continuations),
        "longest": longest,
        "until": list(questions.until),
        "max_new_tokens": questions.max_new_tokens,
    }


def check_questions(task: HarnessTask, questions: Questions | None) -> None:
    """Raise BadInput where the questions are not those that the plan was made for."""
    if questions is None or questions.id != task.questions_id:
        raise BadInput(
            f"questions of {task.label}",
            got=None if questions is None else questions.id,
            why=f"the plan is for {task.questions} questions of {task.task} with id {task.questions_id}",
            do="give the same rows, limit, YAML files and version of lm-evaluation-harness, or make a new plan",
        )
    questions.check_metric(task.metric)


def marker(task: HarnessTask, items: Json, questions: Questions | None, weight_file: WeightFile) -> Mark:
    """Return what turns the answers of a trial, as a worker gives them, into marks of each question."""
    check_questions(task, questions)
    tokenizer = load_tokenizer(weight_file) if items["kind"] == "text" else None

    def mark(scores: TrialScores) -> TrialScores:
        assert questions is not None
        given = _answers(items, scores, tokenizer)
        ends = np.cumsum([0, *items["counts"]])
        by_question = [given[start:stop] for start, stop in zip(ends[:-1], ends[1:], strict=True)]
        return TrialScores(questions.mark(by_question, task.metric))

    return mark


def steps_of_requests(task: HarnessTask, items: Json) -> int:
    """Count the forwards of the likelihoods, or prompts of the texts."""
    if items["kind"] == "text":
        return len(items["context_of"])
    requests = _requests(items)
    return sum(1 for _ in forwards(trees_of(requests, task.batch, items["longest"]), task.batch))


class AnswersRunner:
    """A runner of answers puts requests to one model after the other, as token ids."""

    def __init__(self, task: HarnessTask, items: Json, weight_file: WeightFile) -> None:
        self._task, self._items, self._weights = task, items, weight_file
        self._contexts = _lists(items["contexts"])
        self._requests = _requests(items)
        self.steps = steps_of_requests(task, items)
        self._tokenizer = load_tokenizer(weight_file) if items["kind"] == "text" else None

    def digital(self, on_step: Callable[[], None]) -> TrialScores:
        """Return the digital model's answers."""
        return self.score(load_digital(self._weights), on_step)

    def score(self, model: Any, on_step: Callable[[], None]) -> TrialScores:
        """Answer every request: `log` and `greedy`, or token ids (`tokens`, one text after the other) and `lengths`."""
        if self._tokenizer is None:
            scored = likelihoods(
                model, self._requests, self._task.batch, longest=self._items["longest"], on_forward=on_step
            )
            return TrialScores({"log": scored.log, "greedy": scored.greedy})
        tokenizer, until = self._tokenizer, self._items["until"]

        def ends(tokens: Sequence[int]) -> bool:
            # A stop is at most as many tokens as it has letters, and began before the last one.
            tail = tokenizer.decode(tokens[-max((len(stop) for stop in until), default=1) - 4 :])
            return any(stop in tail for stop in until)

        written = completions(
            model,
            [self._contexts[place] for place in self._items["context_of"]],
            self._items["max_new_tokens"],
            ends=ends,
            stop={tokenizer.eos_token_id},
            tokens=self._task.batch,
            on_prompt=on_step,
        )
        return TrialScores(
            {
                "tokens": np.array([token for text in written for token in text], np.int64),
                "lengths": np.array([len(text) for text in written], np.int64),
            }
        )

    def example(self) -> npt.NDArray[np.int32]:
        """Return the first request."""
        context = self._contexts[self._items["context_of"][0]]
        rest = self._requests[0][1] if self._requests else ()
        return np.array([*context, *rest], np.int32)

    def close(self) -> None:
        """Do nothing: there is nothing to delete."""


def _answers(items: Json, scores: TrialScores, tokenizer: Any) -> list[Answer]:
    values = scores.values
    if tokenizer is None:
        return [
            (float(log), bool(greedy)) for log, greedy in zip(values["log"], values["greedy"], strict=True)
        ]
    texts = np.split(values["tokens"].astype(np.int64), np.cumsum(values["lengths"].astype(np.int64))[:-1])
    answers = []
    for ids in texts:
        text = str(tokenizer.decode(ids.tolist(), skip_special_tokens=True))
        for stop in items["until"]:
            text = text.split(stop)[0] if stop else text
        answers.append(text)
    return list(answers)


def _cut_to_fit(context: list[int], longest: int, questions: Questions) -> list[int]:
    """Return the end of a prompt that leaves room to write."""
    room = longest - questions.max_new_tokens
    if room < 1:
        raise BadInput(
            f"task {questions.name}",
            got=f"{questions.max_new_tokens} new tokens",
            why=f"the model has {longest} positions",
            do="lower max_gen_toks in a copy of its YAML",
        )
    return context[-room:]


def _requests(items: Json) -> list[Request]:
    if items["kind"] == "text":
        return []
    contexts, continuations = _lists(items["contexts"]), _lists(items["continuations"])
    return [
        (contexts[place], continuation)
        for place, continuation in zip(items["context_of"], continuations, strict=True)
    ]


def _lists(data: Json) -> list[list[int]]:
    return [ids.tolist() for ids in unpacked(data)]
