"""What a report needs to become files: an environment for its page, its provenance, a folder."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from aimc_sim.errors import BadInput
from aimc_sim.identity import finite_json

TEMPLATES = Path(__file__).parent / "templates"  # that pages share
VERSIONS = ("numpy", "numba", "scipy", "torch", "transformers")  # that figures may depend on


def environment_of_pages(templates: Path) -> Any:
    """Make Jinja's environment for pages from a folder of templates, and those that all share: everything escaped,
    nothing undefined.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader([templates, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def to_json(document: dict[str, Any]) -> str:
    """Write JSON text with the document's own order of keys; numbers that are not finite become null."""
    return json.dumps(finite_json(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows, the header first, as CSV text.

    >>> to_csv([("matrix", "sqnr_db"), ("lm_head", 31.5)])
    'matrix,sqnr_db\\nlm_head,31.5\\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


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


def architecture(config: dict[str, Any]) -> str:
    """Name the model's class, as its configuration names it."""
    named = config.get("architectures") or [config.get("model_type", "unknown")]
    return str(named[0])


def version(package: str) -> str | None:
    """Return the installed version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
