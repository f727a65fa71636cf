"""What every launcher shares: compiler options that keep IEEE arithmetic, and checks of what goes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

# A multiplication and an addition stay two roundings. Square roots and divisions are `sqrt_rn` and `div_rn` in the
# kernels, because Triton's operators round them approximately.
OPTIONS: dict[str, Any] = {"enable_fp_fusion": False}
LANES = 4  # cells that one Philox call serves
ROWS_PER_UNIT = 64  # rows of sixteen calls: blocks of rows start at multiples of it


def require(tensor: torch.Tensor, what: str, dtype: torch.dtype, *shape: int | None) -> torch.Tensor:
    """Return the tensor, contiguous. Raises ValueError for another dtype or shape; None stands for any length."""
    fits = tensor.ndim == len(shape) and all(
        size in (None, have) for size, have in zip(shape, tensor.shape, strict=True)
    )
    if tensor.dtype != dtype or not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{what} must be {dtype} ({wanted}), not {tensor.dtype} {tuple(tensor.shape)}")
    return tensor.contiguous()


def same_device(*tensors: torch.Tensor | None) -> torch.device:
    """Return the device of all tensors. Raises ValueError if they lie on several."""
    devices = {tensor.device for tensor in tensors if tensor is not None}
    if len(devices) != 1:
        raise ValueError(f"the tensors lie on several devices: {', '.join(sorted(map(str, devices)))}")
    return devices.pop()


def row_bounds(bounds: npt.NDArray[np.int64], rows: int, device: torch.device) -> torch.Tensor:
    """Return the bounds (tiles + 1,) int64 on the device. Raises ValueError unless they rise from 0 to rows."""
    ends = np.asarray(bounds, np.int64)
    if ends.ndim != 1 or ends.size < 2 or ends[0] != 0 or ends[-1] != rows or (np.diff(ends) <= 0).any():
        raise ValueError(f"row tiles must rise from 0 to {rows}, not {ends.tolist()}")
    return torch.from_numpy(np.ascontiguousarray(ends)).to(device)


def words(values: npt.ArrayLike, device: torch.device) -> torch.Tensor:
    """Return uint32 words as int32 of the same bits, which every version of torch can hold and copy."""
    bits = np.asarray(values, np.uint64).astype(np.uint32)
    return torch.from_numpy(np.ascontiguousarray(bits).view(np.int32)).to(device)


def blocks(size: int, block: int) -> int:
    """Return the blocks that cover size."""
    return -(-size // block)


def of_counters(
    kernel: Any, counter: torch.Tensor, key: npt.NDArray[np.uint32], dtype: torch.dtype, block: int
) -> torch.Tensor:
    """Launch a kernel (counter, key, out, size) for counters (n, 4) int32 that hold uint32 bits: (n, 4) of dtype."""
    counter = require(counter, "counter", torch.int32, None, 4)
    size, out = counter.shape[0], torch.empty(counter.shape, dtype=dtype, device=counter.device)
    if size:
        kernel[(blocks(size, block),)](counter, words(key, counter.device), out, size, BLOCK=block, **OPTIONS)
    return out
