"""What a report needs to become files: an environment for its page, its provenance, writing that is all or nothing."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from aimc_sim.errors import BadInput
from aimc_sim.identity import finite_json

TEMPLATES = Path(__file__).parent / "templates"  # that pages share
VERSIONS = ("numpy", "numba", "scipy", "torch", "transformers")  # that figures may depend on


def environment_of_pages(templates: Path) -> Any:
    """Jinja's environment for pages from a folder of templates, and those that all share: everything escaped, nothing
    undefined."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader([templates, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_together(pages: Mapping[Path, str]) -> None:
    """Write texts into files: all complete under other names first, then all renamed."""
    written: dict[Path, Path] = {}
    try:
        for path, text in pages.items():
            written[path] = _write_beside(path, text)
        for path, partial in written.items():
            os.replace(partial, path)
    finally:
        for partial in written.values():
            partial.unlink(missing_ok=True)


def to_json(document: dict[str, Any]) -> str:
    """JSON text with the document's own order of keys; numbers that are not finite become null."""
    return json.dumps(finite_json(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def prepare_folder(folder: Path) -> None:
    """Create the output folder and make sure that it can be written, before hours are spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(
            "output folder",
            got=str(folder),
            why=f"it cannot be written ({error.strerror})",
            do="choose another with -o",
        ) from None


def _write_beside(path: Path, text: str) -> Path:
    """Write `text` to a new file in the same folder, synced, and return its path."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        return Path(name)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadInput(
                path.name, got=str(path.parent), why="the disk is full", do="free some space"
            ) from None
        raise


def architecture(config: dict[str, Any]) -> str:
    """The model's class, as its configuration names it."""
    named = config.get("architectures") or [config.get("model_type", "unknown")]
    return str(named[0])


def version(package: str) -> str | None:
    """The installed version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
