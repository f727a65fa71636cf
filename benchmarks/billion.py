"""How much memory does a model of a billion parameters take, from checkpoint to generated text?

    python -m benchmarks.billion [--layers N] [--hardware NAME] [--folder DIR] [--json]

Random weights in the shapes of Llama-3.2-1B, bfloat16, are written shard by shard, exported (with 1,024 tokens that the
model writes itself), programmed (with calibration of the converters, as a first programming does) and run for 64
tokens, each in a process of its own. Peak: VmHWM of that process, so everything that was in its memory at once, the
mapped pages of files included. Rival: none does this; goal: 6 GB (10⁹ bytes) in every step. It needs 5 GB of disk, in
DIR or the system's folder for temporary files, and removes what it wrote.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.kernels import normal
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.parallel import run_blocks
from aimc_sim.randomness import key_of
from benchmarks.harness import Row, command_line, machine, missed, python, show

GOAL_GB = 6.0
TOKENS, CALIBRATION_TOKENS = 64, 1024
SEED, DAY = 1, 86_400.0
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_act": "silu",
    "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5,
    "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True, "initializer_range": 0.02,
    "bos_token_id": 128_000, "eos_token_id": 128_001, "rope_theta": 500_000.0,
    "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 8192},
}  # fmt: skip
SMALL = {
    "vocab_size": 130, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "head_dim": 8,
    "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SMALLEST = {"CONFIG": CONFIG | SMALL, "TOKENS": 4, "CALIBRATION_TOKENS": 64}
CHUNK = 1 << 22  # weights made at a time
LAYERS_PER_SHARD = 4


# -- the checkpoint ---------------------------------------------------------------------------------------------------


@njit
def _fill(out: Any, first: Any, ordinal: Any, k0: Any, k1: Any, words: Any, lanes: Any) -> None:
    for at in range(0, out.size, normal.CHUNK):
        n = min(normal.CHUNK, out.size - at)
        normal.fill_normals(
            out[at : at + n], at, n, np.uint32(first >> 2), np.uint32(ordinal), np.uint32(0), np.uint32(0), k0, k1,
            words, lanes)  # fmt: skip


def chunks(ordinal: int, shape: tuple[int, ...]) -> Iterator[npt.NDArray[np.float32]]:
    """Weights of one tensor, piece by piece: normals of standard deviation 1/√K, keyed by the tensor; norms are one."""
    size = int(np.prod(shape))
    if len(shape) == 1:
        yield np.ones(size, np.float32)
        return
    key, deviation = key_of(SEED), np.float32(shape[1] ** -0.5)
    for start in range(0, size, CHUNK):
        out = np.empty(min(CHUNK, size - start), np.float32)

        def part(a: int, b: int, out: Any = out, start: int = start) -> None:
            words = np.empty((4, normal.GROUPS), np.uint32)
            lanes = np.empty((4, normal.GROUPS), np.float32)
            _fill(out[a:b], start + a, ordinal, key[0], key[1], words, lanes)

        run_blocks(part, out.size, 1 << 18)
        out *= deviation
        yield out


def shapes(layers: int, config: dict[str, Any] | None = None) -> list[dict[str, tuple[int, ...]]]:
    """Tensors of each shard, as Hugging Face names them: (N, K). config: of a Llama with a tied head, or CONFIG."""
    config = CONFIG if config is None else config
    h, i, v = (config[key] for key in ("hidden_size", "intermediate_size", "vocab_size"))
    kv = config["num_key_value_heads"] * config["head_dim"]
    shards: list[dict[str, tuple[int, ...]]] = [{"model.embed_tokens.weight": (v, h)}]
    for first in range(0, layers, LAYERS_PER_SHARD):
        shard: dict[str, tuple[int, ...]] = {}
        for layer in range(first, min(first + LAYERS_PER_SHARD, layers)):
            parts = {"self_attn.q_proj": (h, h), "self_attn.k_proj": (kv, h), "self_attn.v_proj": (kv, h),
                     "self_attn.o_proj": (h, h), "mlp.gate_proj": (i, h), "mlp.up_proj": (i, h),
                     "mlp.down_proj": (h, i), "input_layernorm": (h,), "post_attention_layernorm": (h,)}  # fmt: skip
            shard |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in parts.items()}
        shards.append(shard)
    shards[-1]["model.norm.weight"] = (h,)
    return shards


def build(folder: Path, layers: int, config: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write the checkpoint as a Hugging Face folder, with a few million weights in memory at a time."""
    import torch

    folder.mkdir()
    config = CONFIG if config is None else config
    shards, weight_map, ordinal = shapes(layers, config), {}, 0
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        header, offset = {}, 0
        for tensor, shape in shard.items():
            stop = offset + 2 * int(np.prod(shape))
            header[tensor] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, stop]}
            weight_map[tensor], offset = name, stop
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / name).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for shape in shard.values():
                for values in chunks(ordinal, shape):
                    file.write(torch.from_numpy(values).bfloat16().view(torch.uint16).numpy().data)
                ordinal += 1
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    return {"parameters": sum(int(np.prod(shape)) for shard in shards for shape in shard.values())}


