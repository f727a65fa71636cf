"""Reads an analog checkpoint of aihwkit-lightning: a Hugging Face folder of ``pytorch_model*.bin`` with learned ranges.

So IBM publishes its Analog Foundation Models (Büchel et al., NeurIPS 2025; ibm-aimc/analog-Phi-3-mini-4k-instruct and
ibm-aimc/analog-Llama-3.2-1B-Instruct): beside config.json and tokenizer lie the state dict, in one file or in shards,
and ``rpu_config``, a pickle by dill. A layer's keys are those of aihwkit-lightning 2.1.0, nn/modules/base.py:

    NAME.weight (N, K)   NAME.bias (N,)   NAME.input_range (row tiles,)   NAME.input_range_update_idx, .x_min, .x_max

Only tensors are read, by torch's loader that runs no code (``weights_only=True``). ``rpu_config`` is never opened: what
it would say comes from our own preset (`PRESETS`). A state dict that was saved as it came carries a copy of it as
metadata; its classes are replaced by empty ones, and what was made of them is dropped.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F32
from aimc_sim.errors import BadInput
from aimc_sim.models.families import HEAD, model_type
from aimc_sim.models.hf_folder import INDEX as SAFE_INDEX
from aimc_sim.models.hf_folder import SINGLE as SAFE_SINGLE
from aimc_sim.models.hf_folder import check_shard_name, read_json
from aimc_sim.models.tensors import TensorInfo
from aimc_sim.models.tokenizer import TOKENIZER_FILES

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SINGLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
PRESETS = {"llama": "afm-llama", "phi3": "afm-phi3"}  # model_type → the hardware of its analog release
RANGE = "input_range"
# of the ranges' beginning
BOOKKEEPING = frozenset({"input_range_update_idx", "input_range_delta", "x_min", "x_max"})
CLIP = "learnable_weight_clip"
CONFIG_CLASSES = "aihwkit_lightning.simulator."  # of the configuration in a state dict's metadata
_SHARD = re.compile(r"pytorch_model-(\d{5})-of-(\d{5})\.bin")
_DTYPES = {"torch.float32": "float32", "torch.float16": "float16", "torch.bfloat16": "bfloat16"}
_SAFE = "save it again as safetensors (model.save_pretrained)"
_AGAIN = "download the checkpoint again"


class _Empty:
    """An empty object stands for any class of the configuration:
    takes whatever it is given and does nothing with it.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        return

    def __setstate__(self, state: Any) -> None:
        return


class AnalogReader:
    """A folder with ``pytorch_model*.bin`` and ranges. Raises BadInput when it is incomplete, damaged or digital."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.config = read_json(folder / "config.json", required=True)
        self.generation_config = read_json(folder / "generation_config.json", required=False)
        self.preset = PRESETS.get(model_type(self.config))
        self.files = _shards(folder)
        self._tensors: dict[str, torch.Tensor] = {}
        for path in self.files:
            self._tensors.update(load_tensors(path))
        _refuse_others(self._tensors)
        self._ranges = ranges_in(self._tensors)
        if not self._ranges:
            raise BadInput(
                "checkpoint",
                got=str(folder),
                why=f"there is only {self.files[0].name}, a pickle, and it holds no analog ranges ({RANGE})",
                do=_SAFE,
            )
        if HEAD in self._ranges:  # a matrix of its own, whatever the digital model that it came from did
            self.config = {**self.config, "tie_word_embeddings": False}

    def infos(self, model: PreTrainedModel) -> dict[str, TensorInfo]:
        """Return weights, biases and digital tensors, in file order."""
        return {
            name: TensorInfo(tuple(value.shape), _dtype(name, value))
            for name, value in self._tensors.items()
            if name.rpartition(".")[2] not in {RANGE, *BOOKKEEPING}
        }

    def read(self, name: str) -> npt.NDArray[Any]:
        """Return the bits of one tensor."""
        import torch

        value = self._tensors[name].detach().contiguous()
        bits: npt.NDArray[Any] = (
            value.view(torch.int16).numpy().view(np.uint16)
            if value.dtype == torch.bfloat16
            else value.numpy()
        )
        return bits.copy()  # read rather than mapped, as from every checkpoint

    def ranges(self) -> dict[str, F32]:
        """Return the learned input ranges by matrix name, (row tiles,) float32."""
        return dict(self._ranges)

    def tokenizer_files(self) -> dict[str, bytes]:
        """Return the tokenizer's files, byte for byte."""
        paths = (self._folder / name for name in TOKENIZER_FILES)
        return {path.name: path.read_bytes() for path in paths if path.is_file()}


def is_analog_folder(folder: Path) -> bool:
    """Return whether the only weights in a folder are ``pytorch_model*.bin``."""
    safe = (folder / SAFE_INDEX).is_file() or (folder / SAFE_SINGLE).is_file()
    return not safe and any(folder.glob("pytorch_model*.bin"))


