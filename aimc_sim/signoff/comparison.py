"""Two sign-offs side by side, as one value that shows itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.errors import BadInput, options_as_arguments
from aimc_sim.files import write_together
from aimc_sim.report.pages import prepare_folder, to_json
from aimc_sim.report.shown import Shown, table_of
from aimc_sim.signoff.report.figures import measure_of
from aimc_sim.signoff.report.html import render_compare
from aimc_sim.signoff.report.markdown import compare_md
from aimc_sim.signoff.report.pairs import comparison_of
from aimc_sim.signoff.report.saved import Document
from aimc_sim.signoff.verdict import WORD, Verdict, side_of

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """A comparison says what changed from one sign-off to another, as compare.json holds it (docs/signoff.md); paths:
    files written.

    >>> import aimc_sim
    >>> small = {"chips": 2, "times": "1m", "margin": 5.0, "sequences": 2, "length": 16}
    >>> before, after = (aimc_sim.sign_off("model.h5", hardware=name, **small) for name in ("hermes-256", "ideal"))
    >>> aimc_sim.compare(before, after).passed is None  # no margin, no verdict
    True
    """

    document: Document
    paths: tuple[Path, ...] = ()

    @property
    def passed(self) -> bool | None:
        """Whether the worsening stays within the margin everywhere; None without a margin."""
        passed: bool | None = self.document["pass"]
        return passed

    @property
    def summary(self) -> str:
        """The outcome: a sentence for each task and hardware."""
        parts = self.document["parts"]
        return " ".join(
            part["summary"] if len(parts) == 1 else f"{part['name']}: {part['summary']}" for part in parts
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the content of compare.json as plain data."""
        return self.document

    def print_on(self, console: Console) -> None:
        """Print a table for each part, the notes, the verdict where there is one, and where the files are."""
        for part in self.document["parts"]:
            measure = measure_of(part["metric"])
            rows = [
                (
                    at["time"],
                    *(measure.write(at[key]) for key in ("before", "after", "mean")),
                    measure.span(at["interval_95"]).replace("\u200b", "") or "no interval",
                )
                for at in part["times"]
            ]
            head = ("after", "before", "now", f"worse by, {measure.many}", "95 % interval")
            console.print(
                f"{part['name']}: {part['chips']} shared chips, {part['items']} items", soft_wrap=True
            )
            console.print(table_of(head, rows))
            console.print(part["summary"], soft_wrap=True)
            console.print()
        verdict = [] if self.passed is None else [WORD[self.passed]]
        for line in (*(f"note: {note}" for note in self.document["notes"]), *verdict, *map(str, self.paths)):
            console.print(line, soft_wrap=True)


@options_as_arguments
def compare(
    before: str | Path | Verdict,
    after: str | Path | Verdict,
    *,
    margin: float | None = None,
    alpha: float = 0.025,
    task: str | None = None,
    output: str | Path | None = None,
) -> Comparison:
    """Compare two sign-offs on the chips, times and items that both have; nothing is run.

    before, after: verdicts, their folders, or report.json files. margin: the largest acceptable worsening, in the
    task's unit (nats per token, or a share of questions); without it there is no verdict. alpha: one-sided error of the
    verdict. task: only that one. output: a folder for compare.json, compare.html and compare.md.

    Raises BadInput where items or metrics differ, or where no task, chip or time is shared.

    >>> import aimc_sim
    >>> small = {"chips": 2, "times": "1m", "margin": 5.0, "sequences": 2, "length": 16}
    >>> release = aimc_sim.sign_off("model.h5", **small)
    >>> aimc_sim.compare(release, release, margin=0.1).passed
    True
    """
    folder = None if output is None else Path(output)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise BadInput("output folder", got=str(folder), why="it is a file", do="choose another with -o")
    document = comparison_of(side_of(before), side_of(after), margin=margin, alpha=alpha, task=task)
    return Comparison(document, () if folder is None else write(document, folder))


def write(document: Document, folder: Path) -> tuple[Path, ...]:
    """Write compare.json, compare.html and compare.md, each under its final name only when all are complete."""
    prepare_folder(folder)
    pages = {
        folder / "compare.json": to_json(document),
        folder / "compare.html": render_compare(document),
        folder / "compare.md": compare_md(document),
    }
    write_together(pages)
    return tuple(pages)
