"""The modules of the product, by their dotted names."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "aimc_sim": ROOT / "aimc_sim",
    "aimc_sim.kernels": ROOT / "kernels",
    "aimc_sim.models": ROOT / "models",
}


def modules() -> dict[str, Path]:
    """Every module of the product and its file; a package by its ``__init__.py``."""
    files = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            files[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return files


MODULES = modules()
