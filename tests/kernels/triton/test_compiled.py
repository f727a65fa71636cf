"""What the compiler made of the Triton kernels: nothing fused, nothing rounded approximately. No GPU needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
HOPPER = "90"
INEXACT = re.compile(r"fma|approx|full|ftz|\.f64")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    done = subprocess.run(
        [sys.executable, str(HERE / "compiled.py"), HOPPER], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def count(operations: dict[str, int], *names: str) -> int:
    return sum(number for operation, number in operations.items() if operation.split(".")[0] in names)


def test_float_operations_are_ieee(report: dict[str, Any]) -> None:
    careless = report.pop("carelessly")
    assert {name for name in careless["ptx"] if INEXACT.search(name)} == {"fma.rn.f32", "div.full.f32"}
    for name, made in report.items():
        assert not [operation for operation in made["ptx"] if INEXACT.search(operation)], name
        unrounded = {"add.f32", "sub.f32", "mul.f32", "div.f32", "sqrt.f32"} & set(made["ptx"])
        assert not unrounded, f"{name}: the assembler may contract {unrounded}"


def test_the_assembler_fused_nothing(report: dict[str, Any]) -> None:
    """Roots and divisions hold fused operations by design, so beside them every sum and product must still be there."""
    assert report["polynomials"]["sass"].get("FFMA", 0) == 0
    for name, made in report.items():
        if name != "carelessly":
            assert count(made["sass"], "FADD") >= count(made["ptx"], "add", "sub"), name
            assert count(made["sass"], "FMUL") >= count(made["ptx"], "mul"), name


def test_products_run_on_integer_tensor_cores_without_spilling(report: dict[str, Any]) -> None:
    for name, made in report.items():
        assert made["stack"] == 0, name
        if name.startswith("product"):
            assert {"IMMA", "IGMMA"} & set(made["sass"]), name
