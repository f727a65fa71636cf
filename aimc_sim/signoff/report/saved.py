"""Sign-offs that lie on a disk: the reports that belong together, read back for a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimc_sim.errors import BadInput
from aimc_sim.files import read_json
from aimc_sim.signoff.report.document import FORMAT, SCHEMA_VERSION
from aimc_sim.signoff.report.files import SUMMARY_FORMAT

Document = dict[str, Any]
_FOLDER = "give the -o folder of a sign-off"
_AGAIN = "run the sign-off again with its journal: finished trials are not computed again"


@dataclass(frozen=True)
class Side:
    """A side is one sign-off: its name, and the reports of its tasks and hardware variants."""

    name: str
    reports: tuple[Document, ...]


def load(path: str | Path) -> Side:
    """Read a sign-off's folder, or one report.json. Raises BadInput for what is neither, is of another version, or
    holds reports of several plans.

    Of a folder those reports count that its summary.json lists; others in it are of an earlier plan.
    """
    where = Path(path)
    if not where.is_dir():
        return Side(str(where), (_report(where),))
    name = where.name or where.resolve().name
    one, several = where / "report.json", where / "summary.json"
    why, do = "there is no report.json in it, and no summary.json", _FOLDER
    if one.exists() and several.exists():
        why = "report.json and summary.json in it are of different plans, and either may be out of date"
        do = "give the report.json that is meant, or delete the other file"
    elif several.exists():
        summary = _read(several, SUMMARY_FORMAT, "the summary", "parts", _FOLDER)
        return Side(name, tuple(_read_listed(where, part) for part in summary["parts"]))
    elif one.exists():
        return Side(name, (_report(one),))
    raise BadInput("sign-off", got=str(path), why=why, do=do)


def _read_listed(folder: Path, part: Document) -> Document:
    """Read the report that a summary lists, if it is still the one that was written with it."""
    path = folder / part["folder"] / "report.json"
    report, plan = _report(path), part.get("plan_id")
    if report["plan"]["id"] != plan:
        why = f"it is of plan {report['plan']['id']}, and summary.json lists {plan} there"
        why += ": reports of different plans lie in one folder"
        raise BadInput("sign-off", got=str(path), why=why, do=_AGAIN)
    return report


def _report(path: Path) -> Document:
    return _read(path, FORMAT, "the report", "statistics", "give a report.json of aimc-sim signoff")


def _read(path: Path, form: str, what: str, needs: str, do: str) -> Document:
    """Read a document of this format and of this version, with the field that it needs."""
    document = read_json(path, "sign-off", do=f"{_FOLDER}, or a report.json", kind="JSON", mend=do)
    if not isinstance(document, dict) or document.get("format") != form:
        raise BadInput("sign-off", got=str(path), why=f"it is not {what} of a sign-off", do=do)
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or needs not in document:
        why = f"this version reads schema_version {SCHEMA_VERSION} with {needs}"
        raise BadInput("sign-off", got=f"{path}, schema_version {version}", why=why, do=_AGAIN)
    return document
