"""Token by token: greedy, or sampled with keyed random numbers, so that equal seeds give equal text."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge.kv_cache import forward_cached
from aimc_sim.torch_bridge.sampling import pick, uniforms


def stream_tokens(
    model: Any,
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    stop: Collection[int] = (),
) -> Iterator[int]:
    """Yield new token ids after `prompt`, at most `max_new_tokens`, ending before a token in `stop`.

    temperature 0 takes the most likely token; above, tokens are drawn by inverse CDF with one Philox uniform a
    position. Keeps a KV cache.
    """
    check_request(
        len(prompt), max_new_tokens, temperature, getattr(model.config, "max_position_embeddings", None)
    )
    ids, cache = torch.tensor([list(prompt)]), None
    for step in range(max_new_tokens):
        with torch.no_grad():
            logits, cache = forward_cached(model, ids, cache)
        token = _choose(logits[:, -1].float(), temperature, len(prompt) + step, seed)
        if token in stop:
            return
        yield token
        ids = torch.tensor([[token]])


def check_request(prompt: int, max_new_tokens: int, temperature: float, context: int | None) -> None:
    """Raise BadInput for what cannot be generated. prompt: its tokens. context: positions of the model, if limited."""
    if prompt < 1:
        raise BadInput("prompt", got="", why="the model needs a first token", do="give a prompt")
    if not 0 <= temperature < math.inf:
        raise BadInput(
            "temperature", got=temperature, why="it divides the logits", do="use 0 (greedy) or more"
        )
    if max_new_tokens < 1:
        raise BadInput(
            "max-new-tokens", got=max_new_tokens, why="there is nothing to generate", do="use 1 or more"
        )
    # The last new token is not read back, so it needs no position.
    if context is not None and prompt + max_new_tokens - 1 > context:
        room = context + 1 - prompt
        raise BadInput(
            "max-new-tokens",
            got=max_new_tokens,
            why=f"the prompt takes {prompt} of the model's {context} positions",
            do=f"use at most {room}" if room > 0 else "shorten the prompt",
        )


def _choose(logits: torch.Tensor, temperature: float, position: int, seed: int) -> int:
    """Choose the next token by logits (1, vocabulary) float32."""
    if temperature == 0:
        return int(logits.argmax())
    return int(pick(logits.numpy(), uniforms(np.zeros(1, np.int64), position, seed), temperature, None)[0])


def prompt_ids(tokenizer: Any, prompt: str, chat: bool | None) -> list[int]:
    """Return the token ids of a prompt; of a chat's question, with the template around it. chat: None where there is a
    template.

    Raises BadInput for a chat without a template, and a prompt without any token.
    """
    template = bool(tokenizer.chat_template)
    if chat and not template:
        raise BadInput("chat template", why="this model brings none", do="leave --chat out")
    if template and chat is not False:
        question = [{"role": "user", "content": prompt}]
        prompt = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        return list(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    ids = list(tokenizer(prompt)["input_ids"])
    if not ids:
        raise BadInput("prompt", got=prompt, why="the model needs a first token", do="give a longer prompt")
    return ids


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the end-of-text tokens of the generation defaults, the configuration and the tokenizer."""
    stated = [
        getattr(each, "eos_token_id", None) for each in (model.generation_config, model.config, tokenizer)
    ]
    listed = [token for each in stated for token in (each if isinstance(each, (list, tuple)) else [each])]
    return frozenset(token for token in listed if isinstance(token, int))


def stream_text(tokenizer: Any, tokens: Iterable[int], ids: list[int] | None = None) -> Iterator[str]:
    """Yield pieces of text as tokens arrive; a character that is still incomplete is held back.

    ids: takes the tokens.
    """
    ids = [] if ids is None else ids
    shown = ""
    for token in tokens:
        ids.append(token)
        text = tokenizer.decode(ids, skip_special_tokens=True)
        if not text.endswith("\ufffd") and len(text) > len(shown):
            yield text[len(shown) :]
            shown = text
    rest = tokenizer.decode(ids, skip_special_tokens=True)[len(shown) :] if ids else ""
    if rest:
        yield rest
