"""`aimc-sim run`, `eval` and `signoff` as a user calls them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aimc_sim.cli.app import app

RUN = CliRunner()


def invoke(*args: object) -> Any:
    return RUN.invoke(app, [str(arg) for arg in args])


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("The quick brown fox jumps over the lazy dog. " * 6, encoding="utf-8")
    return path


def test_eval_prints_perplexity_as_json(tiny_weights: Path, text: Path) -> None:
    args = ("eval", tiny_weights, "--text", text, "--context", 64, "--seed", 2, "--time", "1d", "--json")
    first = invoke(*args)
    assert first.exit_code == 0, first.stderr
    found = json.loads(first.stdout)
    assert found["tokens"] == 270 - 5
    assert found["perplexity"] > 1
    assert (found["seed"], found["time_s"], found["hardware"]) == (2, 86400.0, "hermes-256")
    assert invoke(*args).stdout == first.stdout, "scores of the same command run twice"


def test_eval_compares_with_the_digital_model(tiny_weights: Path, text: Path) -> None:
    def of(*more: object) -> dict[str, Any]:
        done = invoke(
            "eval", tiny_weights, "--text", text, "--context", 64, "--limit-tokens", 128, "--json", *more
        )
        assert done.exit_code == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    digital, chip, ideal = (
        of("--digital", "--compare"),
        of("--compare"),
        of("--compare", "--hardware", "ideal"),
    )
    assert (digital["kl_nats"], digital["agreement"], digital["tokens"]) == (0.0, 1.0, 126)
    assert "hardware" not in digital
    assert chip["kl_nats"] > abs(ideal["kl_nats"])
    assert ideal["perplexity"] == pytest.approx(digital["perplexity"], rel=1e-4)
    assert of("--digital")["perplexity"] == digital["perplexity"]
    assert "kl_nats" not in of()


def test_eval_in_words(tiny_weights: Path, text: Path) -> None:
    done = invoke("eval", tiny_weights, "--text", text, "--context", 64, "--compare")
    assert "hermes-256, chip 0" in done.stdout
    assert "perplexity" in done.stdout
    assert "nats per token" in done.stdout


def test_run_streams_the_same_text_again(tiny_weights: Path) -> None:
    args = ("run", tiny_weights, "--prompt", "Once upon", "--seed", 3, "--time", "1h", "--max-new-tokens", 8)
    first, again = invoke(*args), invoke(*args)
    assert first.exit_code == 0, first.stderr
    assert first.stdout == again.stdout
    found = json.loads(invoke(*args, "--json").stdout)
    assert found["text"] == first.stdout.removesuffix("\n")
    assert len(found["token_ids"]) <= 8
    assert found["prompt_tokens"] == 9
    sampled = [
        json.loads(invoke(*args, "--json", "--temperature", 1, "--text-seed", s).stdout) for s in (1, 1, 2)
    ]
    assert sampled[0] == sampled[1] != sampled[2]
    digital = json.loads(invoke("run", tiny_weights, "--prompt", "Once", "--digital", "--json").stdout)
    assert "hardware" not in digital


@pytest.fixture(scope="module")
def studied(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("signoff") / "out"
    return invoke(
        "signoff",
        tiny_weights,
        "--chips",
        2,
        "--times",
        "1m,1y",
        "--margin",
        50,
        "--sequences",
        3,
        "--length",
        12,
        "-o",
        folder,
    ), folder


def test_signoff_passes_and_writes_its_report(studied: tuple[Any, Path]) -> None:
    done, folder = studied
    assert done.exit_code == 0, done.stderr
    for line in (
        "digital",
        "converters only (ideal cells)",
        "2 chips, 1m",
        "2 chips, 1y",
        "PASS",
        "report.html",
    ):
        assert line in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]


def test_the_command_in_the_report_makes_it_again(studied: tuple[Any, Path], tmp_path: Path) -> None:
    found = json.loads((studied[1] / "report.json").read_text())
    line = shlex.split(found["command"])
    assert line[-2:] == ["-o", "OUT"]
    done = invoke(*line[1:-1], tmp_path / "again", "--json")
    assert done.exit_code == 0, done.stderr
    again = json.loads(done.stdout)
    assert again == json.loads((tmp_path / "again" / "report.json").read_text())
    for document in (found, again):
        del document["timings"]
    assert json.dumps(again) == json.dumps(found)


def test_a_failing_verdict_exits_with_1(tiny_weights: Path, tmp_path: Path, text: Path) -> None:
    done = invoke(
        "signoff",
        tiny_weights,
        "--chips",
        2,
        "--times",
        "1y",
        "--margin",
        0,
        "--text",
        text,
        "--context",
        64,
        "--limit-tokens",
        128,
        "--metric",
        "loss",
        "-o",
        tmp_path / "out",
    )
    assert done.exit_code == 1, done.stderr
    assert "FAIL" in done.stdout
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["verdict"]["metric"] == "loss"
    assert found["text"]["scored_tokens"] == 126
    assert "--limit-tokens 128" in found["command"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("signoff", "--times", "1y,soon", "--margin", 1), "error: time: got 'soon'"),
        (("signoff", "--times", "1000y", "--margin", 1), "error: time for device"),
        (("signoff", "--times", "1d", "--margin", -1), "error: sign-off plan: margin_nats"),
        (("signoff", "--metric", "accuracy", "--margin", 1), "error: metric: got 'accuracy'"),
        (("signoff", "--margin", 1, "--hardware", "hermes-265"), "did you mean 'hermes-256'?"),
        (("signoff", "--margin", 1, "--chips", 0), "error: chips: got 0"),
        (("signoff", "--margin", 1, "--text", "missing.txt"), "error: text file: got 'missing.txt'"),
        (("eval", "--text", "missing.txt"), "error: text file: got 'missing.txt'"),
        (("eval", "--text", "missing.txt", "--time", "-1d"), "error: time: got '-1d'"),
        (("run", "--prompt", "x", "--time", "1000y"), "error: time for device"),
        (("run", "--prompt", ""), "error: prompt"),
        (("run", "--prompt", "x", "--chat"), "error: chat template"),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_written(
    tiny_weights: Path, tmp_path: Path, args: tuple[object, ...], message: str
) -> None:
    folder = tmp_path / "out"
    done = invoke(args[0], tiny_weights, *args[1:], *(("-o", folder) if args[0] == "signoff" else ()))
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""
    assert not folder.exists()


def test_a_missing_weight_file_is_bad_input(tmp_path: Path) -> None:
    done = invoke("signoff", tmp_path / "no.h5", "--margin", 1, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["exit_code"] == 2
    assert not (tmp_path / "out").exists()
