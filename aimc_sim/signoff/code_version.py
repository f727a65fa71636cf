"""The code that scores: its version, as a journal keeps it. Scores of two versions are never mixed."""

from __future__ import annotations

import hashlib
import platform
from functools import lru_cache
from importlib import metadata
from pathlib import Path

# Folders that decide nothing about the scores of a cell.
_ASIDE = frozenset(
    {"cli", "testing", "explain", "train", "sizing", "deploy", "presets", "templates", "statistics"}
)
_ASIDE_FILES = frozenset({"report.py", "html.py", "plots.py", "words.py", "verdict.py", "findings.py"})


@lru_cache(maxsize=1)
def code_version() -> str:
    """``aimc-sim 0.1.0 (sources 0123456789ab), torch …, numpy …, transformers …, AVX512``.

    The sources are those that lie on the road from a weight file to scores; the rest of the line decides the last bits
    of floating-point sums.
    """
    import torch

    from aimc_sim import __version__, kernels, models
    from aimc_sim.kernels import tile_engine

    own = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for folder in (own, Path(str(kernels.__file__)).parent, Path(str(models.__file__)).parent):
        for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.toml")]):
            within = path.relative_to(folder)
            if folder == own and within.parts[0] in ("kernels", "models"):  # there in an installation
                continue
            if _ASIDE.isdisjoint(within.parts) and path.name not in _ASIDE_FILES:
                digest.update(f"{within.as_posix()}\0".encode())
                digest.update(path.read_bytes())
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "numba", "transformers")
    )
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return (
        f"aimc-sim {__version__} (sources {digest.hexdigest()[:12]}), {versions}, "
        f"{processor}, tile engine {tile_engine.name()}"
    )
