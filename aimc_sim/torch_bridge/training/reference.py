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

from collections.abc import Iterator

import numpy as np
import torch

from aimc_sim.torch_bridge.training.plan import Plan

Tensor = torch.Tensor
SILENT = 1e-30  # a range or a full scale below counts as none


def fake_quantise(weight: Tensor, levels: int) -> Tensor:
    """Weights (N, K) on 2·levels + 1 steps of their channel."""
    peak = weight.abs().amax(dim=1, keepdim=True)
    per_unit = torch.where(peak > SILENT, levels / peak, 0.0)
    return torch.round(weight * per_unit) * (peak / levels)


def ranges(x: Tensor, input_range: Tensor | None, plan: Plan) -> list[Tensor]:
    """β of every tile: () static, (B, 1) dynamic, 1 without a DAC."""
    if plan.range_kind == "static":
        assert input_range is not None
        return [
            beta.to(x.dtype if x.dtype == torch.float64 else torch.float32) for beta in input_range.detach()
        ]
    if plan.range_kind == "token_matrix":
        return [x.abs().amax(dim=1, keepdim=True)] * plan.tiles
    if plan.range_kind == "token_tile":
        return [x[:, a:b].abs().amax(dim=1, keepdim=True) for _, a, b in _tiles(plan)]
    return [torch.ones((), dtype=x.dtype, device=x.device)] * plan.tiles


def dac(x: Tensor, beta: Tensor, levels: int) -> Tensor:
    """Codes of x under β."""
    scale = torch.where(beta > SILENT, levels / beta, 0.0)
    return torch.clamp(torch.round(x * scale), -levels, levels)


def forward(
    x: Tensor, held: Tensor, target: Tensor, input_range: Tensor | None, full_scale: Tensor | None, plan: Plan
) -> tuple[Tensor, Tensor]:
    """y (B, N), and where conversions saturated (tiles, B, N) bool.

    held: (N, K) weights with their noise; target: without. full_scale: (tiles, N), or None for the rule of λ.
    """
    y = torch.zeros((x.shape[0], plan.cols), dtype=_wide(x), device=x.device)
    beyond = torch.zeros((plan.tiles, x.shape[0], plan.cols), dtype=torch.bool, device=x.device)
    for (t, a, b), beta in zip(_tiles(plan), ranges(_widened(x), input_range, plan), strict=True):
        n = plan.dac_levels
        codes = dac(_widened(x[:, a:b]), beta, n) if n else _widened(x[:, a:b])
        sums = (codes.to(x.dtype) @ held[:, a:b].to(x.dtype).t()).to(y.dtype)
        if not plan.adc_levels:
            y += sums * (beta / max(n, 1))
            continue
        source = held if plan.bound_from == "noisy" else target
        limit = plan.lambda_ if full_scale is None else full_scale[t]
        step = limit * source[:, a:b].abs().amax(dim=1).to(y.dtype) / plan.adc_levels  # per unit of β
        code = torch.round(sums * torch.where(step > SILENT, 1 / (n * step), 0.0))
        beyond[t] = code.abs() > plan.adc_levels
        y += torch.clamp(code, -plan.adc_levels, plan.adc_levels) * step * beta
    return y.to(x.dtype), beyond


def backward(
    grad: Tensor, x: Tensor, through: Tensor, input_range: Tensor | None, beyond: Tensor | None, plan: Plan
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to x (B, K), weight (N, K) and ranges (tiles,). through: (N, K) the weights that they go through.

    beyond: (tiles, B, N) where gradients stop, or None.
    """
    to_x, to_w = (torch.empty_like(v, memory_format=torch.contiguous_format) for v in (x, through))
    pull, clipped = (torch.zeros(plan.tiles, dtype=torch.float64, device=x.device) for _ in range(2))
    for (t, a, b), beta in zip(_tiles(plan), ranges(_widened(x), input_range, plan), strict=True):
        n, part = plan.dac_levels, _widened(x[:, a:b])
        g = grad if beyond is None else grad.masked_fill(beyond[t], 0)
        values = dac(part, beta, n) * (beta / n) if n else part
        to_w[:, a:b] = g.t() @ values.to(x.dtype)
        inner = g @ through[:, a:b].to(x.dtype)
        if plan.range_kind == "static":
            over, under = part >= beta, part <= -beta
            wide = inner.double()
            pull[t] = wide.clamp(max=0)[over].sum() - wide.clamp(min=0)[under].sum()
            clipped[t] = (over | under).sum()
            inner = inner.masked_fill(part.abs() > beta, 0)
        to_x[:, a:b] = inner
    if input_range is None:
        return to_x, to_w, pull.to(_wide(x))
    return to_x, to_w, range_slopes(input_range.detach(), pull, clipped, x.shape[0], plan).to(_wide(x))


def range_slopes(beta: Tensor, pull: Tensor, clipped: Tensor, tokens: int, plan: Plan) -> Tensor:
    """∂L/∂β (tiles,) float64 of static ranges from what their tiles found; all (tiles,).

    pull: Σ_{x≥β} min(g, 0) - Σ_{x≤-β} max(g, 0); clipped: how many of a tile's inputs over ``tokens`` have |x| ≥ β.
    Tiles that share a range each get the whole of its gradient: copies that begin equal stay equal.
    """
    wide, size = beta.double(), torch.from_numpy(np.diff(plan.ends)).to(pull) * tokens
    if plan.one_range:
        pull, clipped, size = (v.sum().expand(plan.tiles) for v in (pull, clipped, size))
    decays = (size > 0) & (1 - clipped / size.clamp(min=1) > plan.unclipped)
    return wide * (pull + torch.where(decays, plan.decay, 0.0))


def _tiles(plan: Plan) -> Iterator[tuple[int, int, int]]:
    for t, (a, b) in enumerate(zip(plan.bounds[:-1], plan.bounds[1:], strict=True)):
        yield t, a, b


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _widened(x: Tensor) -> Tensor:
    return x.to(_wide(x))
