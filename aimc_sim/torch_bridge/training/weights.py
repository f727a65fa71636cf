"""The weights of a training product, made block by block where they are needed, with the noise that a key names."""

from __future__ import annotations

import ctypes
from threading import local
from typing import Any

import numpy as np
import torch

from aimc_sim.aliases import F32
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.kernels import training as kernel
from aimc_sim.kernels.converters import codes_per_unit_reference
from aimc_sim.kernels.parallel import run_blocks
from aimc_sim.randomness import Stream, site_word
from aimc_sim.torch_bridge.training.plan import EVENT, ORDINAL, SEED_HIGH, SEED_LOW, Plan

Tensor = torch.Tensor
COLUMNS = 128  # columns that a thread takes at a time


class Weights:
    """These are the weights that a product multiplies by, made block by block:
    as they are, on their steps, with noise.
    """

    def __init__(self, weight: Tensor, key: Tensor, plan: Plan, full_scale: Tensor | None = None) -> None:
        """full_scale: (tiles, N), or None for the rule of λ."""
        self.plan, self.key = plan, [int(word) for word in key.tolist()]
        low, high, event = self.key[SEED_LOW], self.key[SEED_HIGH], self.key[EVENT]
        site = site_word(Stream.TRAINING, self.key[ORDINAL])
        self.words = np.uint32(event), np.uint32(site), np.uint32(low), np.uint32(high)
        self.limit = None if full_scale is None else full_scale.detach().double().numpy()
        self.tensor = weight.detach().contiguous()
        self.array = array_of(self.tensor) if self.tensor.dtype == torch.float32 else None
        self.channel = np.empty(0, np.float32)  # (N,) largest weight of every column, for its steps
        self.peaks = np.empty((0, 0), np.float32)  # (tiles, N) the same in every row tile
        self.sigma = self.loud = self.peaks  # loud: of the noisy weights, where these set the full scale
        self.steps: tuple[F32, F32] | None = None
        self.cells: Any = None

    def begin(self) -> None:
        """Make room for what `measure` finds, and the cells of a device."""
        plan = self.plan
        shape = (plan.tiles, plan.cols)
        self.channel, self.peaks, self.sigma = (np.empty(s, np.float32) for s in (plan.cols, shape, shape))
        self.loud = np.zeros(shape, np.float32)
        if plan.adc_max_code and not self._from_noisy:
            self.steps = np.empty(shape, np.float32), np.empty(shape, np.float32)
        if plan.noise == "device":
            run_blocks(self.measure, plan.cols, COLUMNS)
            self.cells = self._cells()

    def prepare(self) -> None:
        """Prepare everything that blocks need, at once."""
        self.begin()
        run_blocks(self.measure, self.plan.cols, COLUMNS)

    def measure(self, first: int, last: int) -> None:
        """Find what blocks of columns first … last-1 need: their largest weights, σ and ADC steps."""
        if self.cells is not None:
            return  # begin did
        plan, columns = self.plan, slice(first, last)
        if self.array is not None:
            kernel.column_peaks(self.array, plan.ends, first, last, self.peaks)
        else:
            for t, a, b in plan.row_tiles:
                part = self.tensor[columns, a:b]
                self.peaks[t, columns] = torch.linalg.vector_norm(
                    part, float("inf"), dim=1, dtype=torch.float32
                ).numpy()
        peaks = self.peaks[:, columns]
        if plan.weight_max_code:  # rounding keeps the order, so the largest stays the largest
            self.channel[columns] = peaks.max(axis=0)
            peaks[:] = kernel.on_steps_reference(peaks, self.channel[columns], plan.weight_max_code)
        self.sigma[:, columns] = np.float32(plan.gamma) * peaks
        if self.steps is not None:
            self.steps[0][:, columns], self.steps[1][:, columns] = self._steps(peaks, (slice(None), columns))

    @property
    def _from_noisy(self) -> bool:
        return self.plan.bound_from == "noisy" and self.plan.noise != "none"

    def _cells(self) -> Any:
        """Return the matrix in the cells of the hardware's device, programmed in the cycle that the event names."""
        w = self.array
        if w is None or self.plan.weight_max_code:
            w = np.empty((self.plan.cols, self.plan.rows), np.float32)
            made = w
            run_blocks(lambda i, j: self.base(i, j, 0, self.plan.rows, made[i:j]), self.plan.cols, COLUMNS)
        seed = self.key[SEED_LOW] | self.key[SEED_HIGH] << 32
        matrix = CellMatrix(
            w,
            self.plan.spec,
            seed,
            self.plan.age_s,
            ordinal=self.key[ORDINAL],
            programming_cycle=self.key[EVENT],
        )
        return matrix.arrays[0]

    def base(self, first: int, last: int, a: int, b: int, out: F32) -> None:
        """Weights of columns first … last-1, rows a … b-1 without noise into out (last-first, b-a)."""
        plan = self.plan
        if self.array is not None and not plan.weight_max_code:
            out[:] = self.array[first:last, a:b]
            return
        if self.array is None:
            with torch.inference_mode():
                torch.from_numpy(out).copy_(self.tensor[first:last, a:b])
        if plan.weight_max_code:
            given = (out, first, a) if self.array is None else (self.array, 0, 0)
            kernel.fake_quantise(*given, a, b, first, last, self.channel, plan.weight_max_code, out)

    def fill(self, first: int, last: int, a: int, b: int, out: F32, noisy: bool = True) -> None:
        """The same, with the noise of the plan. Rows: a part of one tile, or all of them."""
        plan = self.plan
        if not noisy or plan.noise == "none":
            self.base(first, last, a, b, out)
            return
        if plan.noise == "device":
            held = self._effective(first, last)
            for t, low, high in plan.row_tiles:
                kernel.scale_rows(held, low, high, self.peaks[t], first, out)
            return
        direct = self.array is not None and not plan.weight_max_code
        if not direct:
            self.base(first, last, a, b, out)
        given = (self.array, 0, 0) if direct else (out, first, a)
        for t, low, high in plan.tiles_within(a, b):
            kernel.add_noise(*given, low, high, first, last, self.sigma[t], *self.words, out, low - a)

    def _effective(self, first: int, last: int) -> F32:
        """Return (last-first, K): what the cells of these columns hold,
        relative to the largest of their column and tile.
        """
        cells, largest = self.cells, np.empty_like(self.peaks)
        effective, _ = cells.device_cells(
            cells.targets.w, cells.tables, cells.sites(), first, last, largest, False, None
        )
        return np.asarray(effective)

    def rows(self, first: int, last: int, a: int, b: int, scratch: local) -> Tensor:
        """Return (last-first, b-a) float32, in the thread's scratch or a view of the weights."""
        plan = self.plan
        if plan.noise == "none" and not plan.weight_max_code and self.array is not None:
            return torch.from_numpy(self.array)[first:last, a:b]
        out = scratch_of(scratch, "rows", (last - first, b - a))
        self.fill(first, last, a, b, out.numpy())
        if self._from_noisy:
            for t, low, high in plan.tiles_within(a, b):
                kernel.block_peaks(out.numpy()[:, low - a : high - a], first, self.loud[t])
        return out

    def converters(self, t: int, first: int, last: int) -> tuple[F32, F32]:
        """Return (last-first,) codes per unit of a tile's sum of codes·weights, and outputs per code and unit of β."""
        if not self.plan.adc_max_code:
            ones = np.ones(last - first, np.float32)
            return ones, ones / np.float32(max(self.plan.dac_max_code, 1))
        if self.steps is not None:
            return self.steps[0][t, first:last], self.steps[1][t, first:last]
        return self._steps(self.loud[t, first:last], (t, slice(first, last)))

    def _steps(self, largest: F32, where: Any) -> tuple[F32, F32]:
        limit = self.plan.lambda_ if self.limit is None else self.limit[where]
        step = np.asarray(limit * largest.astype(np.float64) / self.plan.adc_max_code)
        per_unit = codes_per_unit_reference(1.0, self.plan.dac_max_code * step)
        return per_unit.astype(np.float32), step.astype(np.float32)


def scratch_of(of_thread: local, name: str, shape: tuple[int, int]) -> Tensor:
    """Return (rows, columns) float32 of this thread, at the start of memory that it keeps for the whole product."""
    size, memory = shape[0] * shape[1], getattr(of_thread, name, None)
    if memory is None or memory.numel() < size:
        memory = torch.empty(size)
        setattr(of_thread, name, memory)
    return memory[:size].view(shape)


def as_float(x: Tensor) -> F32:
    """x as a float32 array: its own memory, or a copy of half precision."""
    return array_of(x.contiguous()) if x.dtype == torch.float32 else np.asarray(x.float().numpy())


def array_of(tensor: Tensor) -> F32:
    """Return the memory of a contiguous float32 tensor, which lives as long as the array.

    Not ``numpy()``: that fixes the size of the tensor's storage for good, and FSDP empties storages that it gathers.
    """
    if tensor.numel() == 0:
        return np.empty(tuple(tensor.shape), np.float32)
    memory: Any = (ctypes.c_float * tensor.numel()).from_address(tensor.data_ptr())
    memory.owner = tensor
    return np.frombuffer(memory, np.float32).reshape(tuple(tensor.shape))
