"""Results that show themselves: in a terminal, as text, in a notebook, as plain data."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120  # columns of a result that goes to no terminal


class Shown(ABC):
    """A result that a command prints, ``print`` prints, and a notebook shows, all the same.

    A result with a verdict has ``passed`` beside these: True, False, or None where nothing was asked for.
    """

    @property
    @abstractmethod
    def summary(self) -> str:
        """The outcome in one sentence."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The result as plain data, as ``--json`` writes it."""

    @abstractmethod
    def print_on(self, console: Console) -> None:
        """Print the result on a rich console."""

    def __str__(self) -> str:
        return self._printed().export_text().rstrip("\n")

    def _repr_html_(self) -> str:
        page = '<pre style="line-height: normal; overflow-x: auto">{code}</pre>'
        return self._printed().export_html(code_format=page, inline_styles=True)

    def _printed(self) -> Console:
        # late: rich takes a while to load, and results are computed without it
        from rich.console import Console

        console = Console(file=io.StringIO(), record=True, width=WIDTH, highlight=False, markup=False)
        self.print_on(console)
        return console
