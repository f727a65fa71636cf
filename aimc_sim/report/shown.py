"""Results that show themselves: in a terminal, as text, in a notebook, as plain data."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 120  # columns of a result that goes to no terminal


class Shown(ABC):
    """A shown result looks the same whether a command prints it, ``print`` does, or a notebook shows it.

    A result with a verdict has ``passed`` beside these: True, False, or None where nothing was asked for.
    """

    @property
    @abstractmethod
    def summary(self) -> str:
        """The outcome in one sentence."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data, as ``--json`` writes it."""

    @abstractmethod
    def print_on(self, console: Console) -> None:
        """Print the result on a rich console."""

    def __str__(self) -> str:
        return self._printed().export_text().rstrip("\n")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary}>"

    def _repr_html_(self) -> str:
        page = '<pre style="line-height: normal; overflow-x: auto">{code}</pre>'
        return self._printed().export_html(code_format=page, inline_styles=True)

    def _printed(self) -> Console:
        # late: rich takes a while to load, and results are computed without it
        from rich.console import Console

        console = Console(file=io.StringIO(), record=True, width=WIDTH, highlight=False, markup=False)
        self.print_on(console)
        return console


def table_of(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> Table:
    """Return a table for a console; columns of numbers are set right."""
    # late: rich takes a while to load, and results are computed without it
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], (int, float)) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    return table
