"""Tasks of lm-evaluation-harness: the same scores as with its own model, on chips whose answers are kept apart."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from aimc_sim.errors import BadInput
from aimc_sim.evaluate import __main__ as command
from aimc_sim.evaluate.encoding import Encoder
from aimc_sim.evaluate.harness import AimcLM
from aimc_sim.evaluate.questions import load_questions
from aimc_sim.evaluate.text import load_tokenizer
from aimc_sim.torch_bridge import load_digital, load_model
from aimc_sim.weightfile import WeightFile

logging.getLogger("lm_eval").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory, local_tasks: Any) -> Path:
    folder = local_tasks.write_choice_task(tmp_path_factory.mktemp("tasks"))
    local_tasks.write_text_task(folder)
    local_tasks.write_choice_task(folder, "words", output_type="loglikelihood", doc_to_target="{{choices[0]}}",
                                  doc_to_choice=None, metric_list=[{"metric": "acc"}])  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def manager(tasks: Path) -> Any:
    return TaskManager(include_path=str(tasks), include_defaults=False)


def evaluated(lm: Any, manager: Any, names: list[str], **more: Any) -> Any:
    return lm_eval.simple_evaluate(
        lm, tasks=names, task_manager=manager, bootstrap_iters=0, log_samples=True, **more
    )


def marks(found: Any, task: str, metric: str) -> list[float]:
    return [sample[metric] for sample in sorted(found["samples"][task], key=lambda each: each["doc_id"])]


def test_scores_are_those_of_the_harness_own_model(tiny_weights: Path, manager: Any) -> None:
    weights = WeightFile(tiny_weights)
    names = ["sounds", "sums", "words"]
    for chip, model in (
        ({"digital": True}, load_digital(weights)),
        ({"seed": 2, "time": "1d"}, load_model(weights, seed=2, time_s=86400.0)),
    ):
        ours = evaluated(AimcLM(str(tiny_weights), **chip), manager, names)
        plain = HFLM(pretrained=model, tokenizer=load_tokenizer(weights), batch_size=4)
        theirs = evaluated(plain, manager, names)
        for task, metric in (
            ("sounds", "acc"),
            ("sounds", "acc_norm"),
            ("sums", "exact_match"),
            ("words", "acc"),
        ):
            assert marks(ours, task, metric) == marks(theirs, task, metric)
        given, wanted = (
            [answer[0][0] for each in found["samples"]["sounds"] for answer in each["resps"]]
            for found in (ours, theirs)
        )
        assert np.allclose(given, wanted, atol=0.05)
        assert [each["resps"] for each in ours["samples"]["sums"]] == [
            each["resps"] for each in theirs["samples"]["sums"]
        ]


def test_questions_are_marked_as_the_harness_marks_them(
    tiny_weights: Path, manager: Any, tasks: Path
) -> None:
    lm = AimcLM(str(tiny_weights), digital=True)
    found = evaluated(lm, manager, ["sounds"])
    questions = load_questions("sounds", folder=tasks)
    assert questions.metrics == ("acc", "acc_norm")
    answers = [
        [tuple(answer[0]) for answer in sample["resps"]]
        for sample in sorted(found["samples"]["sounds"], key=lambda each: each["doc_id"])
    ]
    marked = questions.mark(answers, "acc_norm")
    assert marked["acc"].tolist() == marks(found, "sounds", "acc_norm")
    assert marked["plain_acc"].tolist() == marks(found, "sounds", "acc")
    assert [
        int(item.answer == choice) for item, choice in zip(questions.items, marked["choice"], strict=True)
    ] == (marked["acc"].tolist())
    first = questions.items[0]
    assert (first.id, first.answer, first.choices[0]) == ("q0", 0, "the dog")
    assert first.requests[0] == (first.question, " the dog")


def test_questions_have_an_id_by_what_is_asked(tasks: Path, tmp_path: Path, local_tasks: Any) -> None:
    whole = load_questions("sounds", folder=tasks)
    assert load_questions("sounds", folder=tasks).id == whole.id
    assert load_questions("sounds", folder=tasks, limit=3).id != whole.id
    again = local_tasks.write_choice_task(tmp_path)
    assert load_questions("sounds", folder=again).id == whole.id, "wherever the rows lie"
    shots = load_questions("sounds", folder=tasks, num_fewshot=1)
    assert shots.items[0].requests[0][0].endswith(whole.items[0].requests[0][0])
    assert shots.id != whole.id
    for count, says in ((-1, "use 0 or more"), (99, "cannot be made from its rows")):
        with pytest.raises(BadInput, match=says):
            load_questions("sounds", folder=tasks, num_fewshot=count)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"output_type": "loglikelihood_rolling", "doc_to_choice": None}, "perplexity of a text"),
        ({"unsafe_code": True}, "runs code"),
        ({"repeats": 3}, "several times"),
        ({"metric_list": [{"metric": "brier_score", "aggregation": "brier_score", "higher_is_better": False}]},
         "no number for each question"),
        ({"dataset_kwargs": {"data_files": {"test": "/no/such/file.jsonl"}}}, "its rows cannot be had"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(
    tmp_path: Path, local_tasks: Any, changes: dict[str, Any], says: str
) -> None:
    local_tasks.write_choice_task(tmp_path, **changes)
    with pytest.raises(BadInput, match=says):
        load_questions("sounds", folder=tmp_path)


def test_sampled_answers_and_unknown_names_are_refused(tmp_path: Path, local_tasks: Any) -> None:
    local_tasks.write_text_task(tmp_path, generation_kwargs={"do_sample": True, "temperature": 0.7})
    with pytest.raises(BadInput, match="sampled"):
        load_questions("sums", folder=tmp_path)
    with pytest.raises(BadInput, match="--limit"):
        load_questions("sums", folder=tmp_path, limit=0)
    with pytest.raises(BadInput, match="--tasks-dir"):
        load_questions("sums", folder=tmp_path / "nowhere")
    with pytest.raises(BadInput, match="metric of sounds"):
        load_questions("sounds", folder=local_tasks.write_choice_task(tmp_path)).check_metric("acc_nrm")


def test_a_group_pools_the_questions_of_its_tasks(tasks: Path, tmp_path: Path, local_tasks: Any) -> None:
    for name in ("one", "two"):
        local_tasks.write_choice_task(tmp_path, name)
    (tmp_path / "both.yaml").write_text(json.dumps({"group": "both", "task": ["one", "two"]}))
    questions = load_questions("both", folder=tmp_path, limit=2)
    assert [item.id for item in questions.items] == ["one:q0", "one:q1", "two:q0", "two:q1"]
    right = [[(float(k == item.answer), False) for k in range(len(item.choices))] for item in questions.items]
    assert questions.mark(right, "acc")["acc"].tolist() == [1, 1, 1, 1]


def test_prompts_become_the_token_ids_of_the_harness(tiny_weights: Path) -> None:
    weights = WeightFile(tiny_weights)
    tokenizer = load_tokenizer(weights)
    lm = HFLM(pretrained=load_digital(weights), tokenizer=tokenizer)
    encoder = Encoder(tokenizer)
    for context, continuation in (("a b", " c"), ("a b  ", "c"), ("Q:\n", " an\nswer"), ("<s>x", "y")):
        assert encoder.pair(context, continuation) == lm._encode_pair(context, continuation)
        assert encoder.encode(context) == lm.tok_encode(context)
    assert encoder.pair("", "word") == (
        [lm.prefix_token_id],
        tokenizer.encode("word", add_special_tokens=False),
    )


def test_a_cache_of_answers_is_kept_apart_by_chip(tiny_weights: Path, manager: Any, tmp_path: Path) -> None:
    cache = str(tmp_path / "answers")
    chips = [
        AimcLM(str(tiny_weights), **chip)
        for chip in ({"seed": 1}, {"seed": 1, "time": "1y"}, {"digital": True})
    ]
    assert len({lm.chip_key for lm in chips}) == 3
    assert AimcLM(str(tiny_weights), seed=1).chip_key == chips[0].chip_key
    few: dict[str, Any] = {"limit": 2}  # each answer is synced to the disk
    alone = [evaluated(lm, manager, ["sounds"], **few)["samples"]["sounds"] for lm in chips]
    for _ in range(2):  # the second time from the cache
        for lm, own in zip(chips, alone, strict=True):
            found = evaluated(lm, manager, ["sounds"], use_cache=cache, **few)["samples"]["sounds"]
            assert [each["filtered_resps"] for each in found] == [each["filtered_resps"] for each in own]

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("the answers are in the cache")

    chips[0]._loglikelihood_tokens = never
    evaluated(chips[0], manager, ["sounds"], use_cache=cache, **few)


def test_the_model_is_registered_and_takes_an_argument_string(tiny_weights: Path, manager: Any) -> None:
    found = evaluated(
        "aimc-sim", manager, ["sounds"], limit=2,
        model_args=f"file={tiny_weights},hardware=hermes-256,seed=3,time=1d,session=1",
    )  # fmt: skip
    assert "time 86400.0 session 1" in found["config"]["aimc_sim_chip"]
    with pytest.raises(BadInput, match="leave out tokenizer"):
        AimcLM(str(tiny_weights), tokenizer="other")


def test_the_command_ends_bad_input_with_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        AimcLM("/no/such/file.h5")

    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", run)
    with pytest.raises(SystemExit) as done:
        command.main()
    assert done.value.code == 2
    assert "/no/such/file.h5" in capsys.readouterr().err
