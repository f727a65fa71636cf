"""The files of a sign-off, written together: each under its final name only when all are complete."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aimc_sim.files import write_together
from aimc_sim.report.pages import prepare_folder, to_json
from aimc_sim.signoff.design.plan import folder_name
from aimc_sim.signoff.report.html import render, render_summary
from aimc_sim.signoff.report.junit import junit_of
from aimc_sim.signoff.report.markdown import report_md, summary_md

SUMMARY_FORMAT = "aimc-sim sign-off summary"


def write(document: dict[str, Any], folder: Path) -> list[Path]:
    """Write report.json, report.html, report.md and junit.xml of one task on one hardware."""
    pages = _report(document, folder)
    pages[folder / "junit.xml"] = junit_of([document])
    write_together(pages)
    return list(pages)


def write_all(documents: Sequence[dict[str, Any]], summary: dict[str, Any], folder: Path) -> list[Path]:
    """Write a report for each task and hardware in its own folder; beside them summary.json, summary.html, summary.md
    and one junit.xml. Returns the paths of those four.
    """
    together = {
        folder / "summary.json": to_json(summary),
        folder / "summary.html": render_summary(summary),
        folder / "summary.md": summary_md(summary),
        folder / "junit.xml": junit_of(documents),
    }
    pages: dict[Path, str] = {}
    for document, part in zip(documents, summary["parts"], strict=True):
        where = folder / part["folder"]
        prepare_folder(where)
        pages |= _report(document, where)
    write_together({**pages, **together})
    return list(together)


def summary_of(
    documents: Sequence[dict[str, Any]], plan_id: str, left_out: Sequence[str], command: str
) -> dict[str, Any]:
    """Make the document of several reports, side by side."""
    return {
        "format": SUMMARY_FORMAT,
        "schema_version": 1,
        "pass": all(document["verdict"]["pass"] for document in documents),
        "plan_id": plan_id,
        "left_out": list(left_out),
        "parts": [
            {
                **document["statistics"],
                "plan_id": document["plan"]["id"],
                "summary": document["verdict"]["summary"],
                "verdict": document["verdict"],
                "device": document["provenance"]["device"],
                "weight_file": document["provenance"]["weight_file"],
                "folder": folder_of(document["statistics"]["hardware"], document["statistics"]["task"]),
            }
            for document in documents
        ],
        "command": command,
    }


def folder_of(hardware: str, task: str) -> str:
    """Say where the report of a task on a hardware is, from the study's folder: ``HARDWARE/TASK``."""
    return f"{folder_name(hardware)}/{folder_name(task)}"


def _report(document: dict[str, Any], folder: Path) -> dict[Path, str]:
    return {
        folder / "report.json": to_json(document),
        folder / "report.html": render(document),
        folder / "report.md": report_md(document),
    }
