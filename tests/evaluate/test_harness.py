"""Tasks of lm-evaluation-harness: the same scores as with its own model, on chips whose answers are kept apart."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import logging
import math
import os
import re
import subprocess
import sys
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
from aimc_sim.evaluate.marking import plain
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
        ({"seed": 2, "time": "1d"}, load_model(weights, seed=2, time=86400.0)),
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


MARKING = """
import math

def by_hand(doc, results):
    return {"acc": float(results[0][0] > LIMIT)}
LIMIT = -50
"""


def test_how_answers_are_marked_is_in_the_id(tmp_path: Path, local_tasks: Any) -> None:
    """What changes a mark changes the id, though nothing that is asked does: filter, metric, function, hidden row."""

    def loaded(write: Any, name: str, folder: str, **changes: Any) -> Any:
        return load_questions(name, folder=write(tmp_path / folder, **changes), limit=3)

    text = local_tasks.write_text_task

    def pattern(regex: str) -> list[dict[str, Any]]:
        steps = [{"function": "regex", "regex_pattern": regex}, {"function": "take_first"}]
        return [{"name": "strict", "filter": steps}]

    one = loaded(text, "sums", "a", filter_list=pattern("(the .*)"))
    assert loaded(text, "sums", "b", filter_list=pattern("(the .*)")).id == one.id, "wherever it lies"
    metric = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
    others = [
        loaded(text, "sums", "c", filter_list=pattern("(an? .*)")),
        loaded(text, "sums", "d"),
        loaded(
            text, "sums", "e", filter_list=pattern("(the .*)"), metric_list=[{**metric, "ignore_case": True}]
        ),
    ]
    assert all(each.items == one.items for each in others), "the same is asked"
    assert len({one.id, *(each.id for each in others)}) == 4
    assert len({one.configuration, *(each.configuration for each in others)}) == 4
    assert one.configuration.startswith("lm_eval ")

    ids = []
    for folder, code in (("f", MARKING), ("g", MARKING), ("h", MARKING.replace("-50", "-60"))):
        local_tasks.write_choice_task(tmp_path / folder)
        (tmp_path / folder / "own.py").write_text(code)
        path = tmp_path / folder / "sounds.yaml"
        path.write_text(path.read_text()[:-1] + ', "process_results": !function own.by_hand}')
        ids.append(load_questions("sounds", folder=tmp_path / folder, limit=3).id)
    assert ids[0] == ids[1] != ids[2], "what a function uses counts, not where its file lies"

    rows = local_tasks.choice_rows()
    plain_rows = load_questions("sounds", folder=local_tasks.write_choice_task(tmp_path / "i"), limit=3)
    local_tasks.write_choice_task(tmp_path / "j")
    local_tasks.write_rows(tmp_path / "j" / "rows.jsonl", [{**row, "aliases": ["x"]} for row in rows])
    hidden = load_questions("sounds", folder=tmp_path / "j", limit=3)
    assert hidden.items == plain_rows.items
    assert hidden.id != plain_rows.id
    more = load_questions("sounds", folder=tmp_path / "i", limit=4)
    assert {hidden.configuration, more.configuration} == {plain_rows.configuration}, "set up in the same way"


def test_another_process_finds_the_same_id(tasks: Path) -> None:
    """No order of a set and no address of an object is in it."""
    code = (
        "import sys, aimc_sim.evaluate.questions as q\n"
        "for name in ('sounds', 'sums'): print(q.load_questions(name, folder=sys.argv[1], limit=3).id)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tasks)], env={**os.environ, "PYTHONHASHSEED": "12345"}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.stdout.split() == [
        load_questions(name, folder=tasks, limit=3).id for name in ("sounds", "sums")
    ]


def test_another_version_of_the_harness_is_another_id(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_questions("sounds", folder=tasks, limit=3).id
    monkeypatch.setattr("aimc_sim.evaluate.questions.harness_version", lambda: "9.9")
    later = load_questions("sounds", folder=tasks, limit=3)
    assert later.id != before
    assert later.configuration.startswith("lm_eval 9.9, ")


def test_marks_that_are_no_shares_are_refused(tmp_path: Path, local_tasks: Any) -> None:
    """Right/wrong statistics and margins in points are for marks from 0 to 1."""
    local_tasks.write_choice_task(tmp_path)
    path = tmp_path / "sounds.yaml"
    path.write_text(path.read_text()[:-1] + ', "process_results": !function own.graded}')
    code = "def graded(doc, results):\n    return {'acc': 0.5, 'acc_norm': results[0][0]}\n"
    (tmp_path / "own.py").write_text(code)
    questions = load_questions("sounds", folder=tmp_path, limit=2)
    answers = [[(37.5, True)] * len(item.requests) for item in questions.items]
    assert questions.mark(answers, "acc")["acc"].tolist() == [0.5, 0.5], "part of a mark is a share too"
    assert questions.mark(answers, "acc")["acc_norm"].tolist() == [37.5, 37.5], (
        "beside the metric that decides"
    )
    for value in (37.5, -0.1, math.nan):
        marked = [[(value, True)] * len(given) for given in answers]
        with pytest.raises(BadInput, match=r"metric acc_norm of sounds: got .*a mark is a share"):
            questions.mark(marked, "acc_norm")
    with pytest.raises(BadInput, match="better the higher it is"):
        questions.check_metric("perplexity")


@dataclasses.dataclass
class Holder:
    value: Any


class Scale:
    def __init__(self, by: float) -> None:
        self.by = by


def test_values_of_a_configuration_become_plain_data() -> None:
    assert plain([None, True, 1.5, math.inf, np.float32(2), np.array([1, 2]), (3,)]) == [
        None, True, 1.5, "inf", 2.0, [1, 2], [3],
    ]  # fmt: skip
    assert plain({"b", "a"}) == ["a", "b"]
    assert plain(re.compile("x", re.IGNORECASE)) == ["x", re.compile("x", re.IGNORECASE).flags]
    assert plain(Holder({1: len})) == {"value": {"1": ["builtins", "len"]}}
    assert plain(functools.partial(plain, 1)) == [plain(plain), [1], {}]
    assert plain(datetime.date(2024, 1, 2))[1] == "datetime.date(2024, 1, 2)"
    assert plain(Scale(2.0)) == plain(Scale(2.0)) != plain(Scale(3.0))
    assert plain(b"x") != plain(b"y")


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


def write_own(folder: Path, local_tasks: Any, code: str, **changes: Any) -> Path:
    """A task that calls `f` of a file beside its YAML."""
    (folder / "own.py").write_text(code)
    path = local_tasks.write_choice_task(folder, **changes) / "sounds.yaml"
    path.write_text(path.read_text().replace('"!function own.f"', "!function own.f"))
    return folder


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"doc_to_text": "{{nothing}}"}, "", "UndefinedError: 'nothing' is undefined"),
        ({"test_split": "other"}, "", "KeyError: 'other'"),
        (
            {"process_docs": "!function own.f"},
            "def f(rows):\n    return None\n",
            "AttributeError: 'NoneType'",
        ),
        (
            {"process_results": "!function own.f"},
            "def f(doc, given):\n    return doc['no']\n",
            "KeyError: 'no'",
        ),
    ],
)
def test_an_error_in_a_yaml_file_is_told_as_one(
    tmp_path: Path, local_tasks: Any, changes: dict[str, Any], code: str, reason: str
) -> None:
    with pytest.raises(BadInput, match=f"its YAML does not fit.*{reason}.*correct the YAML") as caught:
        load_questions("sounds", folder=write_own(tmp_path, local_tasks, code, **changes))
    assert "network" not in str(caught.value)


@pytest.mark.parametrize("metric", ["choice", "loss", "lost", "agreement"])
def test_a_metric_called_like_a_column_of_reports_is_refused(
    tmp_path: Path, local_tasks: Any, metric: str
) -> None:
    listed = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", metric)]
    code = f"def f(doc, given):\n    return {{'acc': 1.0, '{metric}': 0.5}}\n"
    folder = write_own(tmp_path, local_tasks, code, process_results="!function own.f", metric_list=listed)
    with pytest.raises(BadInput, match=f"got '{metric}'.*rename the metric"):
        load_questions("sounds", folder=folder)


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
