"""The training product as operators of torch: seen by autograd, by torch.compile and by fake tensors.

They take their noise's key as a tensor and save it in place of the noise; backward draws again what it needs. Nothing
of Numba is visible to Dynamo, which an autograd.Function with a kernel inside breaks.
"""

from __future__ import annotations

from typing import Any

import torch

from aimc_sim.torch_bridge.training import cpu, exact, gpu
from aimc_sim.torch_bridge.training.plan import plan_of

Tensor = torch.Tensor
NAME = "aimc_sim::analog_linear"


@torch.library.custom_op(NAME, mutates_args=())
def analog_linear(
    x: Tensor,
    weight: Tensor,
    input_range: Tensor | None,
    full_scale: Tensor | None,
    key: Tensor,
    row_ids: Tensor | None,
    plan: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute x (B, K), weight (N, K) → y (B, N), saturation bits (tiles, B, bytes) uint8, how many saturated (tiles,)
    int64.

    input_range: (tiles,) float32 static β. full_scale: (tiles, N) where no rule of λ gives it. key: int64 of the
    layout in `plan`. row_ids: (B,) int64, for the read noise of the exact forward. plan: `Plan.text`.
    """
    chosen = plan_of(plan)
    if chosen.exact:
        return exact.forward(x, weight, input_range, full_scale, key, row_ids, chosen)
    if x.device.type == "cpu":
        return cpu.forward(x, weight, input_range, full_scale, key, chosen)
    return gpu.forward(x, weight, input_range, full_scale, key, chosen)


@analog_linear.register_fake
def _(
    x: Tensor, weight: Tensor, input_range: Tensor | None, full_scale: Tensor | None, key: Tensor,
    row_ids: Tensor | None, plan: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    chosen = plan_of(plan)
    shape = (chosen.tiles, x.shape[0], chosen.mask_bytes)
    return (
        x.new_empty((x.shape[0], chosen.cols)),
        x.new_empty(shape, dtype=torch.uint8),
        x.new_empty((chosen.tiles,), dtype=torch.int64),
    )


@torch.library.custom_op(f"{NAME}_backward", mutates_args=())
def analog_linear_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    input_range: Tensor | None,
    key: Tensor,
    bits: Tensor,
    saturated: Tensor,
    plan: str,
    need_x: bool,
    need_w: bool,
    need_range: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute gradients to x, weight and input_range; empty (0,) where none is needed."""
    chosen = plan_of(plan)
    run = cpu.backward if x.device.type == "cpu" else gpu.backward
    return run(grad, x, weight, input_range, key, bits, saturated, chosen, need_x, need_w, need_range)


@analog_linear_backward.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, input_range: Tensor | None, key: Tensor, bits: Tensor, saturated: Tensor,
    plan: str, need_x: bool, need_w: bool, need_range: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    with_range = need_range and plan_of(plan).range_kind == "static"
    return (
        torch.empty_like(x, memory_format=torch.contiguous_format) if need_x else x.new_empty((0,)),
        torch.empty_like(weight, memory_format=torch.contiguous_format) if need_w else weight.new_empty((0,)),
        x.new_empty((plan_of(plan).tiles if with_range else 0,), dtype=torch.float32),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, input_range, _, key, _, plan = inputs
    _, bits, saturated = output
    ctx.mark_non_differentiable(bits, saturated)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, input_range, key, bits, saturated)
    ctx.plan = plan


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    nothing = (None,) * 7
    if grad is None:
        return nothing
    x, weight, input_range, key, bits, saturated = ctx.saved_tensors
    need_x, need_w, need_range = ctx.needs_input_grad[:3]
    to_x, to_w, to_range = analog_linear_backward(
        grad, x, weight, input_range, key, bits, saturated, ctx.plan, need_x, need_w, need_range
    )
    return (
        to_x if need_x else None,
        to_w if need_w else None,
        to_range.to(input_range.dtype) if need_range else None,
        *nothing[3:],
    )


analog_linear.register_autograd(_backward, setup_context=_save)
