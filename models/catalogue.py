"""Models by name, from shapes alone: the catalogue, and any Hugging Face config.json."""

from __future__ import annotations

import difflib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from aimc_sim.errors import BadInput
from aimc_sim.models.catalogue_families import SHAPES, ModelShapes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FILE = Path(__file__).with_name("catalogue.toml")


@cache
def _catalogue() -> dict[str, dict[str, Any]]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


def catalogue_names() -> tuple[str, ...]:
    """Return the names of the models whose shapes ship with aimc-sim."""
    return tuple(_catalogue())


def catalogue_entry(name: str) -> dict[str, Any]:
    """Return {"config", "source", "parameters" in billions} of a model. Case, and an owner before the name, do not
    matter.

    Raises BadInput with the nearest names.
    """
    known = {key.lower(): key for key in _catalogue()}
    wanted = name.rpartition("/")[2].lower()
    if wanted not in known:
        close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(repr(known[key]) for key in close)}? " if close else ""
        raise BadInput(
            "model",
            got=name,
            why="the catalogue has no model of that name and no file is there",
            do=f"{meant}Known: {', '.join(_catalogue())}; or give a config.json or a weight file",
        )
    return {"name": known[wanted], **_catalogue()[known[wanted]]}


def model_shapes(config: dict[str, Any], name: str = "") -> ModelShapes:
    """Return every matrix of the model that a configuration (as Hugging Face's config.json) describes, layer by layer.

    A model of several parts is represented by its text part. Raises BadInput for an unknown model_type (naming the
    known ones) and for a field that is missing or no positive whole number.
    """
    kind = config.get("model_type")
    inner = config.get("text_config")
    if isinstance(inner, dict) and kind not in SHAPES:
        config = {**inner, "model_type": inner.get("model_type", kind)}
        kind = config["model_type"]
    if kind not in SHAPES:
        raise BadInput(
            "architecture of the model (model_type)",
            got=kind,
            why="its matrix products are not known here, so they could not be counted",
            do=f"use a model of one of these types: {', '.join(SHAPES)}",
        )
    return SHAPES[kind](config, name or str(config.get("_name_or_path") or kind))


def named_shapes(name: str) -> ModelShapes:
    """Return shapes of a model of the catalogue."""
    entry = catalogue_entry(name)
    return model_shapes(entry["config"], entry["name"])


def config_shapes(path: str | Path) -> ModelShapes:
    """Return shapes of the model that a config.json, or a folder with one, describes."""
    path = Path(path)
    file = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(
            "model", got=str(path), why=f"{file.name} cannot be read ({error.strerror})", do="check the path"
        ) from None
    except (ValueError, RecursionError) as error:
        raise BadInput("model", got=str(path), why=f"it is not valid JSON ({error})", do="mend it") from None
    if not isinstance(config, dict):
        raise BadInput("model", got=str(path), why="a config.json holds a JSON object", do="mend it")
    name = file.parent.resolve().name if file.name == "config.json" else file.stem
    return model_shapes(config, name)
