"""Tokenizers as the bytes of their files: stored in a weight file, rebuilt from it, repaired when they come by GGUF."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.errors import BadInput
from aimc_sim.models.families import without_code

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
)
# llama.cpp's names of vocabularies whose text is cut at every single digit before anything else. transformers
# builds them without that step, so that a run of spaces before a digit merges differently than in training.
DIGIT_SPLITTERS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell"})


def load_tokenizer(
    files: Mapping[str, bytes], config: Mapping[str, Any] | None = None
) -> PreTrainedTokenizerBase:
    """Load the transformers tokenizer of stored files. config: the model's, where the class depends on it.

    >>> from aimc_sim.models import load_tokenizer, open_checkpoint
    >>> tokenizer = load_tokenizer(open_checkpoint("model/").tokenizer_files)
    >>> tokenizer.decode(tokenizer("a tile", add_special_tokens=False)["input_ids"])
    'a tile'
    """
    from transformers import AutoTokenizer

    if not files:
        raise BadInput(
            "tokenizer",
            why="the checkpoint came without one",
            do="export it from a folder that holds tokenizer.json, or work with token ids",
        )
    with tempfile.TemporaryDirectory(prefix="aimc-tokenizer-") as folder:
        for name, data in files.items():
            if Path(name).name != name or name == "config.json":
                raise BadInput(
                    "tokenizer file", got=name, why="it must be a plain file name", do="export the file again"
                )
            (Path(folder) / name).write_bytes(data)
        if config is not None:
            (Path(folder) / "config.json").write_text(
                json.dumps(without_code(dict(config))), encoding="utf-8"
            )
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        # A damaged file makes transformers and tokenizers raise almost anything.
        except Exception as error:
            raise BadInput(
                "tokenizer",
                why=f"transformers cannot load it ({error})",
                do="check the checkpoint's tokenizer files",
            ) from error


def gguf_tokenizer_files(path: Path, metadata: Mapping[str, Any], context_length: int) -> dict[str, bytes]:
    """Convert a GGUF's vocabulary to tokenizer.json and tokenizer_config.json, digit splitter included.

    metadata: the file's key-value pairs. context_length: tokens, becomes model_max_length.
    """
    if "tokenizer.ggml.tokens" not in metadata:
        return {}
    from transformers import PreTrainedTokenizerFast

    try:
        # Not AutoTokenizer: it parses the whole file once more to find this same class.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(
            str(path.parent), gguf_file=path.name, local_files_only=True
        )
    except Exception as error:
        raise BadInput(
            "tokenizer of the GGUF file",
            got=metadata.get("tokenizer.ggml.model"),
            why=f"transformers cannot convert it ({error})",
            do="export from a Hugging Face folder instead",
        ) from error
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    if metadata.get("tokenizer.ggml.pre") in DIGIT_SPLITTERS:
        data["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        }
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
    }
    for role in ("bos", "eos", "unk", "pad"):
        token = getattr(tokenizer, f"{role}_token")
        if token is not None:
            config[f"{role}_token"] = token
    if metadata.get("tokenizer.chat_template"):
        config["chat_template"] = metadata["tokenizer.chat_template"]
    return {
        "tokenizer.json": json.dumps(data, ensure_ascii=False).encode(),
        "tokenizer_config.json": json.dumps(config, ensure_ascii=False, sort_keys=True).encode(),
    }
