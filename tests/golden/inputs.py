"""What golden values are values of: keyed numbers, a small checkpoint, and commands as a user gives them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim import Hardware
from aimc_sim.kernels.normal import normals
from aimc_sim.kernels.philox import philox4x32

F32 = npt.NDArray[np.float32]
HERE = Path(__file__).parent
HARDWARE = HERE / "hardware"
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 258, "hidden_size": 48,
    "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128, "bos_token_id": 256, "eos_token_id": 257, "tie_word_embeddings": True,
    "hidden_act": "silu", "rms_norm_eps": 1e-6, "attention_bias": False, "mlp_bias": False, "torch_dtype": "float32",
    "rope_theta": 10000.0,
}  # fmt: skip


def counters(calls: int, what: int) -> npt.NDArray[np.uint32]:
    """(calls, 4) counters of our own, ``what`` in word 1."""
    counter = np.zeros((calls, 4), np.uint32)
    counter[:, 0], counter[:, 1] = np.arange(calls), what
    return counter


def key(seed: int) -> npt.NDArray[np.uint32]:
    """The key of a small seed."""
    return np.array([seed, 0], np.uint32)


def values(*shape: int, seed: int, what: int = 0) -> F32:
    """Standard normals of that shape, float32."""
    count = int(np.prod(shape))
    return normals(counters(-(-count // 4), what), key(seed)).ravel()[:count].reshape(shape).copy()


def token_ids(sequences: int, length: int, seed: int = 5) -> npt.NDArray[np.int64]:
    """(sequences, length) bytes as token ids, BOS first."""
    count = sequences * length
    words = philox4x32(counters(-(-count // 4), 99), key(seed)).ravel()[:count]
    ids = (words % 256).astype(np.int64).reshape(sequences, length)
    ids[:, 0] = 256
    return ids


def tensors() -> dict[str, F32]:
    """The weights of the checkpoint, by name: norms of one, the rest normal."""
    hidden, inner, kv = CONFIG["hidden_size"], CONFIG["intermediate_size"], 24
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (CONFIG["vocab_size"], hidden)}
    for layer in range(CONFIG["num_hidden_layers"]):
        within = f"model.layers.{layer}"
        shapes |= {
            f"{within}.input_layernorm.weight": (hidden,),
            f"{within}.self_attn.q_proj.weight": (hidden, hidden),
            f"{within}.self_attn.k_proj.weight": (kv, hidden),
            f"{within}.self_attn.v_proj.weight": (kv, hidden),
            f"{within}.self_attn.o_proj.weight": (hidden, hidden),
            f"{within}.post_attention_layernorm.weight": (hidden,),
            f"{within}.mlp.gate_proj.weight": (inner, hidden),
            f"{within}.mlp.up_proj.weight": (inner, hidden),
            f"{within}.mlp.down_proj.weight": (hidden, inner),
        }
    shapes["model.norm.weight"] = (hidden,)
    found = {}
    for ordinal, (name, shape) in enumerate(shapes.items()):
        if len(shape) == 1:
            found[name] = np.ones(shape, np.float32)
            continue
        scale = np.float32((0.5 if "embed" in name else 1.0) / shape[1] ** 0.5)
        found[name] = values(*shape, seed=1, what=ordinal) * scale
    return found


def write_checkpoint(folder: Path, tokenizer: dict[str, bytes]) -> Path:
    """A two-layer Llama as a Hugging Face folder, with these files of a tokenizer."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1), encoding="utf-8")
    for name, data in tokenizer.items():
        (folder / name).write_bytes(data)
    return folder


def hardware_files() -> list[Path]:
    """The golden hardware files."""
    return sorted(HARDWARE.glob("*.toml"))


def hardware(name: str) -> Hardware:
    """One of them."""
    return Hardware.load(HARDWARE / f"{name}.toml")


def written(chip: Hardware) -> str:
    """What `Hardware.to_toml` writes, the folder of a fault map aside."""
    return chip.to_toml().replace(json.dumps(str(HARDWARE))[1:-1], "FOLDER")


def sha256(array: npt.NDArray[Any]) -> str:
    """Hex digest of an array's bytes, little-endian."""
    data = np.ascontiguousarray(array)
    return hashlib.sha256(data.astype(data.dtype.newbyteorder("<"), copy=False).tobytes()).hexdigest()


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder, so that commands name files by their names alone."""
    with contextlib.chdir(folder) if hasattr(contextlib, "chdir") else _chdir(folder):
        yield


@contextlib.contextmanager
def _chdir(folder: Path) -> Iterator[None]:
    import os

    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def command(*args: object) -> Any:
    """The result of a command line, run in this process."""
    from typer.testing import CliRunner

    from aimc_sim.cli.app import app

    return CliRunner().invoke(app, [str(arg) for arg in args])


SIGNOFF = (
    "signoff", "weights.h5", "--hardware", "hardware/wired.toml", "--chips", 3, "--times", "1m,1y", "--margin", 0.4,
    "--sequences", 4, "--length", 12, "--workers", 1,
)  # fmt: skip
SWEEP = (
    "size", "weights.h5", "--rows", "32,64", "--adc-bits", "5:7", "--metric", "sqnr", "--assumed", "--workers", 1,
)  # fmt: skip
PLANS: dict[str, tuple[object, ...]] = {
    "the stored study": SIGNOFF,
    "defaults": ("signoff", "weights.h5", "--margin", 0.5),
    "a text and looks": (
        "signoff", "weights.h5", "--text", "hardware/faults.csv", "--context", 32, "--margin", 0.1, "--metric", "loss",
        "--chips", 8, "--looks", "3,5,8", "--times", "0s,1d", "--seed", 7, "--alpha", 0.05,
    ),
    "several devices": (
        "signoff", "weights.h5", "--device", "pcm-hermes-2,pcm-ibm2019", "--margin", 0.3, "--times", "1d",
        "--threads", 2, "--session", 4,
    ),
}  # fmt: skip
