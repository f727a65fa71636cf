"""Reads a GGUF file: dequantised one tensor at a time, with llama.cpp's rearrangements undone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.models.gguf_config import config_from
from aimc_sim.models.gguf_header import GgufHeader, read_header
from aimc_sim.models.tensors import TensorInfo
from aimc_sim.models.tokenizer import gguf_tokenizer_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

F32, F16, BF16 = 0, 1, 30  # ggml type numbers; all others are dequantised to float32
ROPE_TABLES = frozenset({"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"})
TRANSPOSED = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")


class GgufReader:
    """A GGUF reader reads one GGUF file. Raises BadInput when it is truncated,
    malformed or of an unknown architecture.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header: GgufHeader = read_header(path)
        self._architecture = self._header.metadata.get("general.architecture")
        self.files = (path,)
        self.config = config_from(
            self._header, lambda name: [float(x) for x in self._dequantized(name).ravel()]
        )
        if self._duplicated_head():
            self.config["tie_word_embeddings"] = True
        ids = ("bos_token_id", "eos_token_id", "pad_token_id")
        self.generation_config = {name: self.config[name] for name in ids if self.config[name] is not None}
        self._names: dict[str, str] = {}

    def infos(self, model: PreTrainedModel) -> dict[str, TensorInfo]:
        """Return every tensor under its Hugging Face name, in file order;
        rotary tables are part of the configuration.
        """
        to_hf = self._name_map(model)
        infos: dict[str, TensorInfo] = {}
        for name, tensor in sorted(self._header.tensors.items(), key=lambda item: item[1].offset):
            if name in ROPE_TABLES or (name == "output.weight" and self.config["tie_word_embeddings"]):
                continue
            hf_name = to_hf.get(name)
            if hf_name is None:
                raise BadInput(
                    "tensor of the GGUF file",
                    got=name,
                    why=f"a {self._architecture} model has no such one",
                    do="check that the file holds an unmodified language model",
                )
            shape = tensor.shape[::-1] if self._is_transposed(name) else tensor.shape
            kept = self._is_kept(name)
            dtype = {F16: "float16", BF16: "bfloat16"}[tensor.kind] if kept else "float32"
            infos[hf_name] = TensorInfo(shape, dtype)
            self._names[hf_name] = name
        return infos

    def read(self, name: str) -> npt.NDArray[Any]:
        """Return the bits of one tensor: float16 and bfloat16 as stored, everything else as float32."""
        source = self._names[name]
        values = self._raw(source) if self._is_kept(source) else self._dequantized(source)
        if self._architecture == "llama" and (".attn_q." in source or ".attn_k." in source):
            heads = self.config["num_attention_heads" if ".attn_q." in source else "num_key_value_heads"]
            values = unpermute(values, heads)
        if self._architecture == "gemma3" and source.endswith("norm.weight"):
            values = values - np.float32(1)  # llama.cpp stores 1 + w
        return np.ascontiguousarray(values.T) if self._is_transposed(source) else np.ascontiguousarray(values)

    def tokenizer_files(self) -> dict[str, bytes]:
        """Return tokenizer.json and tokenizer_config.json, converted from the vocabulary in the file."""
        length = self.config.get("max_position_embeddings") or self.config["n_positions"]
        return gguf_tokenizer_files(self._path, self._header.metadata, length)

    def _name_map(self, model: PreTrainedModel) -> dict[str, str]:
        from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

        number = next(number for number, name in MODEL_ARCH_NAMES.items() if name == self._architecture)
        table = get_tensor_name_map(number, model.config.num_hidden_layers)
        names = {}
        for name in model.state_dict():
            base, dot, suffix = name.rpartition(".")
            stem = table.get_name(base)
            if stem is not None:
                names[stem + dot + suffix] = name
        return names

    def _is_kept(self, name: str) -> bool:
        """Half-precision tensors stay as they are, unless arithmetic on them needs float32."""
        is_shifted = self._architecture == "gemma3" and name.endswith("norm.weight")
        return self._header.tensors[name].kind in (F16, BF16) and not is_shifted

    def _is_transposed(self, name: str) -> bool:
        return self._architecture == "gpt2" and name.endswith(TRANSPOSED)

    def _duplicated_head(self) -> bool:
        """Some converters write a tied head a second time."""
        head, embedding = (self._header.tensors.get(name) for name in ("output.weight", "token_embd.weight"))
        if head is None or embedding is None or (head.kind, head.shape) != (embedding.kind, embedding.shape):
            return False
        return np.array_equal(self._bytes("output.weight"), self._bytes("token_embd.weight"))

    def _bytes(self, name: str) -> npt.NDArray[np.uint8]:
        tensor = self._header.tensors[name]
        return np.fromfile(self._path, np.uint8, tensor.nbytes, offset=tensor.offset)

    def _raw(self, name: str) -> npt.NDArray[Any]:
        tensor = self._header.tensors[name]
        return self._bytes(name).view("<f2" if tensor.kind == F16 else "<u2").reshape(tensor.shape)

    def _dequantized(self, name: str) -> npt.NDArray[np.float32]:
        from gguf import GGMLQuantizationType, dequantize

        tensor = self._header.tensors[name]
        rows = self._bytes(name).reshape(-1, tensor.nbytes // max(1, int(np.prod(tensor.shape[:-1]))))
        try:
            values = dequantize(rows, GGMLQuantizationType(tensor.kind))
        except NotImplementedError:
            raise BadInput(
                f"format of {name}",
                got=GGMLQuantizationType(tensor.kind).name,
                why="the gguf package cannot dequantise it",
                do="use a file in F16, BF16, Q8_0, Q4_K or another common format",
            ) from None
        return np.asarray(values, np.float32).reshape(tensor.shape)


def unpermute(weights: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Undo llama.cpp's interleaving of the two rotary halves of each head. weights: (heads * head_dim, ...)."""
    half = weights.shape[0] // heads // 2
    return weights.reshape(heads, half, 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)
