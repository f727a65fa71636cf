"""The most likely text after a prompt, many prompts at a time: what tasks are scored by that let a model write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from aimc_sim.evaluate.continuations import TOKENS, name_of
from aimc_sim.evaluate.generate import check_request
from aimc_sim.torch_bridge.kv_cache import forward_cached
from aimc_sim.torch_bridge.rows import sequence_names

TOKENS_A_PROMPT = 128  # a forward of 1,024 tokens is worth 8 prompts, which step together one token at a time


def completions(
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    ends: Callable[[Sequence[int]], bool] = lambda tokens: False,
    stop: Collection[int] = (),
    tokens: int = TOKENS,
    on_prompt: Callable[[], None] = lambda: None,
) -> list[list[int]]:
    """Return the new token ids after each prompt (token ids), taking the most likely one each time, with a KV cache.

    A completion ends before a token in `stop`, after the token at which `ends` (of all its tokens) is true, or after
    `max_new_tokens`. tokens: prompts that step together are tokens / 128; that grouping decides the last bits.
    """
    longest = getattr(model.config, "max_position_embeddings", None)
    for prompt in prompts:
        check_request(len(prompt), max_new_tokens, 0.0, longest)
    completed: list[list[int]] = [[] for _ in prompts]
    for places in together(prompts, tokens):
        batch = [prompts[place] for place in places]
        for place, written in zip(places, _write(model, batch, max_new_tokens, ends, stop), strict=True):
            completed[place] = written
            on_prompt()
    return completed


def together(prompts: Sequence[Sequence[int]], tokens: int = TOKENS) -> Iterator[list[int]]:
    """Group the places of prompts that step together: longest first."""
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    count = max(1, tokens // TOKENS_A_PROMPT)
    for start in range(0, len(order), count):
        yield order[start : start + count]


def _write(
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    ends: Callable[[Sequence[int]], bool],
    stop: Collection[int],
) -> list[list[int]]:
    width = max(len(prompt) for prompt in prompts)
    ids = np.zeros((len(prompts), width), np.int64)
    real = np.zeros(
        (len(prompts), width), np.int64
    )  # padding stands in front, so that all step at the same place
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :], real[row, width - len(prompt) :] = prompt, 1
    positions = np.maximum(real.cumsum(-1) - 1, 0)
    names = np.array([name_of(prompt) for prompt in prompts], np.int64)
    written: list[list[int]] = [[] for _ in prompts]
    over = [False] * len(prompts)
    step, cache = ids, None
    with torch.no_grad(), sequence_names(model, names):
        for _ in range(max_new_tokens):
            logits, cache = forward_cached(
                model,
                torch.from_numpy(step).to(model.device),
                cache,
                attention_mask=torch.from_numpy(real).to(model.device),
                position_ids=torch.from_numpy(positions).to(model.device),
                logits_to_keep=1,
            )
            chosen = logits[:, -1].float().argmax(-1).cpu().numpy()
            for row, token in enumerate(chosen.tolist()):
                if over[row]:
                    continue
                if token in stop:
                    over[row] = True
                    continue
                written[row].append(token)
                over[row] = ends(written[row])
            if all(over):
                break
            step, positions = chosen[:, None], positions[:, -1:] + 1
            real = np.concatenate([real, np.ones_like(step)], axis=1)
    return written
