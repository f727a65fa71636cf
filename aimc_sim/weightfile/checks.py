"""What a weight file says, checked before anything acts on it: its hardware, its numbers, and its fit to its model.

A file may come from a stranger. Whatever is wrong is BadInput with the reason, and reading it opens no other file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.files import reading
from aimc_sim.hardware import Hardware

if TYPE_CHECKING:
    from aimc_sim.weightfile.manifest import MatrixInfo

_AGAIN = "copy or export the file again"
_LAYER = re.compile(r"\.(\d{1,9})\.")
_LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers")
_TABLES = ("device", "device.programming", "device.drift", "device.flicker")


def embedded_hardware(data: bytes) -> Hardware:
    """Return the hardware of documents/hardware.toml: tables in full as ``Hardware.to_toml`` writes them, and nothing
    else.

    A hardware file of the user may name a device or a file of measurements; one inside a weight file may not.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    what, do = "documents/hardware.toml", "export the file again, or pass another hardware"
    with reading(what, "weight file", kind="valid TOML", mend=do):
        tables = tomllib.loads(data.decode())
        _refuse_references(tables, do)
        return Hardware.parse(tables, what)  # not Hardware.load, which follows names and paths


def _refuse_references(tables: Mapping[str, Any], do: str) -> None:
    device = tables.get("device")
    within = device if isinstance(device, Mapping) else {}
    reference = next((key for key in ("measurements", "base") if key in within), None)
    if reference is None:
        texts = {"device": device, **{f"device.{key}": within.get(key) for key in within}}
        reference = next((key for key in _TABLES if isinstance(texts.get(key), str)), None)
    if reference is not None:
        raise BadInput(
            f"documents/hardware.toml: {reference.removeprefix('device.')}",
            got=within.get(reference.removeprefix("device."), device),
            why="hardware inside a weight file is written out in full and refers to nothing outside",
            do=do,
        )


def check_config(config: Mapping[str, Any], matrices: Sequence[MatrixInfo]) -> None:
    """Raise BadInput where the configuration has another number of layers than the file: before torch builds them."""
    layers = {found[1] for matrix in matrices if (found := _LAYER.search(matrix.name))}
    for key in _LAYER_KEYS:
        stated = config.get(key)
        if stated is not None and (type(stated) is not int or stated != len(layers)):
            raise BadInput(
                f"documents/config.json: {key}",
                got=stated,
                why=f"the file holds matrices of {len(layers)} layers",
                do=_AGAIN,
            )


def check_token_ids(token_ids: npt.NDArray[np.int32], vocabulary: int | None) -> None:
    """Raise BadInput where calibration tokens (S, L) are not all in 0 … vocabulary - 1. None: no upper bound known."""
    lowest, highest = int(token_ids.min()), int(token_ids.max())
    if lowest < 0 or (vocabulary is not None and highest >= vocabulary):
        raise BadInput(
            "calibration/token_ids",
            got=(lowest, highest),
            why="token ids cannot be negative" if lowest < 0 else f"the vocabulary has {vocabulary} tokens",
            do=_AGAIN,
        )


def check_finite_table(path: str, table: npt.NDArray[np.float32], *, positive: bool = False) -> None:
    """Raise BadInput with the first entry of a small dataset that is not finite (or, if asked, not positive)."""
    bad = ~np.isfinite(table) if not positive else ~(np.isfinite(table) & (table > 0))
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise BadInput(
            path,
            got=f"{table[index]} at index {index}",
            why=f"every value must be finite{' and above 0' if positive else ''}",
            do=_AGAIN,
        )
