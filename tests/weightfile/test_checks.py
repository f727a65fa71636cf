"""Numbers and documents that a stranger chose: refused before anything acts on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.weightfile import Calibration, Moments, WeightFile
from aimc_sim.weightfile.writer import WeightFileWriter
from helpers.tiny_weightfiles import fill


def write_with(path: Path, **changes: Any) -> WeightFile:
    """A sound file but for: hardware, config (documents), token_ids, ranges, max_abs."""

    class Writer(WeightFileWriter):
        def add_document(self, name: str, content: dict[str, Any] | bytes) -> None:
            super().add_document(name, changes.get(name.partition(".")[0], content))

        def add_calibration(self, calibration: Calibration) -> None:
            super().add_calibration(Calibration(changes.get("token_ids", calibration.token_ids), "a test"))

        def add_moments(self, name: str, moments: Moments) -> None:
            scaled = moments.max_abs * np.float32(changes.get("factor", 1))
            super().add_moments(name, Moments(scaled, moments.mean, moments.second_moment))

    with Writer(path) as writer:
        fill(writer)
        if "ranges" in changes:
            writer.add_ranges("layer.a", np.array(changes["ranges"], np.float32))
        return writer.finish()


def test_hardware_inside_a_file_reads_no_other_file(tmp_path: Path) -> None:
    table = tmp_path / "cells.csv"
    table.write_text("never read")
    for device in (f'measurements = "{table}"', f'name = "x"\nmeasurements = "{table}"', 'base = "pcm-hermes-2"',
                   'name = "x"\ndrift = "pcm-ibm2019"'):  # fmt: skip
        file = write_with(tmp_path / "m.aimc", hardware=f'name = "x"\n[device]\n{device}\n'.encode())
        with pytest.raises(BadInput, match="refers to nothing outside") as caught:
            _ = file.hardware
        assert "never read" not in str(caught.value)
    with pytest.raises(BadInput, match="refers to nothing outside"):
        _ = write_with(tmp_path / "m.aimc", hardware=b'name = "x"\ndevice = "ideal"\n').hardware
    with pytest.raises(BadInput, match=r"hardware\.toml"):
        _ = write_with(tmp_path / "m.aimc", hardware=b'base = "hermes-256"\n').hardware


@pytest.mark.parametrize(
    "text", [b"\xff", b"name = ", b"a = " + b"[" * 9000, b".".join([b"a"] * 9000) + b" = 1", b"name = 3"]
)
def test_hardware_that_is_no_toml(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(BadInput, match=r"hardware\.toml"):
        _ = write_with(tmp_path / "m.aimc", hardware=text).hardware


def test_every_preset_is_stored_in_full(tmp_path: Path) -> None:
    from aimc_sim.hardware import Hardware, preset_names

    for name in preset_names():
        for hardware in (Hardware.load(name), Hardware.load(name).with_ideal_cells()):
            file = write_with(tmp_path / "m.aimc", hardware=hardware.to_toml().encode())
            assert file.hardware == hardware


@pytest.mark.parametrize("ranges", [[np.nan], [np.inf], [0.0], [-1.0, 1.0], [1.0, np.nan]])
def test_learned_ranges_must_be_finite_and_positive(tmp_path: Path, ranges: list[float]) -> None:
    file = write_with(tmp_path / "m.aimc", ranges=ranges)
    with pytest.raises(BadInput, match=r"ranges/layer\.a.*above 0"):
        file.ranges("layer.a")


def test_learned_ranges_have_one_axis(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="tiles"):
        write_with(tmp_path / "m.aimc", ranges=[[1.0, 2.0]])


@pytest.mark.parametrize(("token", "reason"), [(-1, "negative"), (7, "7 tokens"), (2**31 - 1, "7 tokens")])
def test_calibration_tokens_lie_in_the_vocabulary(tmp_path: Path, token: int, reason: str) -> None:
    file = write_with(tmp_path / "m.aimc", token_ids=np.array([[0, 6], [token, 3]], np.int32))
    with pytest.raises(BadInput, match=reason):
        _ = file.calibration


def test_moments_are_finite(tmp_path: Path) -> None:
    file = write_with(tmp_path / "m.aimc", factor=np.nan)
    with pytest.raises(BadInput, match=r"moments/layer\.a.*finite"):
        file.moments("layer.a")


@pytest.mark.parametrize("stated", [1, 10**9, -1, "2", 2.0, [2], True])
@pytest.mark.parametrize("key", ["num_hidden_layers", "n_layer"])
def test_a_configuration_with_other_layers_is_refused_before_they_are_built(
    tmp_path: Path, key: str, stated: Any
) -> None:
    file = write_with(tmp_path / "m.aimc", config={"model_type": "llama", key: stated})
    with pytest.raises(BadInput, match="matrices of 0 layers"):
        _ = file.config


def test_a_model_must_fit_its_file(tmp_path: Path) -> None:
    from aimc_sim.exporting import export
    from aimc_sim.models.families import skeleton
    from aimc_sim.torch_bridge.model import check_model
    from helpers.tiny_models import save_tiny

    for family in ("llama", "gpt2", "qwen2"):
        save_tiny(tmp_path / family, family)
        file = export(tmp_path / family, tmp_path / f"{family}.aimc", "ideal", calibration_tokens=0)
        honest = {**file.config, "tie_word_embeddings": False}
        check_model(file, skeleton(honest))
        hidden = "n_embd" if family == "gpt2" else "hidden_size"
        layers = "n_layer" if family == "gpt2" else "num_hidden_layers"
        for lie in (
            {"vocab_size": 11},
            {hidden: 2 * honest[hidden]},
            {layers: honest[layers] + 1},
            {layers: honest[layers] - 1},
        ):
            with pytest.raises(BadInput, match=f"weight file {family}|model configuration"):
                check_model(file, skeleton(honest | lie))
        for matrices in (file.matrices[:-1], file.matrices[1:], file.matrices[::-1]):
            file.matrices = matrices
            with pytest.raises(BadInput, match=f"weight file {family}"):
                check_model(file, skeleton(honest))
