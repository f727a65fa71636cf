"""Runs Triton kernels in a process of their own: in Triton's interpreter on the CPU, and on a GPU where there is one.

Whether kernels are interpreted is settled when triton is first imported, so it must not happen in the tests' process.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
TRITON = importlib.util.find_spec("triton")
if TRITON is None:
    collect_ignore = ["test_cells.py", "test_compiled.py", "test_noise.py", "test_product.py"]
elif not (Path(str(TRITON.origin)).parent / "backends/nvidia/bin/cuobjdump").exists():
    collect_ignore = ["test_compiled.py"]


class Kernels:
    """The functions of worker.py, called in another process with NumPy arrays."""

    def __init__(self, device: str) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
        if device == "cpu":
            environment["TRITON_INTERPRET"] = "1"
        command = [sys.executable, "-W", "error::RuntimeWarning", str(HERE / "worker.py"), device]
        self._worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            assert self._worker.stdin is not None
            assert self._worker.stdout is not None
            pickle.dump((name, arguments, options), self._worker.stdin)
            self._worker.stdin.flush()
            result = pickle.load(self._worker.stdout)
            if isinstance(result, Exception):
                raise result
            return result

        return call

    def close(self) -> None:
        self._worker.communicate()


@pytest.fixture(scope="session", params=DEVICES)
def kernels(request: pytest.FixtureRequest) -> Iterator[Kernels]:
    """Kernels on one device; each test runs once a device."""
    running = Kernels(request.param)
    yield running
    running.close()
