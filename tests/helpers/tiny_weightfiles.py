"""A weight file of a few hundred numbers, with every dtype and both layouts, for tests of the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aimc_sim.hardware import Hardware
from aimc_sim.weightfile import Calibration, MatrixInfo, Moments, WeightFile
from aimc_sim.weightfile.writer import WeightFileWriter

MATRICES = (
    MatrixInfo("layer.a", 0, 4, 3, "float32", "out_in", True, "q", "layer.a.weight"),
    MatrixInfo("layer.b", 1, 5, 6, "bfloat16", "in_out", False, "o", "layer.b.weight"),
    MatrixInfo("layer.c", 2, 3, 2, "float16", "out_in", False, "up", "layer.c.weight"),
    MatrixInfo("lm_head", 3, 4, 7, "bfloat16", "out_in", False, "head", "embed.weight"),
)


def arrays() -> dict[str, tuple[np.ndarray[Any, Any], str]]:
    """Tensors of every dtype, with bit patterns that a conversion would not keep (subnormals, -0)."""
    return {
        "embed.weight": (np.arange(28, dtype=np.uint16).reshape(7, 4) * 37 + 0x3F00, "bfloat16"),
        "layer.a.weight": (np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4), "float32"),
        "layer.a.bias": (np.array([1e-45, -0.0, 3.0], np.float32), "float32"),
        "layer.b.weight": (np.arange(30, dtype=np.uint16).reshape(5, 6) * 11 + 0xBF00, "bfloat16"),
        "layer.c.weight": (np.array([[6e-8, -0.0, 1], [2, 3, -4]], np.float16), "float16"),
    }


def fill(writer: WeightFileWriter, *, calibrated: bool = True) -> None:
    """Add everything that a weight file can hold, except learned ranges."""
    for name, (bits, dtype) in arrays().items():
        writer.add_tensor(name, bits, dtype)
    writer.set_matrices(MATRICES)
    writer.add_document("config.json", {"model_type": "none", "vocab_size": 7})
    writer.add_document("generation_config.json", {})
    writer.add_document("provenance.json", {"files": []})
    plain = Hardware.load({"name": "plain", "device": "ideal"})
    writer.add_document("hardware.toml", plain.to_toml().encode())
    writer.add_tokenizer_file("tokenizer.json", b'{"a": 1}')
    writer.add_tokenizer_file("empty.txt", b"")
    if calibrated:
        writer.add_calibration(Calibration(np.arange(12, dtype=np.int32).reshape(3, 4) % 7, "a test"))
        for matrix in MATRICES:
            table = np.arange(3 * matrix.rows, dtype=np.float32).reshape(3, -1)
            writer.add_moments(matrix.name, Moments(*table))


def write(path: Path, *, calibrated: bool = True) -> WeightFile:
    """Write the file and return it open."""
    with WeightFileWriter(path) as writer:
        fill(writer, calibrated=calibrated)
        return writer.finish()
