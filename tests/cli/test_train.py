"""``aimc-sim sample`` and ``aimc-sim train``, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aimc_sim.cli.app import app
from aimc_sim.finetuning.logs import read_log
from aimc_sim.hardware import Hardware

RECIPE = 'base = "afm-small"\nsequences = 4\nlength = 16\n[training]\nrange_forwards = 2\n'
CHIP = """device = "pcm-afm"
[dac]
range = { method = "std", kappa = 8.0 }
[adc]
full_scale = { rule = "lambda", lambda_ = 4.0 }
"""


def run(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def data(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "tokens"
    code, out, _ = run(
        "sample", tiny_checkpoint, "--tokens", "600", "--length", 16, "--sequences", 20, "--batch", 20,
        "-o", folder, "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out) == {"folder": str(folder), "shards": 2, "tokens": 608, "length": 16}
    return folder


def test_sampling_further_keeps_what_is_there(data: Path, tiny_checkpoint: Path) -> None:
    first = (data / "tokens-000000.safetensors").stat().st_mtime_ns
    code, out, _ = run(
        "sample",
        tiny_checkpoint,
        "--tokens",
        "700",
        "--length",
        16,
        "--sequences",
        20,
        "--batch",
        20,
        "-o",
        data,
    )
    assert code == 0
    assert "3 shards, 704 tokens" in out
    assert (data / "tokens-000000.safetensors").stat().st_mtime_ns == first


def test_training_from_the_command_line(data: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    recipe, chip = tmp_path / "mine.toml", tmp_path / "chip.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    chip.write_text(CHIP, encoding="utf-8")
    code, out, err = run(
        "train", tiny_checkpoint, "--recipe", recipe, "--hardware", chip, "--data", data, "--tokens", "192",
        "--chips", 2, "--log-every", 1, "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert code == 0, err
    document = json.loads(out)
    assert document["losses"]["noisy"] > 0
    begun = read_log(tmp_path / "out")[0]
    before = {"clean": "clean_loss", "noisy": "noisy_loss", "noisy_std": "noisy_std"}
    assert document["losses_before"] == {name: float(begun[column]) for name, column in before.items()}
    assert document["losses_before"] != document["losses"]
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert (tmp_path / "out" / "loss.png").is_file()
    assert list((tmp_path / "out" / "tensorboard").glob("events*"))
    own, other = tmp_path / "out" / "hardware.toml", Hardware.load("afm-llama")
    code, out, err = run("export", tmp_path / "out", "-o", tmp_path / "m.h5", "--json")
    assert code == 0, err
    assert json.loads(out)["hardware_id"] == Hardware.load(own).id == Hardware.load(chip).id
    assert f"note: hardware chip, from {own}" in err
    code, out, err = run(
        "export", tmp_path / "out", "-o", tmp_path / "n.h5", "--hardware", "afm-llama", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["hardware_id"] == other.id
    assert f"note: hardware afm-llama; the folder was trained for chip ({own})" in err


def test_losses_before_and_after_and_a_folder_of_another_seed(
    data: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    line = ("train", tiny_checkpoint, "--recipe", recipe, "--data", data, "--tokens", 64, "--chips", 2)
    code, out, err = run(*line, "-o", tmp_path / "out")
    assert code == 0, err
    shown = read_log(tmp_path / "out")
    before, after = (
        {key: float(row[key]) for key in ("clean_loss", "noisy_loss")} for row in (shown[0], shown[-1])
    )
    assert (
        f"loss without noise   {before['clean_loss']:.4f} → {after['clean_loss']:.4f} nats per token" in out
    )
    assert f"loss on 2 chips      {before['noisy_loss']:.4f} ± " in out
    assert f" → {after['noisy_loss']:.4f} ± " in out
    code, _, err = run(*line, "--seed", 3, "-o", tmp_path / "out")
    assert code == 2
    assert "seed was 0 and is 3" in err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--recipe": "afm-smal"}, "afm-small"),
        ({"--hardware": "nothing"}, "hardware"),
        ({"--tokens": "much"}, "500k or 2M"),
        ({"--data": "nothing-here"}, "aimc-sim sample"),
        ({"--precision": "fp16"}, "bf16"),
        ({"--sharding": "zero"}, "fsdp2"),
    ],
)
def test_what_cannot_be_trained_is_explained(
    changes: dict[str, str], said: str, data: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    options = {"--data": str(data), "--tokens": "100", "-o": str(tmp_path / "out"), **changes}
    code, _, err = run("train", tiny_checkpoint, *(word for pair in options.items() for word in pair))
    assert code == 2
    assert said in err
    assert not (tmp_path / "out").exists()


def test_a_text_is_cut_by_one_process(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abc" * 50, encoding="utf-8")
    code, _, err = run(
        "sample", tiny_checkpoint, "--tokens", 32, "--length", 16, "--text", tmp_path / "text.txt", "--part", "1/2",
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert code == 2
    assert "leave part (--part) out" in err
    assert not (tmp_path / "out").exists()
