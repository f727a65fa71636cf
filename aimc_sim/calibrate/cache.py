"""Derived converter ranges in the user's cache folder, one file a (weight file, converters, tiles, placement)."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np

from aimc_sim.aliases import F32
from aimc_sim.chip.mapping import tile_map
from aimc_sim.chip.ranges import MatrixRange, Ranges
from aimc_sim.errors import BadInput
from aimc_sim.files import write_whole
from aimc_sim.hardware import Hardware, StaticRange
from aimc_sim.identity import canonical, canonical_json
from aimc_sim.kernels._jit import cache_root
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.analog import analog_matrices

VERSION = 4  # of the method: a change makes cached ranges stale
TABLES = {"tile", "weights", "dac", "adc", "placement", "transform"}  # of the hardware, that ranges depend on


def cache_folder() -> Path:
    """Return the folder where derived ranges are kept: beside the compiler's cache, in the user's cache folder.

    >>> from aimc_sim.calibrate import cache_folder
    >>> cache_folder().name
    'ranges'
    """
    return cache_root().parent / "ranges"


def name_of(weight_file: WeightFile, hardware: Hardware) -> str:
    """The name of the file that holds this hardware's ranges for this weight file."""
    identity = canonical_json({
        "version": VERSION, "weights": weight_file.id,
        "hardware": {key: value for key, value in canonical(hardware).items() if key in TABLES},
        "span_us": [hardware.device.g_min_us, hardware.device.g_max_us],  # the pedestal of single columns
    })  # fmt: skip
    return f"{hashlib.sha256(identity.encode()).hexdigest()}.npz"


def load(weight_file: WeightFile, hardware: Hardware) -> Ranges | None:
    """Return the cached ranges of this weight file for this hardware; None where there are none that fit."""
    known = read(cache_folder() / name_of(weight_file, hardware))
    return known if known is not None and fits(known, weight_file, hardware) else None


def store(weight_file: WeightFile, hardware: Hardware, ranges: Ranges) -> None:
    """Keep the ranges of this weight file for this hardware."""
    write(cache_folder() / name_of(weight_file, hardware), ranges)


def read(path: Path) -> dict[str, MatrixRange] | None:
    """Return cached ranges; None where there are none or they cannot be read."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            kinds_by_matrix: dict[str, dict[str, F32]] = {}
            for key in file.files:
                kind, _, name = key.partition(":")
                kinds_by_matrix.setdefault(name, {})[kind] = file[key]
    except Exception:  # a damaged archive raises almost anything; it only costs another calibration
        return None
    return {
        name: MatrixRange(parts.get("input_range"), parts.get("full_scale"))
        for name, parts in kinds_by_matrix.items()
    }


def fits(ranges: Ranges, weight_file: WeightFile, hardware: Hardware) -> bool:
    """Return whether cached ranges are what this calibration would give:
    every matrix, its shape, finite and positive.
    """
    matrices = analog_matrices(weight_file, hardware)
    if {matrix.name for matrix in matrices} != set(ranges):
        return False
    static = hardware.dac is not None and isinstance(hardware.dac.range, StaticRange)
    fitted = hardware.adc is not None and hardware.adc.full_scale.calibrated
    for matrix in matrices:
        tmap, item = tile_map(matrix.rows, matrix.cols, hardware.tile), ranges[matrix.name]
        rows, cols = tmap.row_bounds.size - 1, tmap.col_bounds.size - 1
        for value, shape, wanted in (
            (item.input_range, (rows,), static),
            (item.full_scale, (rows, cols), fitted),
        ):
            if (value is not None) != wanted:
                return False
            if value is not None and not _is_sound(value, shape):
                return False
    return True


def _is_sound(value: F32, shape: tuple[int, ...]) -> bool:
    """Return whether a range has this shape, or is several parts of it, and is finite and positive."""
    return value.shape[-len(shape) :] == shape and bool((np.isfinite(value) & (value > 0)).all())


def write(path: Path, ranges: Ranges) -> None:
    """Atomically; a cache that cannot be written costs time, never a result."""
    arrays = {}
    for name, item in ranges.items():
        for kind in ("input_range", "full_scale"):
            value = getattr(item, kind)
            if value is not None:
                arrays[f"{kind}:{name}"] = value
    archive = BytesIO()
    np.savez(archive, allow_pickle=False, **arrays)
    with suppress(OSError, BadInput):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, archive.getvalue())
