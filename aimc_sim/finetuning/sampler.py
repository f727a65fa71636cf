"""Rows of text from a model, every token drawn, with a cache whose memory is set up once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.finetuning.data_plan import SamplePlan, Tokens, fingerprint
from aimc_sim.torch_bridge.kv_cache import forward_cached
from aimc_sim.torch_bridge.sampling import first_token, pick, uniforms

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def plan_for(
    model: PreTrainedModel,
    *,
    length: int = 512,
    sequences: int = 256,
    batch: int = 64,
    temperature: float = 1.0,
    top_k: int | None = 50,
    seed: int = 0,
) -> SamplePlan:
    """Make the plan of sampling from this model. Raises BadInput for a length beyond its positions.

    length: tokens a row. sequences: rows a shard. batch: rows generated together.
    """
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and length > limit:
        raise BadInput(
            "length", got=length, why=f"the model has {limit} positions", do=f"use 2 to {limit} tokens"
        )
    return SamplePlan.parse(
        {
            "model": model_id(model),
            "length": length,
            "sequences": sequences,
            "batch": min(batch, sequences),
            "temperature": temperature,
            "top_k": top_k,
            "seed": seed,
            "bos_id": first_token(model),
        },
        "sampling",
    )


def model_id(model: Any) -> str:
    """Return 16 hex digits of every parameter's name and bits, each stored tensor once."""
    import torch

    def bits(value: torch.Tensor) -> bytes:
        flat = value.detach().cpu().contiguous().reshape(-1)
        return flat.view(torch.uint8).numpy().tobytes()

    return fingerprint((name, bits(value)) for name, value in model.named_parameters())


def sample_rows(
    model: Any, plan: SamplePlan, rows: npt.NDArray[np.int64], progress: Progress | None = None
) -> Tokens:
    """Sample tokens (rows, length) int32 of these sequence ids, ``plan.batch`` together.

    The last group is filled up with further ids, so that the shapes of all products are the plan's.
    """
    tokens = np.full((len(rows), plan.length), plan.bos_id, np.int32)
    for first in range(0, len(rows), plan.batch):
        ids = rows[first : first + plan.batch]
        full = np.concatenate([ids, ids[-1] + 1 + np.arange(plan.batch - len(ids))])
        tokens[first : first + len(ids)] = _group(model, plan, full)[: len(ids)]
        if progress is not None:
            done = first + len(ids)
            progress("sampling", done * plan.length, len(rows) * plan.length)
    return tokens


def _group(model: Any, plan: SamplePlan, ids: npt.NDArray[np.int64]) -> Tokens:
    import torch

    out = np.full((len(ids), plan.length), plan.bos_id, np.int32)
    cache = _cache(model, plan.length)
    column = torch.full((len(ids), 1), plan.bos_id, dtype=torch.int64, device=model.device)
    for position in range(1, plan.length):
        with torch.inference_mode():
            logits = forward_cached(model, column, cache)[0][:, -1].float()
        if not bool(torch.isfinite(logits.amax())):
            raise BadInput(
                "model",
                why=f"its logits are not finite at position {position - 1}",
                do="check the checkpoint; a weight is far too large",
            )
        draws = uniforms(ids, position, plan.seed)
        out[:, position] = _pick(logits, draws, plan.temperature, plan.top_k)
        column = torch.from_numpy(out[:, position : position + 1].astype(np.int64)).to(model.device)
    return out


def _cache(model: Any, length: int) -> Any:
    """Make a cache of keys and values for so many positions, written in place where the model can: growing them copies
    everything.
    """
    from transformers import DynamicCache, StaticCache

    if getattr(model, "_can_compile_fullgraph", False):
        return StaticCache(config=model.config, max_cache_len=length)
    return DynamicCache()


def _pick(
    logits: torch.Tensor, draws: npt.NDArray[np.float64], temperature: float, top_k: int | None
) -> npt.NDArray[np.int32]:
    """Pick as `sampling.pick`, which sorts whole vocabularies: here only the kept ones are looked at."""
    import torch

    vocabulary = logits.shape[1]
    if top_k is None or top_k >= vocabulary:
        return pick(logits.cpu().numpy(), draws, temperature, None)
    # Exactly k a row: all above the k-th largest, and of those equal to it the lower ids.
    edge = torch.topk(logits, top_k, dim=1).values[:, -1:]
    above, equal = logits > edge, logits == edge
    room = top_k - above.sum(1, keepdim=True)
    kept = (above | (equal & (equal.cumsum(1) <= room))).nonzero()[:, 1].reshape(-1, top_k)
    chosen = pick(logits.gather(1, kept).cpu().numpy(), draws, temperature, None)
    picked: npt.NDArray[np.int32] = kept.cpu().numpy()[np.arange(len(chosen)), chosen].astype(np.int32)
    return picked
