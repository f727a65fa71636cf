"""Around a training step: its name, the optimizer's parameter groups, and sharding over processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from torch import nn

from aimc_sim.torch_bridge.training.layer import InputRange, TrainingLinear

Model = TypeVar("Model", bound=nn.Module)


def set_step(model: nn.Module, step: int, *, seed: int | None = None) -> None:
    """Name the weight noise of the coming forward. Call it before every forward, never before its backward has run.

    step: 0 to 2³²-1, the event of the cells; give every micro-batch and process its own. seed: the chip (64 bits).
    """
    for layer in model.modules():
        if isinstance(layer, TrainingLinear):
            layer.set_key(step, seed)


def parameter_groups(model: nn.Module, weight_decay: float = 0.01) -> list[dict[str, Any]]:
    """Groups for an optimizer: weights with decay, then input ranges without. Frozen parameters are left out.

    A range has a decay of its own, in its gradient; another would shrink it twice.
    """
    ranges = [m.value for m in model.modules() if isinstance(m, InputRange) and m.value.requires_grad]
    own = {id(parameter) for parameter in ranges}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
    groups = [{"params": others, "weight_decay": weight_decay}, {"params": ranges, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def shard(model: Model, layers: Iterable[nn.Module] | None = None, **options: Any) -> Model:
    """Shard the model over processes with FSDP2: all ranges as one float32 group, then ``layers``, then the rest.

    options: those of torch's fully_shard, such as mesh and mp_policy, which the ranges are kept out of.
    """
    from torch.distributed.fsdp import fully_shard  # late: only training on several processes needs it

    ranges: list[nn.Module] = [m for m in model.modules() if isinstance(m, InputRange)]
    alone = {name: value for name, value in options.items() if name in ("mesh", "offload_policy")}
    for held in ranges:
        fully_shard(held, **alone)
    for layer in layers or ():
        fully_shard(layer, **options)
    fully_shard(model, **options)
    return model
