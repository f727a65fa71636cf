"""``aimc-sim doctor``: what this machine has, and the line that installs what it lacks. Exit code 1 if broken."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import typer

from aimc_sim.cli.console import print_json

CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
# Distributions whose module has another name.
_MODULE = {"lm-eval": "lm_eval", "pytest-xdist": "xdist"}


def command(as_json: bool = typer.Option(False, "--json", help="Write JSON.")) -> None:
    """Show versions, threads, processor, GPU, and what is missing."""
    report = examine()
    if as_json:
        print_json(report)
    else:
        _print(report)
    if report["problems"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Everything that doctor knows. ``problems`` is empty where the core works; missing extras are no problem."""
    needed, extras = _requirements()
    problems = [f"{name} is not installed: pip install {name}" for name in needed if _version(name) is None]
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in needed}},
        "extras": {extra: _extra(extra, names) for extra, names in extras.items()},
        "processor": _processor(),
        "threads": _threads(),
        "tile_engine": _guarded(lambda: _engine("tile_engine", "name")),
        "int8_engine": _guarded(lambda: _engine("int8_product", "engine")),
        "gpu": _guarded(_gpu),
        "caches": _caches(),
        "self_test": (self_test := _guarded(_self_test)),
        "problems": problems + ([] if self_test == "ok" else [f"self-test: {self_test}"]),
    }


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Names of the core requirements, and of each extra's, from the installed package's metadata."""
    core: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("aimc-sim") or []:
        found, extra = _REQUIREMENT.match(line), _EXTRA.search(line)
        if found is None or ("python_version" in line and sys.version_info >= (3, 11)):
            continue
        (core if extra is None else extras.setdefault(extra[1], [])).append(found[1])
    return core, extras


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extra(extra: str, names: list[str]) -> dict[str, Any]:
    versions = {name: _version(name) for name in names}
    missing = [name for name, version in versions.items() if version is None]
    install = f"pip install 'aimc-sim[{extra}]'" if missing else None
    return {"versions": versions, "missing": missing, "install": install}


def _guarded(question: Any) -> Any:
    """An answer, or the error in words: doctor is for machines where something is wrong."""
    try:
        return question()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _processor() -> dict[str, Any]:
    name, flags = platform.processor() or platform.machine(), set[str]()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
        named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        listed = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
        name = named[1] if named else name
        flags = set(listed[1].split()) if listed else flags
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return {
        "name": name,
        "cores": os.cpu_count(),
        "flags": {flag: flag in flags for flag in CPU_FLAGS},
        "memory_bytes": memory,
    }


def _threads() -> dict[str, Any]:
    from aimc_sim.kernels import parallel

    settings = {
        key: os.environ.get(key) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    }
    torch_threads = _guarded(lambda: importlib.import_module("torch").get_num_threads())
    return {"kernels": parallel.num_threads(), "torch": torch_threads, "environment": settings}


def _engine(module: str, function: str) -> str:
    """Which engine a kernel module has chosen after its known-answer test."""
    return str(getattr(importlib.import_module(f"aimc_sim.kernels.{module}"), function)())


def _gpu() -> dict[str, Any] | None:
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "count": torch.cuda.device_count(),
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "triton": _version("triton"),
    }


def _caches() -> dict[str, Any]:
    from aimc_sim.kernels import _jit

    root, folder = _jit.cache_root(), _jit.cache_folder()
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) if root.exists() else 0
    free = shutil.disk_usage(root).free if root.exists() else None
    return {"kernels": str(folder) if folder else None, "all_bytes": size, "disk_free_bytes": free}


def _self_test() -> str:
    """The generator against Random123's published words, and a normal that goes through the compiler."""
    import numpy as np

    from aimc_sim.kernels.philox import philox4x32

    ones = np.full((1, 4), 0xFFFFFFFF, np.uint32)
    words = philox4x32(ones, ones[0, :2]).tolist()
    if words != [[0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]]:
        return f"Philox gives {words}, not the published words: please report this machine"
    return "ok"


def _print(report: dict[str, Any]) -> None:
    gib, processor, threads = 2**30, report["processor"], report["threads"]
    flags = (
        " ".join(flag for flag, present in processor["flags"].items() if present)
        or "none of those we look for"
    )
    memory = f", {processor['memory_bytes'] / gib:.1f} GiB" if processor["memory_bytes"] else ""
    gpu, caches = report["gpu"], report["caches"]
    graphics = (
        f"{gpu['name']}, {gpu['memory_bytes'] / gib:.0f} GiB" if isinstance(gpu, dict) else gpu or "none"
    )
    lines = {
        "versions": "  ".join(
            f"{name} {version or 'MISSING'}" for name, version in report["versions"].items()
        ),
        "processor": f"{processor['name']}, {processor['cores']} cores{memory}",
        "flags": flags,
        "threads": f"kernels {threads['kernels']}, torch {threads['torch']}",
        "tile engine": report["tile_engine"],
        "int8 engine": report["int8_engine"],
        "GPU": graphics,
        "cache": f"{caches['kernels'] or 'none: the folder cannot be written'} ({caches['all_bytes'] / 1e6:.1f} MB)",
        "self-test": report["self_test"],
    }
    for key, value in lines.items():
        typer.echo(f"{key:<12} {value}")
    for extra, state in report["extras"].items():
        note = f"lacks {', '.join(state['missing'])}: {state['install']}" if state["missing"] else "complete"
        typer.echo(f"{'[' + extra + ']':<12} {note}")
    for problem in report["problems"]:
        typer.echo(f"problem: {problem}")
