"""Static input ranges of a layer: what they are, and what their first values follow from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from aimc_sim.errors import BadInput
from aimc_sim.hardware import StaticRange
from aimc_sim.torch_bridge.training.plan import Plan

Tensor = torch.Tensor


class InputRange(nn.Module):
    """An input range holds the static ranges β of a layer: ``value`` (tiles,), float32 whatever dtype the model is
    given.

    A module of its own, so that FSDP can hold it apart from what is in half precision. ``forwards`` (tiles,) int64: how
    many forwards its first values have been averaged over; 0: there is none yet.
    """

    forwards: Tensor

    def __init__(self, tiles: int, learn: bool) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(tiles), requires_grad=learn)
        self.register_buffer("forwards", torch.zeros(tiles, dtype=torch.int64))
        self.ready = False
        self.register_load_state_dict_post_hook(_settle)  # type: ignore[no-untyped-call]

    def settle(self) -> None:
        """Note whether every tile has its range. Outside the graph: a forward only asks for ``ready``."""
        forwards = self.forwards
        self.ready = bool(forwards.device.type != "meta" and (forwards > 0).all())

    @torch.no_grad()
    def observe(self, x: Tensor, rule: StaticRange, plan: Plan, limit: int) -> None:
        """Before a forward of inputs x (…, K): β ← (β·n + rule(x)) / (n + 1) of every tile that has seen n < limit.

        Where processes train together they average what they see.
        """
        if (self.forwards >= limit).all():
            return
        flat = x.detach().float().reshape(-1, plan.rows)
        if rule.per == "matrix":
            fresh = range_of(flat, rule).expand(plan.tiles).clone()
        else:
            fresh = torch.stack([range_of(flat[:, a:b], rule) for _, a, b in plan.row_tiles])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(fresh)
            fresh /= torch.distributed.get_world_size()
        counts = (fresh > 0) & (self.forwards < limit)
        mean = (self.value * self.forwards + fresh) / (self.forwards + 1)
        self.value.copy_(torch.where(counts, mean, self.value))
        self.forwards += counts
        self.settle()

    @torch.no_grad()
    def mirror(self) -> None:
        """After an update: a range that was pushed below 0 comes back as its size.

        Below 0 every input is clipped, every output 0, and the gradient pushes the range further away.
        """
        self.value.abs_()

    def forward(self) -> Tensor:
        """Return (tiles,) float32: a copy, which outlives a sharded parameter."""
        return self.value.clone()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> InputRange:
        before = self.value.detach()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.value.dtype != torch.float32:
            self.value.data = before.to(self.value.device)
        return self


def _settle(module: nn.Module, _: object) -> None:
    assert isinstance(module, InputRange)
    value = module.value
    if value.dtype != torch.float32:  # load_state_dict(assign=True) takes what is given
        module.value = nn.Parameter(value.detach().float(), requires_grad=value.requires_grad)
    module.settle()


def range_of(x: Tensor, rule: StaticRange) -> Tensor:
    """Return β () of one batch by the hardware's rule: κ·std(x), unbiased; the largest |x|; a percentile of |x|."""
    flat = x.reshape(-1)
    if rule.method == "std":
        return rule.kappa * (flat.std() if flat.numel() > 1 else flat.new_zeros(()))
    size = flat.abs()
    if rule.method not in ("max", "percentile"):
        raise BadInput(
            "dac.range.method",
            got=rule.method,
            why="it compares outputs, which a single forward does not show",
            do="calibrate, and pass the ranges to convert; or use 'std' for training",
        )
    if rule.method == "max":
        return size.amax()
    place = min(max(round(rule.percentile / 100 * size.numel()), 1), size.numel())
    return size.kthvalue(place).values
