"""Without VNNI, oneDNN's int8 product saturates in silence: the known-answer test notices, results stay equal."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
import numpy as np
from aimc_sim.kernels.int8_product import engine, int8_product
codes = ((np.arange(5 * 1300) * 7919) % 255 - 127).astype(np.int8).reshape(5, 1300)
weights = ((np.arange(9 * 1300) * 104729) % 256 - 128).astype(np.int8).reshape(9, 1300)
codes[0], weights[0], weights[1] = 127, -128, 127
assert (int8_product(codes, weights) == codes.astype(np.int64) @ weights.astype(np.int64).T).all()
print(engine())
"""


def test_products_are_exact_where_onednn_has_no_vnni() -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("onednn", "float32")
