"""Training over two processes gives the weights and ranges of one process with both halves of the batch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

WORKER = Path(__file__).with_name("distributed_worker.py")


@pytest.fixture(scope="module")
def worker() -> Any:
    spec = importlib.util.spec_from_file_location("distributed_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def alone(worker: Any) -> list[dict[str, torch.Tensor]]:
    """What one process learns from the whole batch, step by step."""
    model = worker.prepared()
    _, found = worker.train(model, worker.values((worker.BATCH, 64), 2), worker.values((worker.BATCH, 6), 3))
    return list(found)


@pytest.mark.slow
@pytest.mark.under_load
@pytest.mark.parametrize(
    ("kind", "first_step", "last_step"),
    [("ddp", 1e-6, 0.02), ("fsdp", 1e-6, 0.02), ("fsdp-half", 0.02, 0.05)],
)
def test_two_processes_learn_what_one_learns(
    kind: str, first_step: float, last_step: float, alone: list[dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    """Sums in another order may turn a code over in the second step and later. Half precision rounds the gradients of
    weights to 8 bits; the ranges stay float32 in every case. (No decay: it asks for the share of a whole batch.)"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, str(WORKER), kind, str(tmp_path), str(rank)], env=environment)
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=900) for process in running] == [0, 0]
    finally:
        for process in running:  # one waits for the other, also where that has failed
            process.kill()
            process.wait()
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["losses"] != second["losses"], "each process saw its own half"
    for step, tolerance in ((0, first_step), (-1, last_step)):
        for name, expected in alone[step].items():
            found = first["found"][step][name]
            assert torch.equal(found, second["found"][step][name]), name
            assert found.dtype == torch.float32
            assert (found - expected).abs().max() <= tolerance * expected.abs().max(), (step, name)
