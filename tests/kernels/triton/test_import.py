"""Triton is optional: nothing imports it before a kernel is wanted."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import aimc_sim.kernels.triton as kernels
assert not {"triton", "torch"} & set(sys.modules)
assert {"available", "dac", "tile_matmul"} <= set(dir(kernels))
assert not kernels.available("mps")
assert not kernels.available("cpu")
try:
    kernels.nothing
except AttributeError as error:
    print(error)
"""


def test_the_package_imports_neither_triton_nor_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env={"PATH": ""}, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "module 'aimc_sim.kernels.triton' has no attribute 'nothing'\n"
