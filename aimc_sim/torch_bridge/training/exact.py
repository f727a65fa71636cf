"""A training forward through the whole tile simulator: every effect that inference has, at inference's cost.

The backward pass is that of `cpu` with clean or noisy weights, straight through what saturated.
"""

from __future__ import annotations

import numpy as np
import torch

from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.errors import BadInput
from aimc_sim.execute import tile_matmul
from aimc_sim.torch_bridge.training.plan import EVENT, ORDINAL, SEED_HIGH, SEED_LOW, Plan

Tensor = torch.Tensor
SAMPLE_BITS = 12  # of a sequence's 31: which sample of the step it is; the rest: the step
SEQUENCE_MASK = (1 << 31) - 1


def matrix_of(
    weight: Tensor, input_range: Tensor | None, full_scale: Tensor | None, key: Tensor, plan: Plan
) -> CellMatrix:
    """Return the weights in the cells of the chip that the key's seed names, programmed in the cycle of its event."""
    words = [int(word) for word in key.tolist()]
    hardware = plan.spec if plan.noise == "device" else plan.spec.with_ideal_cells()
    ranges = MatrixRange(
        None if input_range is None else input_range.detach().float().cpu().numpy(),
        None if full_scale is None else full_scale.detach().float().cpu().numpy(),
    )
    w = np.ascontiguousarray(weight.detach().float().cpu().numpy())
    return CellMatrix(
        w, hardware, words[SEED_LOW] | words[SEED_HIGH] << 32, plan.age_s if plan.noise == "device" else 0.0,
        ordinal=words[ORDINAL], programming_cycle=words[EVENT], ranges=ranges, name=plan.name,
    )  # fmt: skip


def forward(
    x: Tensor, weight: Tensor, input_range: Tensor | None, full_scale: Tensor | None, key: Tensor,
    row_ids: Tensor | None, plan: Plan,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Compute the same as `cpu.forward`, with full_scale (tiles, column tiles)."""
    tiles = matrix_of(weight, input_range, full_scale, key, plan).tiles()
    ids = None
    if row_ids is not None and tiles.noise is not None:
        ids = names(row_ids.detach().cpu().numpy(), int(key[EVENT]))
    y = tile_matmul(x.detach().float().cpu().numpy(), tiles, ids)
    bits = torch.zeros((plan.tiles, x.shape[0], plan.mask_bytes), dtype=torch.uint8, device=x.device)
    saturated = torch.zeros(plan.tiles, dtype=torch.int64, device=x.device)
    return torch.from_numpy(y).to(x.dtype).to(x.device), bits, saturated


def names(
    row_ids: np.ndarray[tuple[int], np.dtype[np.int64]], event: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the row ids (sample, position, draw) with the event in the sequence's upper bits, so that every step draws
    afresh.

    Read noise repeats after 2¹⁹ events, when weights and inputs have long been others. Raises BadInput for more than
    4096 samples in a forward, which would share names with those of the next event.
    """
    if len(row_ids) and int(row_ids.max() >> 32) >> SAMPLE_BITS:
        raise BadInput(
            "samples of one forward",
            got=int(row_ids.max() >> 32) + 1,
            why=f"the exact forward names at most {1 << SAMPLE_BITS}",
            do="use smaller batches",
        )
    sequence = ((event << SAMPLE_BITS) + (row_ids >> 32)) & SEQUENCE_MASK
    return np.asarray(sequence << 32 | (row_ids & 0xFFFFFFFF), np.int64)
