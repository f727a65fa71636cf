"""What of a weight file stays in this process's memory: pages that are given back are no longer mapped to it."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aimc_sim.weightfile import MatrixInfo, WeightFile
from aimc_sim.weightfile.writer import WeightFileWriter

ROWS, COLS = 1 << 10, 1 << 11
KIB = ROWS * COLS * 4 // 1024  # of one matrix
SMAPS = Path("/proc/self/smaps")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two matrices of 8 MiB."""
    path = tmp_path_factory.mktemp("pages") / "two.aimc"
    with WeightFileWriter(path) as writer:
        for name in "ab":
            writer.add_tensor(f"{name}.weight", np.ones((COLS, ROWS), np.float32), "float32")
        writer.set_matrices(tuple(
            MatrixInfo(name, i, ROWS, COLS, "float32", "out_in", False, "q", f"{name}.weight")
            for i, name in enumerate("ab")
        ))  # fmt: skip
        writer.finish()
    return path


def resident(mapping: mmap.mmap) -> int:
    """KiB of a mapping that this process holds: Rss of all its ranges."""
    start = np.frombuffer(mapping, np.uint8).ctypes.data
    held, inside = 0, False
    for line in SMAPS.read_text().splitlines():
        key, *rest = line.split()
        if not key.endswith(":"):
            low, high = (int(end, 16) for end in key.split("-"))
            inside = low < start + len(mapping) and start < high
        elif inside and key == "Rss:":
            held += int(rest[0])
    return held


def release(file: WeightFile) -> None:
    file.release("a")


def forget(file: WeightFile) -> None:
    file.forget("a.weight")


def of_weights(file: WeightFile, name: str) -> float:
    return float(file.weight(name).sum())


def of_tensors(file: WeightFile, name: str) -> float:
    return float(file.tensor(f"{name}.weight").bits.sum())


if SMAPS.exists() and hasattr(mmap, "MADV_DONTNEED"):  # Linux

    @pytest.mark.parametrize(
        ("attribute", "read", "give_back"),
        [("_fixed", of_weights, release), ("_private", of_tensors, forget)],
        ids=["release", "forget"],
    )
    def test_pages_of_one_matrix_leave_the_mapping_and_those_of_another_stay(
        path: Path,
        attribute: str,
        read: Callable[[WeightFile, str], float],
        give_back: Callable[[WeightFile], None],
    ) -> None:
        file = WeightFile(path)
        mapping = getattr(file, attribute)
        assert read(file, "a") == ROWS * COLS
        assert resident(mapping) > KIB * 3 // 4
        give_back(file)
        assert resident(mapping) < KIB // 4
        assert read(file, "a") == read(file, "b") == ROWS * COLS
        give_back(file)
        assert KIB * 3 // 4 < resident(mapping) < KIB * 5 // 4

    def test_checking_every_byte_leaves_none_of_them(path: Path) -> None:
        file = WeightFile(path)
        assert file.verify() == []
        assert resident(file._fixed) < KIB // 4
