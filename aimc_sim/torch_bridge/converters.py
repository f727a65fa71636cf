"""DAC and ADC in torch's own operations: the formulas of `kernels.converters` for any float dtype and any device.

n = largest code; every rounding is half to even. Gradients are not autograd's of these lines (a rounding has none):
`training.quantise` and `training.reference` say what they are.
"""

from __future__ import annotations

import torch

from aimc_sim.kernels import converters

Tensor = torch.Tensor
MIN_RANGE = float(converters.MIN_RANGE)


def codes_per_unit(n: float, limit: Tensor) -> Tensor:
    """Return n/limit, 0 where a range is (next to) 0."""
    return torch.where(limit > MIN_RANGE, n / limit, 0.0)


def unclipped_codes(value: Tensor, per_unit: Tensor) -> Tensor:
    """Return the codes that values round to, before the ends of the converter."""
    return torch.round(value * per_unit)


def codes_of(value: Tensor, limit: Tensor, n: int) -> Tensor:
    """Return clamp(round(value·n/limit), ±n); limit broadcasts against value."""
    return unclipped_codes(value, codes_per_unit(n, limit)).clamp(-n, n)


def quantise(value: Tensor, limit: Tensor, n: int) -> Tensor:
    """Return the values that the codes stand for: code·limit/n."""
    return codes_of(value, limit, n) * (limit / n)


def range_gradient_sums(grad: Tensor, x: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Return what ∂L/∂β of clamp(x, ±β) needs of g = ∂L/∂(clamped x): Σ_{x≥β} min(g, 0) - Σ_{x≤-β} max(g, 0), and how
    many x have |x| ≥ β; both () float64.
    """
    over, under, wide = x >= beta, x <= -beta, grad.double()
    pull = torch.where(over, wide.clamp(max=0), 0.0).sum() - torch.where(under, wide.clamp(min=0), 0.0).sum()
    return pull, (over | under).sum().double()


def range_gradient(
    beta: Tensor, pull: Tensor, clipped: Tensor, size: Tensor | int, decay: float, unclipped: float
) -> Tensor:
    """Return ∂L/∂β float64: β·pull, and decay·β more where a larger share than ``unclipped`` of ``size`` inputs lies
    within.

    The rest as `range_gradient_sums` gives it; everything (tiles,) or ().
    """
    count = torch.as_tensor(size, dtype=torch.float64, device=clipped.device)
    decays = (count > 0) & (1 - clipped / count.clamp(min=1) > unclipped)
    return beta.double() * (pull + torch.where(decays, decay, 0.0))


def computed_in(x: Tensor) -> torch.dtype:
    """Return the dtype that conversions of x are computed in: float64 stays, all others are float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
