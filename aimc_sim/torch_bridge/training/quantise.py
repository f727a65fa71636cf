"""Input and output quantisers with the published gradients (Büchel et al., NeurIPS 2025, arXiv 2505.09663).

Both are symmetric: codes -n … n, n = 2^(bits-1) - 1, half to even, saturating. Clamps are explicit, so that no gradient
leans on what a version of torch does at the bound of its own.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from aimc_sim.errors import BadInput

Tensor = torch.Tensor
SILENT = 1e-30  # a range or a bound below counts as none
MAX_BITS = 16


@torch.library.custom_op("aimc_sim::quantize_input", mutates_args=())
def _input(x: Tensor, limit: Tensor, levels: int, decay: float, unclipped: float) -> Tensor:
    _check(limit, "range")
    beta = limit.detach().to(_wide(x)).reshape(())
    scale = torch.where(beta > SILENT, levels / beta, 0.0)
    codes = torch.clamp(torch.round(x.to(beta.dtype) * scale), -levels, levels)
    return (codes * (beta / levels)).to(x.dtype).contiguous()  # as the fake says, whatever the strides of x


@_input.register_fake
def _(x: Tensor, limit: Tensor, levels: int, decay: float, unclipped: float) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("aimc_sim::quantize_input_backward", mutates_args=())
def _input_backward(
    grad: Tensor, x: Tensor, limit: Tensor, decay: float, unclipped: float
) -> tuple[Tensor, Tensor]:
    wide, beta = x.to(_wide(x)), limit.detach().to(_wide(x)).reshape(())
    over, under = wide >= beta, wide <= -beta
    slope = grad.double()
    pull = (
        torch.where(over, slope.clamp(max=0), 0.0).sum() - torch.where(under, slope.clamp(min=0), 0.0).sum()
    )
    to_range = beta.double() * pull
    if x.numel() and 1 - float((over | under).sum()) / x.numel() > unclipped:
        to_range = to_range + decay * beta.double()
    to_x = torch.where(wide.abs() > beta, 0.0, grad).to(x.dtype).contiguous()
    return to_x, to_range.to(limit.dtype).reshape(limit.shape)


@_input_backward.register_fake
def _(grad: Tensor, x: Tensor, limit: Tensor, decay: float, unclipped: float) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), limit.new_empty(limit.shape)


def _save_input(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, limit, _, ctx.decay, ctx.unclipped = inputs
    ctx.save_for_backward(x, limit)


def _differentiate_input(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, limit = ctx.saved_tensors
    to_x, to_range = _input_backward(grad, x, limit, ctx.decay, ctx.unclipped)
    return to_x, to_range if ctx.needs_input_grad[1] else None, None, None, None


_input.register_autograd(_differentiate_input, setup_context=_save_input)


@torch.library.custom_op("aimc_sim::quantize_output", mutates_args=())
def _output(y: Tensor, bound: Tensor, levels: int, masked: bool) -> Tensor:
    _check(bound, "bound")
    limit = bound.detach().to(_wide(y))
    codes = torch.clamp(torch.round(_signal(y, limit, levels)), -levels, levels)
    return (codes * (limit / levels)).to(y.dtype).contiguous()


@_output.register_fake
def _(y: Tensor, bound: Tensor, levels: int, masked: bool) -> Tensor:
    return y.new_empty(y.shape)


@torch.library.custom_op("aimc_sim::quantize_output_backward", mutates_args=())
def _output_backward(grad: Tensor, y: Tensor, bound: Tensor, levels: int) -> Tensor:
    code = torch.round(_signal(y, bound.detach().to(_wide(y)), levels))
    return torch.where(code.abs() > levels, 0.0, grad).to(y.dtype).contiguous()


@_output_backward.register_fake
def _(grad: Tensor, y: Tensor, bound: Tensor, levels: int) -> Tensor:
    return y.new_empty(y.shape)


def _save_output(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    y, bound, ctx.levels, ctx.masked = inputs
    if ctx.masked:
        ctx.save_for_backward(y, bound)


def _differentiate_output(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    to_y = _output_backward(grad, *ctx.saved_tensors, ctx.levels) if ctx.masked else grad
    return to_y, None, None, None


_output.register_autograd(_differentiate_output, setup_context=_save_output)


def quantize_input(
    x: Tensor, range: Tensor, bits: int, *, decay: float = 0.01, unclipped: float = 0.95
) -> Tensor:
    """The DAC: (β/n)·round(clamp(x, ±β)·n/β), like x, any float dtype.

    x: any shape. range: β, one positive number, () or (1,), float32 where it is learned. bits: 2 to 16.
    Gradients for g = ∂L/∂x_q: to x, g where -β ≤ x ≤ β, else 0; to β, β·(Σ_{x≥β} min(g, 0) - Σ_{x≤-β} max(g, 0)), and
    decay·β more where a larger share than ``unclipped`` of x lies within. Raises BadInput for other shapes and bits,
    and (on the CPU) where β is negative or not finite; β = 0 makes every code 0.
    """
    if range.numel() != 1:
        raise BadInput(
            "range", got=tuple(range.shape), why="one range serves all of x", do="call it tile by tile"
        )
    quantised: Tensor = _input(x, range, _levels(bits), decay, unclipped)
    return quantised


def quantize_output(
    y: Tensor,
    bound: Tensor | float,
    bits: int,
    *,
    saturation: Literal["masked", "straight_through"] = "masked",
) -> Tensor:
    """The ADC: clamp(step·round(y/step), ±bound), step = bound/n, like y, any float dtype.

    y: (…, N). bound: one number, or a tensor that broadcasts against y, such as (N,); no gradient goes into it.
    Gradients to y: g where the conversion did not saturate, else 0 (masked); or g everywhere (straight_through).
    Raises BadInput for a bound of another shape, and (on the CPU) a negative one or one that is not finite.
    """
    if saturation not in ("masked", "straight_through"):
        raise BadInput(
            "saturation",
            got=saturation,
            why="the gradient has two variants",
            do="use 'masked' or 'straight_through'",
        )
    limit = torch.as_tensor(bound, dtype=_wide(y), device=y.device)
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
    quantised: Tensor = _output(y, limit, _levels(bits), saturation == "masked")
    return quantised


def _check(limit: Tensor, what: str) -> None:
    """BadInput for what bounds nothing; where looking would not make a device wait."""
    if limit.device.type == "cpu" and not bool(((limit >= 0) & limit.isfinite()).all()):
        raise BadInput(
            what,
            got=limit.detach().reshape(-1)[:8].tolist(),
            why="codes lie between minus it and it",
            do="give a positive number; keep a learned one above 0 after each update, as with abs_()",
        )


def _levels(bits: int) -> int:
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= MAX_BITS:
        raise BadInput("bits", got=bits, why="a converter has 2 to 16 bits", do="choose 8, say")
    return int(2 ** (bits - 1) - 1)


def _signal(y: Tensor, limit: Tensor, levels: int) -> Tensor:
    return y.to(limit.dtype) * torch.where(limit > SILENT, levels / limit, 0.0)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
