"""Converter ranges for hardware that fits its full scales to text: derived as for a weight file, from the data."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from aimc_sim.calibrate import derive_ranges
from aimc_sim.exporting import export
from aimc_sim.finetuning.rows import TokenRows
from aimc_sim.hardware import Hardware, LambdaRule
from aimc_sim.models import Checkpoint

ROWS = 8


def calibrated_ranges(opened: Checkpoint, hardware: Hardware, rows: TokenRows) -> Any:
    """Calibrate the ranges of every analog matrix on the first rows of the data, by name; None where lambda sets the
    full scale.
    """
    if hardware.adc is None or isinstance(hardware.adc.full_scale, LambdaRule):
        return None

    ids = np.stack([rows[i] for i in range(min(ROWS, len(rows)))])
    with tempfile.TemporaryDirectory(prefix="aimc-sim-train-") as folder:
        weights = export(opened, Path(folder) / "model.h5", hardware, token_ids=ids)
        return derive_ranges(weights, hardware)
