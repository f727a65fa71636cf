"""The training product in plain torch operations: the readable formula, in any float dtype and on any device.

What `cpu` computes block by block stands here whole, and is what runs where no kernel does. Equations: Büchel
et al., NeurIPS 2025 (arXiv 2505.09663). n = largest code; every rounding is half to even.

    DAC     x_q = (β/n)·code,      code = clamp(round(x·n/β), ±n)                          β per tile, or per token
    cells   s_j = Σ_i code_i·w_ij                                                          w with noise
    ADC     y_j = step_j·clamp(round((β/n)·s_j/step_j), ±m),   step_j = bound_j/m,   bound_j = λ·β·max|W_:,j|
    out     y = Σ over tiles

Backward, g = ∂L/∂y: zero where the ADC saturated (masked), or g itself; ∂L/∂x_q = g·W, through clean or noisy weights;
∂L/∂W = gᵀ·x_q; ∂L/∂x = ∂L/∂x_q where -β ≤ x ≤ β, else 0; ∂L/∂β as in `kernels.training.range_gradient_reference`.
"""

from __future__ import annotations

import numpy as np
import torch

from aimc_sim.torch_bridge import converters
from aimc_sim.torch_bridge.training.plan import Plan

Tensor = torch.Tensor


def fake_quantise(weight: Tensor, max_code: int) -> Tensor:
    """Return the weights (N, K) on 2·max_code + 1 steps of their channel."""
    return converters.quantise(weight, weight.abs().amax(dim=1, keepdim=True), max_code)


def ranges(x: Tensor, input_range: Tensor | None, plan: Plan) -> list[Tensor]:
    """Return β of every tile, for x in the dtype of the conversions: () static, (B, 1) dynamic, 1 without a DAC."""
    if plan.range_kind == "static":
        assert input_range is not None
        return [beta.to(x.dtype) for beta in input_range.detach()]
    if plan.range_kind == "token_matrix":
        return [x.abs().amax(dim=1, keepdim=True)] * plan.tiles
    if plan.range_kind == "token_tile":
        return [x[:, a:b].abs().amax(dim=1, keepdim=True) for _, a, b in plan.row_tiles]
    return [torch.ones((), dtype=x.dtype, device=x.device)] * plan.tiles


def forward(
    x: Tensor,
    noisy: Tensor,
    target: Tensor,
    input_range: Tensor | None,
    full_scale: Tensor | None,
    plan: Plan,
) -> tuple[Tensor, Tensor]:
    """Return y (B, N), and where conversions saturated (tiles, B, N) bool.

    noisy: (N, K) weights with their noise; target: without. full_scale: (tiles, N), or None for the rule of λ.
    """
    wide = x.to(converters.computed_in(x))
    y = torch.zeros((x.shape[0], plan.cols), dtype=wide.dtype, device=x.device)
    beyond = torch.zeros((plan.tiles, x.shape[0], plan.cols), dtype=torch.bool, device=x.device)
    for (t, a, b), beta in zip(plan.row_tiles, ranges(wide, input_range, plan), strict=True):
        n = plan.dac_max_code
        codes = converters.codes_of(wide[:, a:b], beta, n) if n else wide[:, a:b]
        sums = (codes.to(x.dtype) @ noisy[:, a:b].to(x.dtype).t()).to(y.dtype)
        if not plan.adc_max_code:
            y += sums * (beta / max(n, 1))
            continue
        source = noisy if plan.bound_from == "noisy" else target
        limit = plan.lambda_ if full_scale is None else full_scale[t]
        step = limit * source[:, a:b].abs().amax(dim=1).to(y.dtype) / plan.adc_max_code  # per unit of β
        code = converters.unclipped_codes(sums, converters.codes_per_unit(1, n * step))
        beyond[t] = code.abs() > plan.adc_max_code
        y += torch.clamp(code, -plan.adc_max_code, plan.adc_max_code) * step * beta
    return y.to(x.dtype), beyond


def backward(
    grad: Tensor, x: Tensor, through: Tensor, input_range: Tensor | None, beyond: Tensor | None, plan: Plan
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute gradients to x (B, K), weight (N, K) and ranges (tiles,). through: (N, K) the weights that they go
    through.

    beyond: (tiles, B, N) where gradients stop, or None.
    """
    wide = x.to(converters.computed_in(x))
    to_x, to_w = (torch.empty_like(v, memory_format=torch.contiguous_format) for v in (x, through))
    pull, clipped = (torch.zeros(plan.tiles, dtype=torch.float64, device=x.device) for _ in range(2))
    for (t, a, b), beta in zip(plan.row_tiles, ranges(wide, input_range, plan), strict=True):
        n, part = plan.dac_max_code, wide[:, a:b]
        g = grad if beyond is None else grad.masked_fill(beyond[t], 0)
        values = converters.quantise(part, beta, n) if n else part
        to_w[:, a:b] = g.t() @ values.to(x.dtype)
        inner = g @ through[:, a:b].to(x.dtype)
        if plan.range_kind == "static":
            pull[t], clipped[t] = converters.range_gradient_sums(inner, part, beta)
            inner = inner.masked_fill(part.abs() > beta, 0)
        to_x[:, a:b] = inner
    if input_range is None:
        return to_x, to_w, pull.to(wide.dtype)
    return to_x, to_w, range_slopes(input_range.detach(), pull, clipped, x.shape[0], plan).to(wide.dtype)


def range_slopes(beta: Tensor, pull: Tensor, clipped: Tensor, tokens: int, plan: Plan) -> Tensor:
    """∂L/∂β (tiles,) float64 of static ranges from what their tiles found; all (tiles,).

    pull: Σ_{x≥β} min(g, 0) - Σ_{x≤-β} max(g, 0); clipped: how many of a tile's inputs over ``tokens`` have |x| ≥ β.
    Tiles that share a range each get the whole of its gradient: copies that begin equal stay equal.
    """
    size = torch.from_numpy(np.diff(plan.ends)).to(pull) * tokens
    if plan.one_range:
        pull, clipped, size = (v.sum().expand(plan.tiles) for v in (pull, clipped, size))
    return converters.range_gradient(beta, pull, clipped, size, plan.decay, plan.unclipped)
