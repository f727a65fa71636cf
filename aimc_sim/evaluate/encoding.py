"""Prompts as token ids, the way lm-evaluation-harness reads them for its Hugging Face models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Ids = list[int]


@dataclass(frozen=True)
class Encoder:
    """An encoder is a tokenizer, and the token that stands in for an empty context."""

    tokenizer: Any

    @property
    def first(self) -> int:
        """What a text without a context begins after: BOS, or the end of the text before."""
        bos = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if bos is None else bos)

    def encode(self, text: str) -> Ids:
        """Return token ids with the tokenizer's own special tokens, but no second BOS where the text spells one out."""
        special = not text.startswith(self.tokenizer.decode(self.first))
        return list(self.tokenizer.encode(text, **({} if special else {"add_special_tokens": False})))

    def pair(self, context: str, continuation: str) -> tuple[Ids, Ids]:
        """Encode context and continuation, cut where the context's own tokens end; spaces between belong to what
        follows.
        """
        if not context:
            ids = list(self.tokenizer.encode(continuation, add_special_tokens=False))
            return ([self.first], ids) if ids[:1] != [self.first] else (ids[:1], ids[1:])
        stripped = context.rstrip()
        # A context of spaces alone stays as it is: nothing would be left to condition on.
        both = self.encode(context + continuation)
        before = self.encode(stripped or context)
        return before, both[len(before) :]
