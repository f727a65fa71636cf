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

if TYPE_CHECKING:
    from aimc_sim.hardware import Hardware
    from aimc_sim.weightfile import MatrixInfo, WeightFile

_AGAIN = "copy or export the file again"
_LAYER = re.compile(r"\.(\d{1,9})\.")
_LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers")
_TABLES = ("device", "device.programming", "device.drift", "device.flicker")


def embedded_hardware(data: bytes) -> Hardware:
    """The hardware of documents/hardware.toml: tables in full as ``Hardware.to_toml`` writes them, and nothing else.

    A hardware file of the user may name a device or a file of measurements; one inside a weight file may not.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    from aimc_sim.hardware import Hardware

    what, do = "documents/hardware.toml", "export the file again, or pass another hardware"
    try:
        tables = tomllib.loads(data.decode())
        _refuse_references(tables, do)
        return Hardware.parse(tables, what)  # not Hardware.load, which follows names and paths
    except BadInput:
        raise
    except (ValueError, RecursionError) as error:
        raise BadInput(what, why=f"it is not valid TOML: {error}", do=do) from None


def _refuse_references(tables: Mapping[str, Any], do: str) -> None:
    device = tables.get("device")
    within = device if isinstance(device, Mapping) else {}
    found = next((key for key in ("measurements", "base") if key in within), None)
    if found is None:
        texts = {"device": device, **{f"device.{key}": within.get(key) for key in within}}
        found = next((key for key in _TABLES if isinstance(texts.get(key), str)), None)
    if found is not None:
        raise BadInput(
            f"documents/hardware.toml: {found.removeprefix('device.')}",
            got=within.get(found.removeprefix("device."), device),
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


def check_model(weight_file: WeightFile, model: Any) -> None:
    """Compare a weight file with the skeleton of its own configuration, before any weight is put into it.

    model: ``models.skeleton(config)``, untied, with all its modules. Raises BadInput for a parameter that the file
    lacks, a tensor without a place, another shape, or a list of matrices that is not the model's.
    """
    from aimc_sim.models.families import candidates

    source = {f"{matrix.name}.weight": matrix.tensor for matrix in weight_file.matrices}
    stored = set(weight_file.tensor_names)
    used = {name for adapter in weight_file.adapters for name in (adapter.a, adapter.b)}
    for name, parameter in model.named_parameters():
        tensor, shape = source.get(name, name), tuple(parameter.shape)
        if tensor not in stored:
            raise _misfit(weight_file, name, "the configuration asks for this parameter, the file lacks it")
        found = weight_file.tensor(tensor).bits.shape
        if found != shape:
            raise _misfit(weight_file, name, f"the configuration asks for {shape}, the file stores {found}")
        used.add(tensor)
    for name in sorted(stored - used):
        raise _misfit(weight_file, name, "the configuration has no place for this tensor")
    ours = [(m.name, m.rows, m.cols, m.layout, m.has_bias) for m in weight_file.matrices]
    theirs = [(c.name, c.rows, c.cols, c.layout, c.has_bias) for c in candidates(model)]
    for place in range(max(len(ours), len(theirs))):
        mine, other = (items[place] if place < len(items) else None for items in (ours, theirs))
        if mine != other:
            name = str((mine or other or ("",))[0])
            why = f"the model has {other} at place {place}, the file's list of matrices {mine}"
            raise _misfit(weight_file, name, why)


def _misfit(weight_file: WeightFile, name: str, why: str) -> BadInput:
    return BadInput(
        f"weight file {weight_file.path.name}",
        got=name,
        why=why,
        do="export the checkpoint again; configuration and weights of this file do not belong together",
    )
