"""Around a training step: its name, the optimizer's parameter groups, and sharding over processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from torch import nn

from aimc_sim.torch_bridge.training.input_range import InputRange
from aimc_sim.torch_bridge.training.layer import TrainingLinear

Model = TypeVar("Model", bound=nn.Module)


def set_step(model: nn.Module, step: int, *, seed: int | None = None) -> None:
    """Name the noise of the coming forwards of a model, or of one layer, by hand.

    Without it a converted model begins with step 0, and every step of its optimizer is the next. step: 0 to 2³²-1, the
    event of the cells; give every micro-batch and process its own, where they are to have noise of their own. seed: the
    chip (64 bits); None: as before. Between a forward and its backward only where activations are not recomputed.
    Raises BadInput for a step or a seed out of range.

    >>> import torch
    >>> from aimc_sim.torch_bridge import AnalogLinear, set_step
    >>> layer, x = AnalogLinear.from_linear(torch.nn.Linear(8, 2), {"device": "gaussian"}), torch.ones(1, 8)
    >>> set_step(layer, 7, seed=3)
    >>> y = layer(x)
    >>> set_step(layer, 8)
    >>> torch.equal(layer(x), y)
    False
    >>> set_step(layer, 7)
    >>> torch.equal(layer(x), y)
    True
    """
    for layer in model.modules():
        if isinstance(layer, TrainingLinear):
            layer.set_key(step, seed)


def parameter_groups(model: nn.Module, weight_decay: float = 0.01) -> list[dict[str, Any]]:
    """Return groups for an optimizer: weights with decay, then input ranges without. Frozen parameters are left out.

    A range has a decay of its own, in its gradient; another would shrink it twice.

    >>> import torch
    >>> from aimc_sim.torch_bridge import convert, parameter_groups
    >>> model = convert(torch.nn.Sequential(torch.nn.Linear(8, 2)), "afm-llama")
    >>> groups = parameter_groups(model, weight_decay=0.01)
    >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
    [(2, 0.01), (1, 0.0)]
    >>> optimizer = torch.optim.AdamW(groups, lr=1e-3)
    """
    ranges = [m.value for m in model.modules() if isinstance(m, InputRange) and m.value.requires_grad]
    own = {id(parameter) for parameter in ranges}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
    groups = [{"params": others, "weight_decay": weight_decay}, {"params": ranges, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def shard(model: Model, layers: Iterable[nn.Module] | None = None, **options: Any) -> Model:
    """Shard the model over processes with FSDP2: all ranges as one float32 group, then ``layers``, then the rest.

    options: those of torch's fully_shard, such as mesh and mp_policy, which the ranges are kept out of. Begin the
    ranges first, and make the optimizer afterwards.

    >>> import torch, torch.distributed as dist
    >>> from torch.distributed.device_mesh import init_device_mesh
    >>> from aimc_sim.torch_bridge import convert, shard
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> model = convert(torch.nn.Sequential(torch.nn.Linear(8, 4)), {"device": "gaussian"})
    >>> type(shard(model, mesh=init_device_mesh("cpu", (1,)))[0].weight).__name__
    'DTensor'
    >>> dist.destroy_process_group()
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
