"""Reads a Hugging Face folder: config.json and safetensors, in one file or in shards with an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.models.families import model_type
from aimc_sim.models.tensors import RECOMPUTED, TensorInfo
from aimc_sim.models.tokenizer import TOKENIZER_FILES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ANALOG = "analog.json"  # what training for a chip leaves beside the weights
ADAPTER = "adapter"  # the same where an adapter was trained, as peft writes it
DTYPES = {"F32": ("float32", "<f4"), "F16": ("float16", "<f2"), "BF16": ("bfloat16", "<u2")}
_AGAIN = "download the checkpoint again"


class Place(NamedTuple):
    """A place says where a tensor lies in a safetensors file: the byte at which its data begins, and what it is."""

    file: Path
    offset: int
    info: TensorInfo


class FolderReader:
    """A folder reader reads a folder as ``save_pretrained`` writes it.
    Raises BadInput when it is incomplete or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.config = read_json(folder / "config.json", required=True)
        self.generation_config = read_json(folder / "generation_config.json", required=False)
        model_type(self.config)  # before the weights: another architecture is no use with them either
        self.files, self._places = _locate(folder)

    def infos(self, model: PreTrainedModel) -> dict[str, TensorInfo]:
        """Return every stored tensor, in file order."""
        return {name: place.info for name, place in self._places.items()}

    def read(self, name: str) -> npt.NDArray[Any]:
        """Return the bits of one tensor, read rather than mapped, so that memory holds one at a time."""
        return read_bits(self._places[name])

    def ranges(self) -> dict[str, list[float]]:
        """Return the learned input ranges by matrix name, as training for a chip wrote them; empty elsewhere."""
        stated = read_json(self._folder / ANALOG, required=False).get("ranges", {})
        numbers = isinstance(stated, dict) and all(
            isinstance(values, list) and all(isinstance(value, (int, float)) for value in values)
            for values in stated.values()
        )
        if not numbers:
            raise BadInput(
                str(self._folder / ANALOG),
                why="its ranges are no table of lists of numbers",
                do="remove the file, or train again",
            )
        return dict(stated)

    def adapter(self) -> Path | None:
        """Return where the low-rank adapter lies that was trained beside these weights; None where there is none."""
        folder = self._folder / ADAPTER
        return folder if (self._folder / ANALOG).is_file() and folder.is_dir() else None

    def tokenizer_files(self) -> dict[str, bytes]:
        """Return the tokenizer's files, byte for byte."""
        paths = (self._folder / name for name in TOKENIZER_FILES)
        return {path.name: path.read_bytes() for path in paths if path.is_file()}


def read_bits(place: Place) -> npt.NDArray[Any]:
    """Return the bits of one tensor; bfloat16 as uint16."""
    code = next(code for label, code in DTYPES.values() if label == place.info.dtype)
    count = int(np.prod(place.info.shape, dtype=np.int64))
    return np.fromfile(place.file, dtype=code, count=count, offset=place.offset).reshape(place.info.shape)


def _locate(folder: Path) -> tuple[tuple[Path, ...], dict[str, Place]]:
    if (folder / INDEX).is_file():
        weight_map = read_json(folder / INDEX, required=True).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise BadInput(str(folder / INDEX), why="it has no weight_map", do=_AGAIN)
        names = sorted({str(name) for name in weight_map.values()})
    elif (folder / SINGLE).is_file():
        weight_map, names = None, [SINGLE]
    else:
        others = sorted(path.name for pattern in ("*.bin", "*.pth", "*.pt") for path in folder.glob(pattern))
        why = (
            f"there is only {others[0]}, a pickle, which could run code when opened"
            if others
            else "there are no weights in it"
        )
        raise BadInput(
            "checkpoint",
            got=str(folder),
            why=why,
            do=f"provide {SINGLE}, or its shards with {INDEX}",
        )
    places: dict[str, Place] = {}
    for name in names:
        check_shard_name(name, folder / INDEX)
        for tensor, place in read_header(folder / name).items():
            # A shard may hold more than the index says; the index decides.
            if weight_map is None or weight_map.get(tensor) == name:
                places[tensor] = place
    absent = [tensor for tensor in weight_map or () if tensor not in places and not RECOMPUTED.search(tensor)]
    if absent:
        raise BadInput(
            f"{weight_map[absent[0]] if weight_map else SINGLE}",
            got=absent[0],
            why="the index promises this tensor, the shard does not hold it",
            do=_AGAIN,
        )
    return tuple(folder / name for name in names), places


def read_header(path: Path) -> dict[str, Place]:
    """Return where each tensor lies. The library checks the header against the file's size; we read only its facts."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise BadInput(
            "checkpoint", got=str(path), why="the index names this shard, and it is missing", do=_AGAIN
        )
    try:
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(
            "checkpoint", got=str(path), why=f"the file is truncated or damaged ({error})", do=_AGAIN
        ) from None
    header.pop("__metadata__", None)
    places = {}
    for name, item in header.items():
        if item["dtype"] not in DTYPES:
            if RECOMPUTED.search(name):
                continue  # GPT-2's causal masks, stored as booleans
            raise BadInput(
                f"dtype of {name}",
                got=item["dtype"],
                why=f"{path.name} stores it in a format other than float32, float16 and bfloat16",
                do="convert the checkpoint to one of these",
            )
        info = TensorInfo(tuple(item["shape"]), DTYPES[item["dtype"]][0])
        places[name] = Place(path, 8 + length + item["data_offsets"][0], info)
    return dict(sorted(places.items(), key=lambda pair: pair[1].offset))


def check_shard_name(name: str, index: Path) -> None:
    """Raise BadInput where an index names a shard outside the checkpoint's folder."""
    if Path(name).name != name:
        raise BadInput(str(index), got=name, why="a shard must lie in the checkpoint's own folder", do=_AGAIN)


def read_json(path: Path, *, required: bool) -> dict[str, Any]:
    if not path.is_file():
        if required:
            raise BadInput(
                "checkpoint",
                got=str(path.parent),
                why=f"it has no {path.name}",
                do="pass a folder as save_pretrained writes it",
            )
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput(str(path), why=f"it is not valid JSON ({error})", do=_AGAIN) from None
    if not isinstance(value, dict):
        raise BadInput(str(path), got=type(value).__name__, why="it must hold a JSON object", do=_AGAIN)
    return value
