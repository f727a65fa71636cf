"""Compiles every kernel for a GPU, which needs none: prints {kernel: float operations of its PTX and its SASS} as JSON.

A program of its own, because kernels are compiled or interpreted for the whole life of a process.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import probe
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from aimc_sim.kernels.triton import (
    conductance,
    converters,
    normal,
    philox,
    tile_product,
    training,
)
from aimc_sim.kernels.triton._launch import OPTIONS

POINTERS = {
    "x": "*fp32", "w": "*fp32", "out": "*fp32", "beta": "*fp32", "peak": "*fp32", "effective": "*fp32",
    "total": "*fp32", "column_max": "*fp32", "device": "*fp32", "inverse": "*fp32", "scale": "*fp32",
    "counter": "*i32", "key": "*i32", "sites": "*i32", "site": "*i32", "sums": "*i32",
    "bounds": "*i64", "before": "*i64", "after": "*i64",
    "steps": "*i8", "variance_scale": "*fp32", "row_ids": "*i64", "word": "*i32",
    "codes": "*i8", "high": "*i8", "low": "*i8", "levels": "fp32", "gamma": "fp32",
}  # fmt: skip
NORMALS = {"BLOCK": 128}
CELLS = {"WEIGHT_DOMAIN": False, "DRIFT_LAW": 1, "FLICKER_LAW": 1, "HAS_LOG": True, "HAS_EXP": True,
         "READOUT": True, "TOTAL": True, "GROUPS": 64}  # fmt: skip


@triton.jit
def carelessly(x: tl.tensor, out: tl.tensor) -> None:
    """What the search must find: a division that is not rounded to nearest, and a product that could fuse."""
    at = tl.arange(0, 128)
    value = tl.load(x + at)
    tl.store(out + at, value * value + value / (value + 3.0))


def kernels() -> dict[str, tuple[Any, dict[str, Any], dict[str, Any]]]:
    """Name → (kernel, its constants, options)."""
    found: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
        "polynomials": (probe.polynomials, {"BLOCK": 128}, {}),
        "words": (philox.words_kernel, {"BLOCK": philox.BLOCK}, {}),
        "normals": (normal.normals_kernel, NORMALS, {}),
        "training noise": (training.noisy_kernel, {"GROUPS": 64}, {}),
        "grid": (converters.grid_kernel, {"BLOCK": 512}, {}),
        "carelessly": (carelessly, {}, {"enable_fp_fusion": True}),
    }
    # Launched with one token, one column, one tile or first = 1, those arguments become constants: "of one".
    dac = {"DYNAMIC": True, "PER_TILE": False, "BLOCK": 512}
    found["DAC of one"] = (converters.dac_kernel, {**dac, "tokens": 1, "tiles": 1, "rows": 1}, {})
    found["DAC"] = (converters.dac_kernel, {**dac, "PER_TILE": True}, {})
    found["static DAC"] = (converters.dac_kernel, {**dac, "DYNAMIC": False}, {})
    found["grid of one"] = (converters.grid_kernel, {"BLOCK": 512, "columns": 1, "rows": 1}, {})
    found["training noise of one"] = (training.noisy_kernel, {"GROUPS": 64, "rows": 1, "first": 1}, {})
    one = {"columns": 1, "rows": 1, "first": 1, "WEIGHT_DOMAIN": True}
    for drift, flicker, more in ((1, 1, {}), (2, 2, one), (3, 0, {})):
        constants = {**CELLS, "DRIFT_LAW": drift, "FLICKER_LAW": flicker, **more}
        found[f"cells, drift {drift}"] = (conductance.effective_kernel, constants, {})
    for tokens, noise in ((1, False), (16, False), (512, False), (512, True)):
        sizes = tile_product.blocking(tokens, 512, noise)
        options = {name: sizes.pop(name) for name in ("num_warps", "num_stages")}
        constants = {**sizes, "ADC": True, "NOISE": noise, "ALIGNED": tokens > 1}
        if not noise:
            constants |= dict.fromkeys(("steps", "variance_scale", "row_ids", "site"))
        if tokens == 1:
            constants |= {"tokens": 1, "columns": 1, "tiles": 1}
        label = f"product of {tokens}{', noise' if noise else ''}"
        found[label] = (tile_product.product_kernel, constants, options)
    return found


def compiled(kernel: Any, constants: dict[str, Any], options: dict[str, Any], target: GPUTarget) -> Any:
    signature = {
        name: "constexpr" if name in constants else POINTERS.get(name, "i32") for name in kernel.arg_names
    }
    if kernel is philox.words_kernel:
        signature["out"] = "*i32"
    positions = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    aligned = {
        (at,): [["tt.divisibility", 16]]
        for at, name in enumerate(kernel.arg_names)
        if signature[name][0] == "*"
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=positions, attrs=aligned)
    return triton.compile(source, target=target, options={**OPTIONS, **options})


def tool(name: str) -> Path:
    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name


def main(capability: int) -> None:
    report = {}
    for name, (kernel, constants, options) in kernels().items():
        made = compiled(kernel, constants, options, GPUTarget("cuda", capability, 32))
        floats = Counter(re.findall(r"\b[a-z]+(?:\.\w+)*\.f(?:32|64)\b", made.asm["ptx"]))
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(made.asm["cubin"])
            file.flush()
            command = [str(tool("cuobjdump")), "-sass", "-res-usage", file.name]
            listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        machine = Counter(re.findall(r"\b(F[A-Z]+\d*|MUFU|IMMA|IGMMA|D[A-Z]+)\b(?=[.\s])", listing))
        registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", listing).groups()  # type: ignore[union-attr]
        report[name] = {"ptx": floats, "sass": machine, "registers": int(registers), "stack": int(stack)}
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
