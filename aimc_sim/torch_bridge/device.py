"""Tiles in the memory of a GPU, for the kernels that multiply there: the same integers, row by row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from aimc_sim.errors import BadInput
from aimc_sim.kernels import panels
from aimc_sim.kernels.tile_engine import Reads
from aimc_sim.tiles.matrix import NOISE_PLANES, TiledMatrix


def check_for_device(tiles: TiledMatrix) -> None:
    """Raise BadInput for what the GPU kernels do not compute."""
    for present, why, do in (
        (tiles.weights is not None, "the GPU kernels multiply integers", "give the DAC at most 8 bits"),
        (tiles.transform is not None, "the GPU kernels know no transforms yet", "run this hardware on the CPU"),
        (tiles.reads != Reads(), "the GPU kernels read amplitudes only", "run this input mode on the CPU"),
        (tiles.constant is not None, "the GPU kernels know no offset codes", "run this input mode on the CPU"),
        (tiles.dac_inl, "the GPU kernels know no INL of DACs", "set dac.errors.inl_sigma_lsb to 0, or run on the CPU"),
        (tiles.noise is not None and bool(tiles.noise.first_column), "the GPU kernels draw for whole matrices",
         "mount all columns"),
        (bool(tiles.parts) or tiles.adc_unsigned, "the GPU kernels convert one column a weight",
         "subtract pairs in analog and leave slices out, or run on the CPU"),
        (
            tiles.adc_curve is not None
            or tiles.capacitors is not None
            or (tiles.noise is not None and bool(tiles.noise.floor)),
            "the GPU kernels know no ADC errors and no thermal noise yet",
            "leave adc.errors out, or run on the CPU",
        ),
    ):  # fmt: skip
        if present:
            raise BadInput("tiles", why=why, do=do)


def device_tiles(tiles: TiledMatrix, device: Any) -> Any:
    """Return `kernels.triton.DeviceTiles` on ``device`` of a matrix on the integer path. Needs Triton."""
    check_for_device(tiles)
    from aimc_sim.kernels.triton.tile_product import DeviceTiles  # late: needs Triton

    high, low = (
        np.concatenate([plane.ravel() for plane in kind]) for kind in zip(*tiles.planes(), strict=True)
    )
    noise = None
    if tiles.noise is not None:
        assert tiles.noise.steps is not None
        rows = panels.row_major(tiles.noise.steps, tiles.cols, tiles.bounds, NOISE_PLANES)
        steps = np.concatenate([plane.ravel() for plane in rows]).view(np.int8)
        noise = SimpleNamespace(
            steps=steps, scale=tiles.noise.scale, key=tiles.noise.key, site=np.uint32(tiles.noise.site)
        )
    return DeviceTiles.of(
        tiles.bounds, high, low, tiles.inverse, tiles.scale, dac_max_code=tiles.dac_max_code,
        adc_max_code=tiles.adc_max_code, input_range=tiles.input_range, range_per_tile=tiles.range_per_tile,
        noise=noise, device=device,
    )  # fmt: skip
