"""The code that computes a measurement: its version, kept with what was measured. Two versions are never mixed.

The sources of a measurement are the modules that measure and every module of ours that they import, wherever in their
code, with their data; a name that a package hands on leads to the module that defines it. What they do not import (the
words of a report, say) may change without a stored figure losing its worth; sentences of errors count, for they stand
in the same files. That needs imports that can be read: product code imports from the module that defines a name, or
from a package that does so plainly (`tests/structure/test_imports.py`).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import platform
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path

PACKAGE = __name__.partition(".")[0]
DATA = {f"{PACKAGE}.devices.catalogue": "*.toml"}  # files beside a module that decide what it computes
VERSIONS = ("torch", "numpy", "numba", "scipy", "transformers", "tokenizers")


@lru_cache(maxsize=8)
def code_version(*modules: str) -> str:
    """Name the code behind what these modules measure, and what decides token ids and the last bits of its sums.

    ``aimc-sim 0.1.0 (sources 0123456789ab), torch …, numpy …, scipy …, transformers …, AVX512``
    """
    import torch

    # late: torch and the kernels take seconds to load, and sources are listed without them
    from aimc_sim import __version__
    from aimc_sim.kernels import tile_engine

    digest = hashlib.sha256()
    for name, path in sources_of(*modules).items():
        digest.update(f"{name}\0".encode())
        digest.update(path.read_bytes())
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS)
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return (
        f"aimc-sim {__version__} (sources {digest.hexdigest()[:12]}), {versions}, "
        f"{processor}, tile engine {tile_engine.name()}"
    )


def sources_of(*modules: str) -> dict[str, Path]:
    """Find the files that decide what modules of ours compute, by name: modules dotted, data as module/file."""
    paths: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in paths:
            continue
        parent = name.rpartition(".")[0]
        path = _file_of(name)
        if path is None:  # a name that a module defines, or a package hands on
            waiting.append(_home_of(name) or parent)
            continue
        paths[name] = path
        waiting += imported(path, name)
        if name in DATA:
            paths |= {f"{name}/{data.name}": data for data in path.parent.glob(DATA[name])}
    return dict(sorted(paths.items()))


def imported(path: Path, module: str) -> tuple[str, ...]:
    """Name every module of ours that a file may import, at any depth of its code, not counting TYPE_CHECKING.

    ``from a.b import c`` names a.b.c, which is a module or something in a.b. That a.b runs too is left out: packages of
    ours only hand on names.
    """
    return _list_imported(path.read_bytes(), module)


@lru_cache(maxsize=1024)
def _list_imported(source: bytes, module: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_imports(ast.parse(source), module)))


def _imports(tree: ast.Module, module: str) -> Iterator[str]:
    typing_only: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            typing_only |= {inner for line in node.body for inner in ast.walk(line)}
    for node in ast.walk(tree):
        names: list[str] = []
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: our imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.partition(".")[0] == PACKAGE)


@cache
def _home_of(name: str) -> str | None:
    """Say where a name comes from that a package's face hands on; None where it is none."""
    package, _, leaf = name.rpartition(".")
    path = _file_of(package)
    if path is None or path.name != "__init__.py":
        return None
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.ImportFrom) and leaf in {each.asname or each.name for each in node.names}:
            return f"{node.module}.{leaf}"
    return None


@cache
def _file_of(module: str) -> Path | None:
    """Find the file of a module; None where the name is that of something in one. Nothing is imported but packages."""
    parent, _, leaf = module.rpartition(".")
    if not parent:
        return Path(str(importlib.util.find_spec(module).origin))  # type: ignore[union-attr]
    package = _file_of(parent)
    if package is None or package.name != "__init__.py":
        return None
    # `kernels` and `models` lie beside the package in a checkout, and below it in an installation
    spec = importlib.util.find_spec(module) if parent == PACKAGE else None
    if spec is not None and spec.origin is not None:
        return Path(spec.origin)
    options = (package.parent / leaf / "__init__.py", package.parent / f"{leaf}.py")
    return next((path for path in options if path.is_file()), None)