# -- the steps, each in a process of its own ----------------------------------------------------------------------


@contextmanager
def fresh_ranges(folder: Path) -> Iterator[None]:
    """Keep converter ranges in this folder: an earlier run's would hide what a first programming takes."""
    from aimc_sim.calibrate import cache

    usual, cache.cache_folder = cache.cache_folder, lambda: folder / "ranges"
    try:
        yield
    finally:
        cache.cache_folder = usual


def step(name: str, folder: Path, layers: int, hardware: str) -> dict[str, Any]:
    """Run one step here; what it found, its seconds without imports, and the peak of this process in bytes."""
    with fresh_ranges(folder):
        return _step(name, folder, layers, hardware)


def _step(name: str, folder: Path, layers: int, hardware: str) -> dict[str, Any]:
    from aimc_sim import WeightFile, export, program
    from aimc_sim.torch_bridge import load_model

    start = time.perf_counter()
    if name == "build":
        found = build(folder / "checkpoint", layers)
    elif name == "export":
        file = export(
            folder / "checkpoint", folder / "model.h5", hardware, calibration_tokens=CALIBRATION_TOKENS
        )
        found = {"file_bytes": file.path.stat().st_size}
    elif name == "program":
        file = WeightFile(folder / "model.h5")
        chip = program(file, SEED)
        found = {"calibrate_s": time.perf_counter() - start}
        state = chip.at(DAY)
        held = [state.tiles(matrix.name) for matrix in file.matrices]
        weights = sum(matrix.rows * matrix.cols for matrix in file.matrices)
        found |= {"analog_weights": weights, "bytes_per_weight": sum(t.nbytes for t in held) / weights}
    else:
        import torch

        model = load_model(folder / "model.h5", seed=SEED, time=DAY)
        loaded = time.perf_counter()
        begin = torch.tensor([[CONFIG["bos_token_id"]]])
        options = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": False, "pad_token_id": 0}
        out = model.generate(begin, attention_mask=torch.ones_like(begin), **options)
        rate = TOKENS / (time.perf_counter() - loaded)
        found = {"load_s": loaded - start, "tokens": out.shape[1] - 1, "tokens_per_s": rate}
    return {"step": name, "seconds": time.perf_counter() - start, "peak_bytes": peak_bytes(), **found}


def peak_bytes() -> int:
    """The most memory that this process has had at once, mapped pages of files included."""
    (peak,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(peak) * 1024


def measure(layers: int, hardware: str, parent: str | None, smoke: bool = False) -> list[dict[str, Any]]:
    """Every step in turn, in a folder that is removed afterwards."""
    found = []
    with tempfile.TemporaryDirectory(prefix="aimc-billion-", dir=parent) as folder:
        for name in ("build", "export", "program", "run"):
            words = ["--step", name, "--folder", folder, "--layers", str(layers), "--hardware", hardware]
            done = python("benchmarks.billion", [*words, *["--smoke"] * smoke])
            if done.returncode:
                sys.exit(done.stderr)
            found.append(json.loads(done.stdout) | {"goal_bytes": GOAL_GB * 1e9})
    return found


def rows(found: list[dict[str, Any]]) -> list[Row]:
    """The table: peak and seconds of each step, and what it found."""
    table = []
    for item in found:
        table.append(Row(f"{item['step']}: peak memory", item["peak_bytes"] / 1e9, "GB", GOAL_GB))
        table.append(Row("    time", item["seconds"], "s"))
        details = {"parameters": (1e-9, "10⁹ parameters"), "file_bytes": (1e-9, "GB of weight file"),
                   "calibrate_s": (1, "s of that calibration"), "bytes_per_weight": (1, "bytes an analog weight"),
                   "load_s": (1, "s of that programming"), "tokens_per_s": (1, "tokens/s")}  # fmt: skip
        goals = {"bytes_per_weight": 2.5}
        for key, (factor, unit) in details.items():
            if key in item:
                table.append(Row("    ", item[key] * factor, unit, goals.get(key)))
    return table


def main() -> None:
    """Print the table, or JSON with --json; exit 1 when a goal is missed."""
    parser = command_line(__doc__ or "", globals())
    parser.add_argument("--layers", type=int, default=CONFIG["num_hidden_layers"], help="fewer: a trial")
    parser.add_argument("--hardware", default="hermes-256", help="a preset, or a TOML file")
    parser.add_argument("--folder", help="where the files go meanwhile")
    parser.add_argument("--json", action="store_true", help="print a list with one object a step")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(options.step, Path(options.folder), options.layers, options.hardware)))
        return
    found = measure(options.layers, options.hardware, options.folder, options.smoke)
    table = rows(found)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(machine())
        show((__doc__ or "").splitlines()[0], table)
    if missed(table):
        sys.exit(1)


if __name__ == "__main__":
    main()
