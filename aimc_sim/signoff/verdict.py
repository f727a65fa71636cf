"""What a sign-off found, as one value that shows itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.errors import BadInput
from aimc_sim.report import words
from aimc_sim.report.shown import Shown, table_of
from aimc_sim.signoff.report.headline import headline_of
from aimc_sim.signoff.report.saved import Document, Side, load

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WORD = {True: "PASS", False: "FAIL"}


@dataclass(frozen=True, repr=False)
class Verdict(Shown):
    """A verdict says whether a model survives on its chips: the reports of a sign-off, one a task and hardware.

    documents: each as its report.json holds it (docs/signoff.md). overview: summary.json's, of several; None of one.
    paths: the files that were written; the first is the document of the whole.

    >>> import aimc_sim
    >>> verdict = aimc_sim.sign_off("model.h5", chips=2, times="1m", margin=50.0, sequences=2, length=16)
    >>> verdict.passed, len(verdict.documents)
    (True, 1)
    """

    documents: tuple[Document, ...]
    overview: Document | None = None
    paths: tuple[Path, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every task on every hardware stays within its margin."""
        return all(document["verdict"]["pass"] for document in self.documents)

    @property
    def summary(self) -> str:
        """The outcome in one sentence."""
        if self.overview is None:
            return str(self.documents[0]["verdict"]["summary"])
        passing = sum(document["verdict"]["pass"] for document in self.documents)
        return f"{passing} of {len(self.documents)} parts are within their margins."

    def document(self, task: str | None = None, hardware: str | None = None) -> Document:
        """Return the report of one task on one hardware; what there is only one of need not be named.

        Raises BadInput where none or several are so called.
        """
        chosen = [
            document
            for document in self.documents
            if task in (None, document["statistics"]["task"])
            and hardware in (None, document["statistics"]["hardware"])
        ]
        if len(chosen) == 1:
            return chosen[0]
        names = [
            (document["statistics"]["task"], document["statistics"]["hardware"])
            for document in self.documents
        ]
        raise BadInput(
            "part",
            got=(task, hardware),
            why=f"{len(chosen)} parts are so called, of {', '.join(f'{task} on {chip}' for task, chip in names)}",
            do="name a task and a hardware of these",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return report.json, or summary.json of several, as plain data."""
        return self.documents[0] if self.overview is None else self.overview

    def print_on(self, console: Console) -> None:
        """Print a table, the verdict, the notes, and where the files are."""
        if self.overview is None:
            self._print_one(console)
        else:
            self._print_several(console, self.overview)

    def _print_one(self, console: Console) -> None:
        (document,) = self.documents
        console.print(_results(document))
        console.print()
        console.print(WORD[self.passed], style="bold green" if self.passed else "bold red")
        console.print(self.summary)
        for line in _against_previous(self.documents):
            console.print(line)
        for note in document["notes"]:
            console.print(f"note: {note}", style="dim")
        for path in reversed(self.paths):
            console.print(str(path), soft_wrap=True)

    def _print_several(self, console: Console, overview: Document) -> None:
        rows = []
        for part in overview["parts"]:
            shown = headline_of(part["verdict"], part)
            rows.append(
                (
                    part["hardware"],
                    part["task"],
                    shown.word.lower() if part["decision"] == "fixed" else part["decision"],
                    f"{shown.effect} (at most {shown.bound}) {shown.unit}",
                    shown.on_items.removesuffix(" chips").removesuffix(" chip"),
                    f"{shown.lifetime} ({shown.lifetime_shown})",
                )
            )
        console.print(
            table_of(("hardware", "task", "verdict", "loss at worst", "chips passing", "lifetime"), rows)
        )
        for line in (WORD[self.passed], *_against_previous(self.documents), *map(str, self.paths)):
            console.print(line, soft_wrap=True)


def side_of(source: str | Path | Verdict) -> Side:
    """Return the reports of a sign-off: of a verdict, or of what lies in its folder."""
    if not isinstance(source, Verdict):
        return load(source)
    named = source.documents[0]["provenance"]["weight_file"] or "sign-off"
    return Side(source.paths[0].parent.name if source.paths else named, source.documents)


def _against_previous(documents: Sequence[Document]) -> list[str]:
    """Write a sentence for each report that has a partner in the previous release."""
    return [
        f"against {previous['before']['name']}, {previous['name']}: {previous['summary']}"
        for previous in (document["previous"] for document in documents)
        if previous is not None
    ]


def _percent(share: float) -> str:
    return words.percent(share).replace("\u202f", " ")


Columns = tuple[tuple[str, str, Callable[[Any], str]], ...]  # title, key, how it is written
_TEXT: Columns = (
    ("perplexity", "perplexity", words.perplexity),
    ("KL, nats", "kl_nats", words.divergence),
    ("agreement", "agreement", _percent),
)
_QUESTIONS: Columns = (
    ("accuracy", "acc", _percent),
    ("loss", "loss", _percent),
    ("lost", "lost", str),
    ("won", "won", str),
)


def _results(document: Document) -> Table:
    """Return figures of every model: digital, with converters only, and all chips and each of them at every time."""
    # late: rich takes a while to load, and results are computed without it
    from rich.table import Table
    from rich.text import Text

    rows, columns, measured = document["rows"], _TEXT, "kl_nats"
    if "questions" in document:
        columns, measured = _QUESTIONS, "loss"
    table = Table("", box=None, pad_edge=False, header_style="bold")
    for title, _, _ in columns:
        table.add_column(title, justify="right")

    def add(name: str | Text, figures: Document) -> None:
        table.add_row(name, *(write(figures[key]) for _, key, write in columns))

    add("digital", rows["digital"])
    add("converters only (ideal cells)", rows["converters_only"])
    for at in rows["times"]:
        cells = []
        for _, key, write in columns:
            cells.append(write(at[key]["mean"]) if key in at else "")
            if key == measured and None not in (ends := at[key]["interval_95"]):
                cells[-1] += " ({} to {})".format(*map(write, ends))
        count = len(at["chips"])
        table.add_row(
            Text(f"{count} {'chip' if count == 1 else 'chips'}, {at['time']}", style="bold"), *cells
        )
        for chip in at["chips"]:
            add(Text(f"  seed {chip['seed']}", style="dim"), chip)
    return table
