"""Tiles in the memory of a GPU, for the kernels that multiply there: the same integers, row by row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from aimc_sim.errors import BadInput
from aimc_sim.execute import NOISE_PLANES, TiledMatrix
from aimc_sim.kernels import panels
from aimc_sim.kernels.tile_engine import Reads


def device_tiles(tiles: TiledMatrix, device: Any) -> Any:
    """`kernels.triton.DeviceTiles` on ``device`` of a matrix on the integer path. Needs Triton."""
    from aimc_sim.kernels.triton import DeviceTiles

    high, low = (
        np.concatenate([plane.ravel() for plane in kind]) for kind in zip(*tiles.planes(), strict=True)
    )
    noise = None
    if tiles.transform is not None:
        raise BadInput(
            "tiles", why="the GPU kernels know no transforms yet", do="run this hardware on the CPU"
        )
    if tiles.reads != Reads():
        raise BadInput(
            "tiles", why="the GPU kernels read amplitudes only", do="run this input mode on the CPU"
        )
    if tiles.adc_curve is not None or (tiles.noise is not None and tiles.noise.floor):
        raise BadInput(
            "tiles",
            why="the GPU kernels know no ADC errors and no thermal noise yet",
            do="leave adc.errors out, or run on the CPU",
        )
    if tiles.noise is not None:
        assert tiles.noise.steps is not None
        rows = panels.row_major(tiles.noise.steps, tiles.cols, tiles.bounds, NOISE_PLANES)
        steps = np.concatenate([plane.ravel() for plane in rows]).view(np.int8)
        noise = SimpleNamespace(
            steps=steps, scale=tiles.noise.scale, key=tiles.noise.key, site=np.uint32(tiles.noise.site)
        )
    return DeviceTiles.of(
        tiles.bounds, high, low, tiles.inverse, tiles.scale, dac_levels=tiles.dac_levels,
        adc_levels=tiles.adc_levels, input_range=tiles.input_range, range_per_tile=tiles.range_per_tile,
        noise=noise, device=device,
    )  # fmt: skip
