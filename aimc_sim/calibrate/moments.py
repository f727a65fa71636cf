"""Input statistics of every candidate matrix over the calibration text, collected in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.weightfile import Moments

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedModel


class _Sums:
    """Running sums over tokens of one matrix's input, per channel; float64, so that their order hardly matters."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.max_abs = np.zeros(width, np.float32)
        self.total, self.squares = np.zeros(width), np.zeros(width)

    def add(self, x: Any) -> None:
        import torch

        flat = x.detach().reshape(-1, x.shape[-1])
        low, high = torch.aminmax(flat.float(), dim=0)
        np.maximum(self.max_abs, torch.maximum(-low, high).cpu().numpy(), out=self.max_abs)
        wide = flat.double()
        self.total += wide.sum(dim=0).cpu().numpy()
        self.squares += torch.einsum("tk,tk->k", wide, wide).cpu().numpy()
        self.count += flat.shape[0]

    def moments(self) -> Moments:
        return Moments(
            self.max_abs,
            (self.total / self.count).astype(np.float32),
            (self.squares / self.count).astype(np.float32),
        )


def keep_last_position(model: PreTrainedModel) -> RemovableHandle:
    """Until the handle is removed, the head computes the logits of the last position alone.

    Calibration reads what goes into the head: all its products would take a fifth of a small model's time, and half a
    gigabyte for a thousand tokens of a large vocabulary. Hooks that were there before still see the whole input.
    """

    def cut(_module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0][..., -1:, :], *args[1:])

    handle: RemovableHandle = model.get_output_embeddings().register_forward_pre_hook(cut)
    return handle


def collect_moments(
    model: PreTrainedModel,
    token_ids: npt.NDArray[np.int32],
    names: Sequence[str],
    *,
    batch: int = 2,
    progress: Progress | None = None,
) -> dict[str, Moments]:
    """Moments of the inputs of the named modules over all tokens: each (K,) float32.

    token_ids: (S, L) int32, run through the model ``batch`` sequences at a time without a cache.
    """
    import torch

    modules = dict(model.named_modules())
    sums: dict[str, _Sums] = {}
    handles: list[RemovableHandle] = []

    def watch(name: str) -> None:
        def hook(_module: Any, args: tuple[Any, ...]) -> None:
            x = args[0]
            if not torch.isfinite(x).all():
                raise BadInput(
                    f"input of {name}",
                    why="it is not finite on the calibration text",
                    do="check the checkpoint; a weight may be far too large",
                )
            sums.setdefault(name, _Sums(x.shape[-1])).add(x)

        handles.append(modules[name].register_forward_pre_hook(hook))

    try:
        for name in names:
            watch(name)
        handles.append(keep_last_position(model))
        for first in range(0, len(token_ids), batch):
            part = torch.from_numpy(token_ids[first : first + batch].astype(np.int64))
            with torch.inference_mode():
                model(input_ids=part.to(model.device), use_cache=False)
            if progress is not None:
                progress("calibrate", min(first + batch, len(token_ids)), len(token_ids))
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in names if name not in sums]
    if missing:
        raise BadInput(
            "calibration",
            got=missing[0],
            why="no token ever reached this module",
            do="check that the architecture is a plain decoder",
        )
    return {name: sum_.moments() for name, sum_ in sums.items()}
