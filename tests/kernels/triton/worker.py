"""The other end of conftest.Kernels: reads (function, arguments, options) from standard input, writes the results."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import probe
import torch

from aimc_sim.kernels import triton as kernels
from aimc_sim.torch_bridge import TileLinear
from aimc_sim.torch_bridge.device import device_tiles

DEVICE = sys.argv[1]


def on_device(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(DEVICE)


def back(result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        return result.cpu().numpy()
    return [back(part) for part in result] if isinstance(result, tuple) else result


def available() -> bool:
    return kernels.available(DEVICE)


def words(counter: np.ndarray, key: np.ndarray) -> Any:
    return back(kernels.philox4x32(on_device(counter.view(np.int32)), key)).view(np.uint32)


def normals(counter: np.ndarray, key: np.ndarray) -> Any:
    return back(kernels.normals(on_device(counter.view(np.int32)), key))


def polynomials(x: np.ndarray, word: np.ndarray) -> Any:
    out = torch.empty((len(probe.FUNCTIONS), x.size), dtype=torch.float32, device=DEVICE)
    grid = (-(-x.size // 128),)
    probe.polynomials[grid](
        on_device(x), on_device(word.view(np.int32)), out, x.size, BLOCK=128, enable_fp_fusion=False
    )
    return dict(zip(probe.FUNCTIONS, back(out), strict=True))


def effective_weights(w: np.ndarray, *arguments: Any, **options: Any) -> Any:
    return back(kernels.effective_weights(on_device(w), *arguments, **options))


def noisy_weights(w: np.ndarray, *arguments: Any, **options: Any) -> Any:
    return back(kernels.noisy_weights(on_device(w), *arguments, **options))


def to_grid(effective: np.ndarray, bounds: np.ndarray) -> Any:
    return back(kernels.to_grid(on_device(effective), bounds))


def dac(
    x: np.ndarray, bounds: np.ndarray, levels: int, input_range: np.ndarray | None = None, **options: Any
) -> Any:
    beta = None if input_range is None else on_device(input_range)
    return back(kernels.dac(on_device(x), on_device(bounds), levels, beta, **options))


def tile_matmul(x: np.ndarray, tiles: Any, row_ids: np.ndarray | None = None) -> Any:
    loaded = device_tiles(tiles, DEVICE)
    ids = None if row_ids is None else on_device(row_ids)
    return back(kernels.tile_matmul(on_device(x), loaded, ids))


def analog_linear(x: np.ndarray, tiles: Any, row_ids: np.ndarray | None = None) -> Any:
    """The layer's way to a GPU; in the interpreter, by the method that takes it."""
    layer = TileLinear("layer", tiles.rows, tiles.cols)
    layer.mount(tiles)
    if DEVICE == "cpu":
        return [back(layer.socket._on_gpu(on_device(x), tiles, row_ids)) for _ in range(2)]
    return [back(layer(on_device(x))) for _ in range(2)]


def main() -> None:
    while True:
        try:
            name, arguments, options = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            result = globals()[name](*arguments, **options)
        except Exception as error:
            result = error if isinstance(error, ValueError) else RuntimeError(repr(error))
        pickle.dump(result, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
