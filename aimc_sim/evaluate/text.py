"""The text that is scored: a file, or samples of the model itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.windows import Windows, cut, from_sequences
from aimc_sim.files import reading
from aimc_sim.spec import Spec

if TYPE_CHECKING:
    from aimc_sim.weightfile import WeightFile


class FileText(Spec):
    """This spec names a text file by content: equal text, equal spec, wherever the file lies."""

    kind: Literal["file"] = "file"
    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    limit_tokens: int | None = Field(default=None, ge=2)


class SelfText(Spec):
    """This spec asks for samples of the digital model itself from its first token on; end-of-text is sampled on, every
    token counts.
    """

    kind: Literal["self"] = "self"
    sequences: int = Field(default=16, ge=1)
    length: int = Field(default=128, ge=2)
    # Not 0: an export calibrates on samples of seed 0, and a verdict is about text that nothing was tuned on.
    seed: int = Field(default=1, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    top_k: int | None = Field(default=None, ge=1)


def read_text(path: str | Path) -> str:
    """Read the text of a UTF-8 file. Raises BadInput where there is none."""
    where = Path(path)
    with reading(where, "text file"):
        text = where.read_text(encoding="utf-8")
    if not text.strip():
        raise BadInput(
            "text file", got=str(where), why="there is nothing in it to score", do="give a longer text"
        )
    return text


def file_text(path: str | Path, limit_tokens: int | None = None) -> FileText:
    """Return the spec of a text file as it is now."""
    if limit_tokens is not None and limit_tokens < 2:
        raise BadInput(
            "limit-tokens", got=limit_tokens, why="the first token is not scored", do="use 2 or more"
        )
    digest = hashlib.sha256(read_text(path).encode()).hexdigest()
    return FileText(name=Path(path).name, sha256=digest, limit_tokens=limit_tokens)


def load_tokenizer(weight_file: WeightFile) -> Any:
    """Load the tokenizer in a weight file, as a transformers tokenizer. Raises BadInput where the file has none.

    >>> import aimc_sim
    >>> tokenizer = aimc_sim.load_tokenizer(aimc_sim.WeightFile("model.h5"))
    >>> tokenizer.decode(tokenizer("a tile", add_special_tokens=False)["input_ids"])
    'a tile'
    """
    files = weight_file.tokenizer()
    if not files:
        raise BadInput(
            "tokenizer",
            got=str(weight_file.path),
            why="the weight file holds none, so it cannot read text",
            do="export the checkpoint again from a folder with its tokenizer",
        )
    # late: transformers takes seconds to load, and plans name texts without it
    from aimc_sim.models import load_tokenizer as build

    return build(files, weight_file.config)


def bos_of(tokenizer: Any) -> int | None:
    """Return the token that opens every text for this model: whatever its tokenizer puts in front, if anything."""
    bos = tokenizer.bos_token_id
    opening = tokenizer("", add_special_tokens=True)["input_ids"]
    return int(bos) if bos is not None and opening[:1] == [bos] else None


def tokenise(tokenizer: Any, text: str, limit_tokens: int | None = None) -> list[int]:
    """Return the token ids of a text, without special tokens; the first `limit_tokens` of them."""
    # The length is cut into windows below, so the tokenizer's own warning about it does not apply.
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids if limit_tokens is None else ids[:limit_tokens]


def windows_of_file(
    weight_file: WeightFile, path: str | Path, context: int, limit_tokens: int | None = None
) -> Windows:
    """Cut the windows of a text file for this model, BOS in front of each where the model uses one."""
    longest = context_limit(weight_file.config)
    if longest is not None and context > longest:
        raise BadInput(
            "context",
            got=context,
            why=f"the model's positions end at {longest}",
            do=f"use a context of at most {longest}",
        )
    tokenizer = load_tokenizer(weight_file)
    ids, bos = tokenise(tokenizer, read_text(path), limit_tokens), bos_of(tokenizer)
    check_vocabulary(weight_file, ids if bos is None else [bos, *ids])
    return cut(ids, context, bos)


def windows_of_text(
    weight_file: WeightFile, text: FileText, path: str | Path | None, context: int, plan: str = "plan"
) -> Windows:
    """Call `windows_of_file` for the text that a plan names. Raises BadInput where the file holds another, or there is
    none.

    plan: what to call it in the message.
    """
    if path is None or file_text(path).sha256 != text.sha256:
        raise BadInput(
            "text file",
            got=None if path is None else str(path),
            why=f"the {plan} is for {text.name} as it was",
            do=f"give that file, or make a new {plan}",
        )
    return windows_of_file(weight_file, path, context, text.limit_tokens)


def windows_of_calibration(weight_file: WeightFile, tokens: int) -> Windows:
    """Cut windows from the first tokens of the calibration text, sequence by sequence. Raises BadInput where the file
    has no text.
    """
    return from_sequences(weight_file.calibration.token_ids).first(tokens)


def context_limit(config: Mapping[str, Any]) -> int | None:
    """Return how many positions a model has, by its configuration; None where it names no limit."""
    for key in ("max_position_embeddings", "n_positions"):
        if type(stated := config.get(key)) is int:
            return stated
    return None


def check_vocabulary(weight_file: WeightFile, token_ids: Sequence[int]) -> None:
    """Raise BadInput for token ids that the model does not know: the tokenizer is then another model's."""
    highest, known = max(token_ids, default=0), weight_file.vocabulary
    if known is not None and highest >= known:
        raise BadInput(
            "tokenizer",
            got=f"token {highest}",
            why=f"the model in {weight_file.path.name} knows {known} tokens, so this tokenizer is not its own",
            do="export the checkpoint again with the tokenizer that it was trained with",
        )


def windows_of_samples(
    model: Any, spec: SelfText, on_token: Callable[[str, int, int], None] | None = None
) -> Windows:
    """Sample windows from `model`, the digital one, its first token unscored. Equal spec and weights, equal windows.

    on_token(stage, done, total) is called with counts of tokens.
    """
    # late: transformers takes seconds to load, and plans name texts without it
    from aimc_sim.torch_bridge.sampling import sample_tokens

    tokens = sample_tokens(
        model,
        sequences=spec.sequences,
        length=spec.length,
        seed=spec.seed,
        temperature=spec.temperature,
        top_k=spec.top_k,
        progress=on_token,
    )
    return from_sequences(tokens)
