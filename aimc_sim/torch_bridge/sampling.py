"""Text that a model writes itself: what calibration and scoring use where no data set is given.

The recipe of Analog Foundation Models: start from BOS, sample every token, go on after EOS, fixed length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.randomness import Stream, key_of, site_word
from aimc_sim.torch_bridge.kv_cache import forward_cached

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH = 32  # sequences generated together; bounds the logits held at once


def first_token(model: PreTrainedModel) -> int:
    """Return the id that text starts from: BOS, else the first EOS, else 0; ids outside the vocabulary do not count."""
    for role in ("bos_token_id", "eos_token_id"):
        for config in (model.generation_config, model.config):
            stated = getattr(config, role, None)
            for token in stated if isinstance(stated, (list, tuple)) else [stated]:
                # A shrunken GPT-2 keeps the ids of the full one: 50256 in a vocabulary of a hundred.
                if isinstance(token, int) and 0 <= token < model.config.vocab_size:
                    return token
    return 0


def uniforms(sequences: npt.NDArray[np.int64], position: int, seed: int) -> npt.NDArray[np.float64]:
    """Return one uniform in (0, 1) with 53 bits per sequence, of (seed, sequence, position) alone.

    sequences: (n,) sequence numbers below 2^32 → (n,) float64.
    """
    counter = np.zeros((len(sequences), 4), np.uint32)
    counter[:, 0] = position
    counter[:, 2] = sequences
    counter[:, 3] = site_word(Stream.TEXT, 0)
    words = philox4x32(counter, key_of(seed)).astype(np.uint64)
    mantissa = ((words[:, 0] >> np.uint64(5)) << np.uint64(26)) | (words[:, 1] >> np.uint64(6))
    return (mantissa.astype(np.float64) + 0.5) * 2.0**-53


def pick(
    logits: npt.NDArray[np.float32], uniform: npt.NDArray[np.float64], temperature: float, top_k: int | None
) -> npt.NDArray[np.int32]:
    """Return the tokens by inverse CDF, in the order of their ids.
    logits: (n, vocabulary); uniform: (n,) → (n,) int32.
    """
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    if top_k is not None and top_k < scaled.shape[1]:
        # A stable sort keeps the lower id among equals.
        dropped = np.argsort(-scaled, axis=1, kind="stable")[:, top_k:]
        np.put_along_axis(scaled, dropped, -np.inf, axis=1)
    cumulative = np.cumsum(np.exp(scaled), axis=1)
    # The first id whose cumulative weight exceeds the draw; one of weight zero never is.
    chosen: npt.NDArray[np.int32] = (
        (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(axis=1).astype(np.int32)
    )
    return chosen


def sample_tokens(
    model: PreTrainedModel,
    *,
    sequences: int,
    length: int,
    seed: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    bos_id: int | None = None,
    progress: Progress | None = None,
) -> npt.NDArray[np.int32]:
    """Sample text from a model with a KV cache → (sequences, length) int32 token ids, the first of each the BOS.

    Deterministic for (weights, seed): the draw at a position belongs to (seed, sequence, position), however
    sequences are batched. bos_id: what to start from, by default ``first_token(model)``. progress: called as
    ("sample", tokens done, tokens in all).
    """
    _check(model, sequences, length, temperature, top_k)
    start = first_token(model) if bos_id is None else bos_id
    if not 0 <= start < model.config.vocab_size:
        raise BadInput(
            "bos_id",
            got=start,
            why=f"the vocabulary has {model.config.vocab_size} tokens",
            do="pass the id of a token to start from",
        )
    tokens = np.full((sequences, length), start, np.int32)
    for first in range(0, sequences, BATCH):
        rows = np.arange(first, min(first + BATCH, sequences))
        for position, chosen in enumerate(
            _steps(model, tokens[rows, :1], length, rows, seed, temperature, top_k), 1
        ):
            tokens[rows, position] = chosen
            if progress is not None:
                progress("sample", first * length + (position + 1) * len(rows), sequences * length)
    return tokens


def _steps(
    model: PreTrainedModel,
    begin: npt.NDArray[np.int32],
    length: int,
    rows: npt.NDArray[np.int64],
    seed: int,
    temperature: float,
    top_k: int | None,
) -> Iterator[npt.NDArray[np.int32]]:
    import torch

    column, cache = torch.from_numpy(begin.astype(np.int64)), None
    for position in range(1, length):
        with torch.inference_mode():
            all_logits, cache = forward_cached(model, column.to(model.device), cache)
        logits = all_logits[:, -1].float().cpu().numpy()
        if not np.isfinite(logits.max()):
            raise BadInput(
                "model",
                why=f"its logits are not finite at position {position - 1}",
                do="run `aimc-sim verify` on the weight file; if it is whole, a weight is far too large",
            )
        chosen = pick(logits, uniforms(rows, position, seed), temperature, top_k)
        column = torch.from_numpy(chosen.astype(np.int64))[:, None]
        yield chosen


def _check(
    model: PreTrainedModel, sequences: int, length: int, temperature: float, top_k: int | None
) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    if sequences < 1:
        raise BadInput("sequences", got=sequences, why="there is nothing to sample", do="ask for at least 1")
    if length < 1 or (limit is not None and length > limit):
        raise BadInput(
            "length", got=length, why=f"the model's context holds {limit} tokens", do="choose 1 to that many"
        )
    if not 0 < temperature < float("inf"):
        raise BadInput(
            "temperature", got=temperature, why="logits are divided by it", do="choose a positive number"
        )
    if top_k is not None and top_k < 1:
        raise BadInput(
            "top_k", got=top_k, why="at least one token must be left", do="choose 1 or more, or None"
        )