def ranges_in(state: Mapping[str, torch.Tensor]) -> dict[str, F32]:
    """Return the learned input ranges of a state dict with aihwkit-lightning's names: matrix → β (row tiles,) float32.

    Raises BadInput for a range that is not a list of finite numbers above 0.
    """
    import torch

    betas: dict[str, F32] = {}
    for key, value in state.items():
        name, _, leaf = key.rpartition(".")
        if leaf != RANGE:
            continue
        if value.ndim != 1 or not 0 < value.numel() <= 1 << 16 or not value.is_floating_point():
            raise BadInput(
                key,
                got=(tuple(value.shape), str(value.dtype)),
                why="it must hold one number a row tile",
                do=_AGAIN,
            )
        beta = value.detach().to(torch.float32).cpu().numpy().copy()
        if not (np.isfinite(beta) & (beta > 0)).all():
            raise BadInput(
                key,
                got=[float(item) for item in beta[:4]],
                why="an input range must be finite and above 0",
                do="repair the checkpoint; training has probably diverged",
            )
        betas[name] = beta
    return betas


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file that ``torch.save`` wrote, mapped where possible.
    No code in it runs; else BadInput.
    """
    import torch

    try:
        mapped = zipfile.is_zipfile(path)
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path) if mapped else []
        empty: list[Any] = [_empty_class(name) for name in named if name.startswith(CONFIG_CLASSES)]
        with warnings.catch_warnings(), torch.serialization.safe_globals(empty):
            warnings.simplefilter("ignore")  # about pickle protocols
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    # A damaged pickle makes the loader raise almost anything, none of it by code of the file.
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError,
            AttributeError, IndexError, zipfile.BadZipFile) as error:  # fmt: skip
        raise BadInput(
            "checkpoint",
            got=str(path),
            why="it is a pickle that is damaged or holds more than tensors, which could run code "
            f"({_summarise_refusal(error)})",
            do=f"{_AGAIN}, or {_SAFE}",
        ) from None
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided
        for key, value in state.items()
    ):
        raise BadInput("checkpoint", got=str(path), why="it is no table of tensors by name", do=_SAFE)
    return dict(state)


def _empty_class(name: str) -> type:
    """Return a class under the name of one of the configuration's, which a state dict's metadata may hold."""
    module, _, leaf = name.rpartition(".")
    return type(leaf, (_Empty,), {"__module__": module})


def _summarise_refusal(error: Exception) -> str:
    """Return what the loader refused, in a line without its advice to trust the file."""
    text = str(error).strip()
    named = re.search(r"GLOBAL (\S+)", text)
    return named[1] if named else text.partition("\n")[0].partition(". ")[0]


def _shards(folder: Path) -> tuple[Path, ...]:
    """Return the files with weights: those of the index; without one, a complete series of shards,
    or the single file.
    """
    if (folder / INDEX).is_file():
        weight_map = read_json(folder / INDEX, required=True).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise BadInput(str(folder / INDEX), why="it has no weight_map", do=_AGAIN)
        names = sorted({str(name) for name in weight_map.values()})
    elif (folder / SINGLE).is_file():
        names = [SINGLE]
    else:
        numbers = [
            match for path in folder.glob("pytorch_model-*.bin") if (match := _SHARD.fullmatch(path.name))
        ]
        if not numbers:
            raise BadInput("checkpoint", got=str(folder), why=f"there is no {SINGLE} in it", do=_AGAIN)
        count = max(int(match[2]) for match in numbers)
        names = [f"pytorch_model-{part + 1:05}-of-{count:05}.bin" for part in range(count)]
    for name in names:
        check_shard_name(name, folder / INDEX)
        if not (folder / name).is_file():
            raise BadInput("checkpoint", got=name, why="this shard is missing", do=_AGAIN)
    return tuple(folder / name for name in names)


def _refuse_others(state: Mapping[str, torch.Tensor]) -> None:
    """Raise BadInput for what the weights alone do not say: scales of aihwkit's tiles, and learned clipping."""
    for key in state:
        if ".analog_module." in key or "analog_tile_state" in key:
            raise BadInput(
                "checkpoint",
                got=key,
                why="aihwkit saved it, whose tiles hold rescaled weights",
                do="turn it into a digital model there (convert_to_digital) and save that as safetensors",
            )
        if key.rpartition(".")[2] == CLIP:
            raise BadInput(
                "checkpoint",
                got=key,
                why="its weights are clipped by learned bounds in every forward",
                do="make the clipping final in aihwkit-lightning (quantize_weights) and save it again",
            )


def _dtype(name: str, value: torch.Tensor) -> str:
    dtype = _DTYPES.get(str(value.dtype))
    if dtype is None:
        raise BadInput(
            f"dtype of {name}",
            got=str(value.dtype),
            why="it is stored in a format other than float32, float16 and bfloat16",
            do="convert the checkpoint to one of these",
        )
    return dtype
