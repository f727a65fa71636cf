"""What this machine has for us: versions, processor, threads, engines, GPU, caches. `examine` is for `doctor`."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aimc_sim.report.pages import version

CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)")
_ENGINES = {"tile": ("tile_engine", "name"), "int8": ("int8_product", "engine")}
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def examine() -> dict[str, Any]:
    """Return everything that doctor knows. ``problems`` is empty where the core works; missing extras are no
    problem.
    """
    needed, extras = _requirements()
    problems = [f"{name} is not installed: pip install {name}" for name in needed if version(name) is None]
    self_test = _guard(_self_test)
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in needed}},
        "extras": {extra: _extra(extra, names) for extra, names in extras.items()},
        "processor": _processor(), "threads": _threads(),
        **{f"{kind}_engine": _guard(_engine, *where) for kind, where in _ENGINES.items()},
        "gpu": _guard(_gpu), "caches": _caches(), "self_test": self_test,
        "problems": problems + ([] if self_test == "ok" else [f"self-test: {self_test}"]),
    }  # fmt: skip


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of the core requirements, and of each extra's, from the installed package's metadata."""
    core, extras = list[str](), dict[str, list[str]]()
    for line in importlib.metadata.requires("aimc-sim") or []:
        name, extra = _REQUIREMENT.match(line), _EXTRA.search(line)
        if name is None or ("python_version" in line and sys.version_info >= (3, 11)):
            continue
        (core if extra is None else extras.setdefault(extra[1], [])).append(name[1])
    return core, extras


def _extra(extra: str, names: list[str]) -> dict[str, Any]:
    versions = {name: version(name) for name in names}
    missing = [name for name, installed in versions.items() if installed is None]
    install = f"pip install 'aimc-sim[{extra}]'" if missing else None
    return {"versions": versions, "missing": missing, "install": install}


def _guard(question: Callable[..., Any], *words: str) -> Any:
    """Return an answer, or the error in words: doctor is for machines where something is wrong."""
    try:
        return question(*words)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _processor() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    lines = dict(re.findall(r"^(model name|flags)\s*:\s*(.+)$", text, re.MULTILINE))
    flags = {flag: flag in lines.get("flags", "").split() for flag in CPU_FLAGS}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    name = lines.get("model name", platform.processor() or platform.machine())
    return {"name": name, "cores": os.cpu_count(), "flags": flags, "memory_bytes": memory}


def _threads() -> dict[str, Any]:
    from aimc_sim.kernels import parallel

    names = [f"{library}_NUM_THREADS" for library in ("OMP", "MKL", "NUMBA")]
    settings = {name: os.environ.get(name) for name in names}
    torch_threads = _guard(lambda: importlib.import_module("torch").get_num_threads())
    return {"kernels": parallel.num_threads(), "torch": torch_threads, "environment": settings}


def _engine(module: str, function: str) -> str:  # that a kernel module has chosen after its known-answer test
    return str(getattr(importlib.import_module(f"aimc_sim.kernels.{module}"), function)())


def _gpu() -> dict[str, Any] | None:
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name, "count": torch.cuda.device_count(), "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda, "triton": version("triton"),
    }  # fmt: skip


def _caches() -> dict[str, Any]:
    from aimc_sim.kernels import _jit

    root, folder = _jit.cache_root(), _jit.cache_folder()
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    free = shutil.disk_usage(root).free if root.exists() else None
    return {"kernels": str(folder) if folder else None, "all_bytes": size, "disk_free_bytes": free}


def _self_test() -> str:
    """Test the generator against Random123's published words, and a normal that goes through the compiler."""
    import numpy as np

    from aimc_sim.kernels.philox import philox4x32

    ones = np.full((1, 4), 0xFFFFFFFF, np.uint32)
    words = philox4x32(ones, ones[0, :2]).tolist()
    if words != [[0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]]:
        return f"Philox gives {words}, not the published words: please report this machine"
    return "ok"
