"""The code that scores: its version, as a journal keeps it. Scores of two versions are never mixed."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path

# What decides nothing about the scores of a cell: reports are made again from them, words and pictures from reports.
_ASIDE = frozenset(
    {"cli", "explain", "presets", "report_parts", "signoff/statistics", "sizing", "testing", "train"}
    | {"signoff/findings.py", "signoff/report.py", "signoff/verdict.py"}
    | {"signoff/headline.py", "signoff/html.py", "signoff/junit.py", "signoff/layer_plot.py"}
    | {"signoff/markdown.py", "signoff/plots.py", "signoff/strips.py", "signoff/words.py"}
)
_VERSIONS = ("torch", "numpy", "numba", "transformers", "tokenizers")


def scoring_sources() -> Iterator[tuple[str, Path]]:
    """The files that lie on the road from a weight file to scores, each with its name within its package."""
    from aimc_sim import kernels, models

    own = Path(__file__).parents[1]
    for folder in (own, Path(str(kernels.__file__)).parent, Path(str(models.__file__)).parent):
        for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.toml")]):
            within = path.relative_to(folder)
            if folder == own and within.parts[0] in ("kernels", "models"):  # there in an installation
                continue
            if folder != own or _ASIDE.isdisjoint(each.as_posix() for each in (within, *within.parents)):
                yield within.as_posix(), path


@lru_cache(maxsize=1)
def code_version() -> str:
    """``aimc-sim 0.1.0 (sources 0123456789ab), torch …, numpy …, transformers …, AVX512``.

    The sources are those that decide scores; the rest of the line decides token ids and the last bits of floating-point
    sums.
    """
    import torch

    from aimc_sim import __version__
    from aimc_sim.kernels import tile_engine

    digest = hashlib.sha256()
    for name, path in scoring_sources():
        digest.update(f"{name}\0".encode())
        digest.update(path.read_bytes())
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _VERSIONS)
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return (
        f"aimc-sim {__version__} (sources {digest.hexdigest()[:12]}), {versions}, "
        f"{processor}, tile engine {tile_engine.name()}"
    )
