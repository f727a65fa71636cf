"""Packages whose names load on first use, so that importing them costs nothing.

Such a package imports its public names below ``if TYPE_CHECKING:``, where type checkers and readers find them, and
makes the rest from that one list:

    __getattr__, __dir__, __all__ = lazy_names(__name__)
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from typing import Any


def lazy_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make ``__getattr__``, ``__dir__`` and ``__all__`` of a package from what it imports for type checkers alone."""
    module = sys.modules[package]
    homes = dict(_typed_imports(str(module.__file__)))

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(module, name, value)  # the next access is a plain one
        return value

    return load, lambda: sorted({*vars(module), *homes}), sorted(homes)


def _typed_imports(path: str) -> list[tuple[str, str]]:
    """Find (name, module) of every import below ``if TYPE_CHECKING:`` at the top of a file."""
    with open(path, encoding="utf-8") as source:
        blocks = [node for node in ast.parse(source.read()).body if isinstance(node, ast.If)]
    return [
        (alias.name, str(node.module))
        for block in blocks
        if isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
