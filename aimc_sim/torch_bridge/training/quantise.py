"""Input and output quantisers with the published gradients (Büchel et al., NeurIPS 2025, arXiv 2505.09663).

Both are symmetric: codes -n … n, n = 2^(bits-1) - 1, half to even, saturating. Clamps are explicit, so that no gradient
leans on what a version of torch does at the bound of its own.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge import converters

Tensor = torch.Tensor
MAX_BITS = 16


@torch.library.custom_op("aimc_sim::quantize_input", mutates_args=())
def _input(x: Tensor, limit: Tensor, max_code: int, decay: float, unclipped: float) -> Tensor:
    _check(limit, "range")
    beta = limit.detach().to(converters.computed_in(x)).reshape(())
    # contiguous, as the fake says, whatever the strides of x
    return converters.quantise(x.to(beta.dtype), beta, max_code).to(x.dtype).contiguous()


@_input.register_fake
def _(x: Tensor, limit: Tensor, max_code: int, decay: float, unclipped: float) -> Tensor:
    return x.new_empty(x.shape)


def _save_input(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, limit, _, ctx.decay, ctx.unclipped = inputs
    ctx.save_for_backward(x, limit)


def _differentiate_input(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, limit = ctx.saved_tensors
    wide, beta = x.to(converters.computed_in(x)), limit.detach().to(converters.computed_in(x)).reshape(())
    to_range = None
    if ctx.needs_input_grad[1]:
        pull, clipped = converters.range_gradient_sums(grad, wide, beta)
        slope = converters.range_gradient(beta, pull, clipped, x.numel(), ctx.decay, ctx.unclipped)
        to_range = slope.to(limit.dtype).reshape(limit.shape)
    return torch.where(wide.abs() > beta, 0.0, grad), to_range, None, None, None


_input.register_autograd(_differentiate_input, setup_context=_save_input)


@torch.library.custom_op("aimc_sim::quantize_output", mutates_args=())
def _output(y: Tensor, bound: Tensor, max_code: int, masked: bool) -> Tensor:
    _check(bound, "bound")
    limit = bound.detach().to(converters.computed_in(y))
    return converters.quantise(y.to(limit.dtype), limit, max_code).to(y.dtype).contiguous()


@_output.register_fake
def _(y: Tensor, bound: Tensor, max_code: int, masked: bool) -> Tensor:
    return y.new_empty(y.shape)


def _save_output(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    y, bound, ctx.max_code, ctx.masked = inputs
    if ctx.masked:
        ctx.save_for_backward(y, bound)


def _differentiate_output(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    if ctx.masked:
        y, bound = ctx.saved_tensors
        limit = bound.detach().to(converters.computed_in(y))
        code = converters.unclipped_codes(y.to(limit.dtype), converters.codes_per_unit(ctx.max_code, limit))
        grad = torch.where(code.abs() > ctx.max_code, 0.0, grad)
    return grad, None, None, None


_output.register_autograd(_differentiate_output, setup_context=_save_output)


def quantize_input(
    x: Tensor, range: Tensor, bits: int, *, decay: float = 0.01, unclipped: float = 0.95
) -> Tensor:
    """Quantise as a DAC does: (β/n)·round(clamp(x, ±β)·n/β), n = 2^(bits-1) - 1, like x, any float dtype.

    x: any shape. range: β, one positive number, () or (1,), float32 where it is learned. bits: 2 to 16.
    Gradients for g = ∂L/∂x_q: to x, g where -β ≤ x ≤ β, else 0; to β, β·(Σ_{x≥β} min(g, 0) - Σ_{x≤-β} max(g, 0)), and
    decay·β more where a larger share than ``unclipped`` of x lies within. Raises BadInput for other shapes and bits,
    and (on the CPU) where β is negative or not finite; β = 0 makes every code 0. Source: Büchel et al., NeurIPS 2025
    (arXiv 2505.09663).

    >>> import torch
    >>> from aimc_sim.torch_bridge import quantize_input
    >>> beta = torch.tensor([3.0], requires_grad=True)
    >>> q = quantize_input(torch.tensor([0.4, 2.6, 9.0]), beta, bits=3)
    >>> q.detach()
    tensor([0., 3., 3.])
    >>> (-q).sum().backward()
    >>> beta.grad  # one input beyond: 3·(-1)
    tensor([-3.])
    """
    if range.numel() != 1:
        raise BadInput(
            "range", got=tuple(range.shape), why="one range serves all of x", do="call it tile by tile"
        )
    result: Tensor = _input(x, range, _max_code(bits), decay, unclipped)
    return result


def quantize_output(
    y: Tensor,
    bound: Tensor | float,
    bits: int,
    *,
    saturation: Literal["masked", "straight_through"] = "masked",
) -> Tensor:
    """Quantise as an ADC does: clamp(step·round(y/step), ±bound), step = bound/n, n = 2^(bits-1) - 1, like y.

    y: (…, N), any float dtype. bound: one number, or a tensor that broadcasts against y, such as (N,); no gradient
    goes into it.
    Gradients to y: g where the conversion did not saturate, else 0 (masked); or g everywhere (straight_through).
    Raises BadInput for a bound of another shape, and (on the CPU) a negative one or one that is not finite. Source:
    Büchel et al., NeurIPS 2025 (arXiv 2505.09663).

    >>> import torch
    >>> from aimc_sim.torch_bridge import quantize_output
    >>> quantize_output(torch.tensor([[0.4, 2.6, 9.0]]), bound=3.0, bits=3)
    tensor([[0., 3., 3.]])
    """
    if saturation not in ("masked", "straight_through"):
        raise BadInput(
            "saturation",
            got=saturation,
            why="the gradient has two variants",
            do="use 'masked' or 'straight_through'",
        )
    limit = torch.as_tensor(bound, dtype=converters.computed_in(y), device=y.device)
    try:
        fits = torch.broadcast_shapes(y.shape, limit.shape) == y.shape  # type: ignore[no-untyped-call]
    except RuntimeError:
        fits = False
    if not fits:
        raise BadInput(
            "bound",
            got=tuple(limit.shape),
            why=f"it does not fit outputs {tuple(y.shape)}",
            do="give one a column, or one",
        )
    result: Tensor = _output(y, limit, _max_code(bits), saturation == "masked")
    return result


def _check(limit: Tensor, what: str) -> None:
    """Raise BadInput for what bounds nothing; where looking would not make a device wait."""
    if limit.device.type == "cpu" and not bool(((limit >= 0) & limit.isfinite()).all()):
        raise BadInput(
            what,
            got=limit.detach().reshape(-1)[:8].tolist(),
            why="codes lie between minus it and it",
            do="give a positive number; keep a learned one above 0 after each update, as with abs_()",
        )


def _max_code(bits: int) -> int:
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= MAX_BITS:
        raise BadInput("bits", got=bits, why="a converter has 2 to 16 bits", do="choose 8, say")
    return int(2 ** (bits - 1) - 1)
