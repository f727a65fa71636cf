"""`aimc-sim run`, `eval` and `signoff` as a user calls them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aimc_sim.cli.app import app
from aimc_sim.hardware import Hardware
from aimc_sim.weightfile import WeightFile

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
    assert of("--compare", "--stream", "always") == chip, "layer by layer, to the last bit"
    assert of("--digital", "--compare", "--stream", "always") == digital
    assert "kl_nats" not in of()


def test_eval_in_words(tiny_weights: Path, text: Path) -> None:
    done = invoke("eval", tiny_weights, "--text", text, "--context", 64, "--compare")
    assert "hermes-256, seed 0" in done.stdout
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


def test_every_run_says_what_was_analog(tiny_weights: Path, text: Path, tmp_path: Path) -> None:
    tiled = tmp_path / "tiled.toml"
    document = Hardware.load("afm-llama").model_dump(mode="json")
    document["tile"] |= {"rows": 32, "cols": 32}
    tiled.write_text(Hardware.parse(document, "a test").to_toml())
    for command in (
        ("run", tiny_weights, "--prompt", "Once", "--max-new-tokens", 2),
        ("eval", tiny_weights, "--text", text, "--context", 64),
        ("eval", tiny_weights, "--text", text, "--context", 64, "--compare"),
    ):
        done = invoke(*command)
        assert done.exit_code == 0, done.stderr
        assert "% of multiply-accumulates are analog (100.0 %" in done.stderr
        assert "arithmetic: exact integers, engine " in done.stderr
        found = json.loads(invoke(*command, "--json").stdout)
        assert found["coverage"]["summary"] in done.stderr
        assert found["arithmetic"] in done.stderr
        assert found["notes"] == []
        assert "λ" not in done.stderr
        noted = invoke(*command, "--hardware", tiled)
        assert "λ of " in noted.stderr
        assert "tiles of 32 rows it must be derived again" in noted.stderr
        digital = invoke(*command, "--digital")
        assert "coverage: the digital model, nothing is analog" in digital.stderr


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
        "  seed 1",
        "2 chips, 1m",
        "2 chips, 1y",
        "PASS",
        "report.html",
    ):
        assert line in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == [
        "journal.sqlite",
        "junit.xml",
        "report.html",
        "report.json",
        "report.md",
    ]
    found = json.loads((folder / "report.json").read_text())
    assert found["provenance"]["ranges_id"] == found["plan"]["ranges_id"] != ""
    assert found["provenance"]["arithmetic"].startswith("exact integers, engine ")
    page = (folder / "report.html").read_text()
    assert found["provenance"]["ranges_id"] in page
    assert found["provenance"]["arithmetic"] in page


def test_layers_are_told_by_the_run(studied: tuple[Any, Path]) -> None:
    layers = json.loads((studied[1] / "report.json").read_text())["layers"]
    assert (layers["seed"], layers["time_s"]) == (0, 31556952.0)
    assert {row["role"] for row in layers["matrices"]} >= {"q", "up"}
    assert all(0 < row["snr_db"] < 60 for row in layers["matrices"])
    assert "Layer by layer" in (studied[1] / "report.html").read_text()


def test_compare_of_a_signoff_with_itself(studied: tuple[Any, Path], tmp_path: Path) -> None:
    folder = studied[1]
    done = invoke("compare", folder, folder / "report.json", "--margin", 50, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "2 shared chips, 3 items" in done.stdout
    assert "PASS" in done.stdout
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["compare.html", "compare.json", "compare.md"]
    found = json.loads(invoke("compare", folder, folder, "--json").stdout)
    assert (found["pass"], found["parts"][0]["times"][0]["mean"]) == (None, 0.0)
    for args, message in (
        ((tmp_path / "none", folder), "it cannot be read"),
        ((folder, folder, "--margin", -1), "error: margin: got -1.0"),
        ((folder, folder, "--alpha", 0.7), "error: alpha: got 0.7"),
        ((folder, folder, "--task", "arc"), "error: --task: got 'arc'"),
        ((folder, folder, "-o", folder / "report.json"), "error: output folder"),
    ):
        refused = invoke("compare", *args)
        assert (refused.exit_code, message in refused.stderr) == (2, True), refused.stderr


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
        (("signoff", "--times", "1d", "--margin", -1), "error: --margin: got -1.0"),
        (("signoff", "--margin", 1, "--alpha", 0.7), "next: use more than 0 and less than 0.5"),
        (("signoff", "--margin", 1, "--batch", 0), "error: --batch: got 0"),
        (("signoff", "--margin", 1, "--batch", -3), "error: --batch: got -3"),
        (("signoff", "--margin", 1, "--sequences", 0), "error: --sequences: got 0"),
        (("signoff", "--margin", 1, "--text-seed", -1), "error: --text-seed: got -1"),
        (("signoff", "--margin", 1, "--seed", -1), "error: --seed: got -1"),
        (("signoff", "--margin", 1, "--text", "x", "--length", 9), "error: --length: got 9"),
        (("signoff", "--margin", 1, "--text", "x", "--sequences", 9), "next: leave out --sequences"),
        (("signoff", "--margin", 1, "--context", 9), "error: --context: got 9"),
        (("eval", "--text", "x", "--digital", "--hardware", "ideal"), "error: hardware: got 'ideal'"),
        (("eval", "--text", __file__, "--stream", "allways"), "error: stream: got 'allways'"),
        (("run", "--prompt", "x", "--digital", "--hardware", "ideal"), "error: hardware: got 'ideal'"),
        (("signoff", "--metric", "accuracy", "--margin", 1), "error: metric: got 'accuracy'"),
        (("signoff", "--margin", 1, "--hardware", "hermes-265"), "did you mean 'hermes-256'?"),
        (("signoff", "--margin", 1, "--chips", 0), "error: chips: got 0"),
        (("signoff", "--margin", 1, "--text", "missing.txt"), "error: text file: got 'missing.txt'"),
        (("eval", "--text", "missing.txt"), "error: text file: got 'missing.txt'"),
        (("eval", "--text", "missing.txt", "--time", "-1d"), "error: time: got '-1d'"),
        (("run", "--prompt", "x", "--time", "1000y"), "error: time for device"),
        (("run", "--prompt", ""), "error: prompt"),
        (("run", "--prompt", "x", "--chat"), "error: chat template"),
        (
            ("run", "--prompt", "xy", "--max-new-tokens", 256),
            "2 of the model's 256 positions.\nnext: use at most 255",
        ),
        (("run", "--prompt", "x" * 300), "next: shorten the prompt"),
        (("run", "--prompt", "x", "--max-new-tokens", 0), "error: max-new-tokens: got 0"),
        (("run", "--prompt", "x", "--max-new-tokens", "many"), "error: Invalid value for '--max-new-tokens'"),
        (("run", "--prompt", "x", "--temperature", "nan"), "error: temperature: got nan"),
        (("run", "--prompt", "x", "--seed", -1), "error: seed: got -1"),
        (("run", "--prompt", "x", "--text-seed", 1 << 64), "error: seed: got 18446744073709551616"),
        (("run", "--prompt", "x", "--session", -1), "error: session: got -1"),
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


@pytest.mark.parametrize(
    "args",
    [
        ("signoff", "FILE", "--margin", 1, "-o", "OUT"),
        ("eval", "FILE", "--text", "TEXT", "--context", 64),
        ("eval", "FILE", "--text", "TEXT", "--context", 64, "--digital"),
        ("run", "FILE", "--prompt", "Once"),
        ("sensitivity", "FILE", "-o", "OUT"),
        ("place", "FILE", "--budget", "50%", "-o", "OUT"),
        ("size", "FILE"),
        ("size", "FILE", "--adc-bits", "7:8", "--metric", "cost", "-o", "OUT"),
    ],
    ids=lambda args: "-".join(str(arg) for arg in args[:1] + args[-1:]),
)
def test_a_damaged_weight_file_is_refused_before_anything_is_computed(
    tiny_weights: Path, text: Path, tmp_path: Path, args: tuple[Any, ...]
) -> None:
    content = bytearray(tiny_weights.read_bytes())
    first = content.index(WeightFile(tiny_weights).raw("model.layers.0.mlp.down_proj").tobytes())
    content[first + 64 : first + 192] = b"\xff" * 128  # not-a-numbers in either 16-bit format
    damaged, out = tmp_path / "damaged.h5", tmp_path / "out"
    damaged.write_bytes(content)
    paths = {"FILE": damaged, "TEXT": text, "OUT": out}
    done = invoke(*(paths.get(arg, arg) for arg in args))
    assert done.exit_code == 2, done.output
    assert "it is damaged, in" in done.stderr
    assert "model.layers.0.mlp.down_proj" in done.stderr
    assert "aimc-sim verify" in done.stderr
    assert done.stdout == ""
    assert not out.exists()


def test_one_chip_on_one_window_has_no_interval(tiny_weights: Path, tmp_path: Path) -> None:
    done = invoke(
        "signoff", tiny_weights, "--chips", 1, "--times", "1m", "--margin", 50, "--sequences", 1, "--length", 12,
        "-o", tmp_path,
    )  # fmt: skip
    assert done.exit_code == 1, done.stderr
    assert "gives no interval" in done.stdout
    assert "–" not in done.stdout
    assert "inf)" not in done.stdout


def test_a_pipe_gets_a_line_at_every_stage(studied: tuple[Any, Path]) -> None:
    stages = [line.split(":")[0] for line in studied[0].stderr.splitlines()]
    assert stages[0] == "checking the file"
    assert "chips × times" in stages
    begun = [stage for before, stage in zip(["", *stages], stages, strict=False) if stage != before]
    assert len(begun) == len(set(begun)), "further lines of a stage (one every 15 s) stand together"
