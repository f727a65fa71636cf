"""Each machine has one home: what it is made of stands in one module and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOMES = {
    "sqlite3.connect": {"aimc_sim/studies/store.py"},
    "os.replace": {"aimc_sim/files.py"},
    "os.rename": set(),
    "shutil.move": set(),
    "multiprocessing.get_context": {"aimc_sim/studies/workers.py"},
    "multiprocessing.Process": set(),
    "multiprocessing.Pool": set(),
    "concurrent.futures.ProcessPoolExecutor": set(),
}  # fmt: skip


def sources() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("aimc_sim", "kernels", "models"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def uses(tree: ast.Module) -> set[str]:
    """Names of libraries as they are written out or imported: os.replace, concurrent.futures.ProcessPoolExecutor."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
    return found


@pytest.mark.parametrize("name", HOMES)
def test_it_stands_in_its_home_alone(name: str) -> None:
    assert {path for path, tree in sources() if name in uses(tree)} == HOMES[name]
