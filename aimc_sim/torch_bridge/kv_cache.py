"""The key-value cache of a transformers model, whose name is `cache` since 5.24 and was `past_key_values` before."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

NAMES = ("cache", "past_key_values")


def forward_cached(model: Any, ids: Any, cache: Any = None, **more: Any) -> tuple[Any, Any]:
    """One forward of token ids (batch, length) after the cache's → (logits (batch, length, vocabulary), cache).

    more: what else the model takes, such as ``attention_mask`` and ``position_ids`` of a padded batch.
    """
    name = _name(model.__class__)
    out = model(input_ids=ids, use_cache=True, **{name: cache}, **more)
    return out.logits, getattr(out, name)


def cached_length(arguments: Mapping[str, Any]) -> int:
    """Return the tokens in the cache that a forward was given by keyword."""
    given = next((arguments[name] for name in NAMES if arguments.get(name) is not None), None)
    return 0 if given is None else int(given.get_seq_length())


@lru_cache(maxsize=64)
def _name(kind: type) -> str:
    known = inspect.signature(kind.forward).parameters  # type: ignore[attr-defined]
    return next((name for name in NAMES if name in known), NAMES[-1])
