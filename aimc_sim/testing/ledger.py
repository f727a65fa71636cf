"""One error budget for a whole test suite.

A suite of many statistical assertions fails by chance as often as its alphas add up to. The ledger is a TOML
file that lists every assertion with its alpha and how often it is made; the sum is checked when it is read:

    budget = 1e-6
    [assertions]
    "normals: mean" = { alpha = 1e-9, times = 3 }

A test asks for its error with ``ledger.spend("normals: mean")`` and gives it to one assertion. While a ledger
is active (the pytest plugin activates one), an assertion refuses an alpha that did not come from it.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aimc_sim.errors import AimcError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_BUDGET = 1e-6


class LedgerError(AssertionError, AimcError):
    """A ledger error names an assertion outside the ledger, or a ledger that does not add up.

    >>> from aimc_sim.testing import AlphaLedger, LedgerError
    >>> try:
    ...     AlphaLedger({}).spend("normals: mean")
    ... except LedgerError as error:
    ...     print(error)
    the assertion 'normals: mean' is not in the ledger: register it with its alpha
    """


class Alpha(float):
    """An alpha is an error probability issued by a ledger, good for one assertion.

    >>> from aimc_sim.testing import Alpha
    >>> Alpha(1e-9, "normals: mean").name
    'normals: mean'
    """

    name: str
    used: bool

    def __new__(cls, value: float, name: str) -> Alpha:
        alpha = super().__new__(cls, value)
        alpha.name, alpha.used = name, False
        return alpha


@dataclass(frozen=True)
class Entry:
    """An entry is a registered assertion. alpha: error of one assertion; times: how often a run of the suite
    makes it.
    """

    alpha: float
    times: int = 1


@dataclass(frozen=True)
class AlphaLedger:
    r"""A ledger lists the registered assertions, and counts how often each has been made in this process.

    >>> import tempfile, pathlib
    >>> from aimc_sim.testing import AlphaLedger
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "ledger.toml"
    >>> _ = file.write_text('[assertions]\n"normals: mean" = { alpha = 1e-9, times = 3 }\n')
    >>> AlphaLedger.load(file).total <= 3e-9 * 1.000001
    True
    """

    entries: Mapping[str, Entry]
    budget: float = DEFAULT_BUDGET
    spent: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for name, entry in self.entries.items():
            if not 0 < entry.alpha < 1 or entry.times < 1:
                raise LedgerError(f"ledger entry {name!r}: alpha in (0, 1) and times >= 1, got {entry}")
        if not self.total <= self.budget * (1 + 1e-12):
            raise LedgerError(
                f"the ledger adds up to {self.total:.4g}, more than its budget {self.budget:.4g}"
            )

    @classmethod
    def load(cls, path: str | Path) -> AlphaLedger:
        """Read a ledger file; raises LedgerError for an unknown key or a sum above the budget."""
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        unknown = set(table) - {"budget", "assertions"}
        if unknown:
            raise LedgerError(f"{path}: unknown keys {sorted(unknown)}")
        try:
            entries = {name: Entry(**fields) for name, fields in table.get("assertions", {}).items()}
        except TypeError as error:
            raise LedgerError(f"{path}: an entry has alpha and times, nothing else ({error})") from None
        return cls(entries, table.get("budget", DEFAULT_BUDGET))

    @property
    def total(self) -> float:
        """Probability that some registered assertion fails a right implementation, at most."""
        return math.fsum(entry.alpha * entry.times for entry in self.entries.values())

    def spend(self, name: str) -> Alpha:
        """Return the alpha for one assertion. Raises LedgerError where name is unregistered or used up."""
        entry = self.entries.get(name)
        if entry is None:
            raise LedgerError(f"the assertion {name!r} is not in the ledger: register it with its alpha")
        self.spent[name] += 1
        self.check({name: self.spent[name]})
        return Alpha(entry.alpha, name)

    def check(self, spent: Mapping[str, int]) -> None:
        """Raise LedgerError where these counts (summed over processes) exceed what is registered."""
        for name, count in spent.items():
            times = self.entries[name].times if name in self.entries else 0
            if count > times:
                raise LedgerError(
                    f"the assertion {name!r} is registered {times} times and was made {count} times"
                )


_active: list[AlphaLedger | None] = []


@contextlib.contextmanager
def active(ledger: AlphaLedger) -> Iterator[AlphaLedger]:
    """Let every assertion inside need an alpha of this ledger."""
    _active.append(ledger)
    try:
        yield ledger
    finally:
        _active.pop()


@contextlib.contextmanager
def uncharged() -> Iterator[None]:
    """Let any alpha do inside: for negative controls, which must fail."""
    _active.append(None)
    try:
        yield
    finally:
        _active.pop()


def charge(alpha: float) -> float:
    """Check, called by each assertion once, alpha, and that an active ledger issued it for one assertion."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is a probability between 0 and 1, got {alpha}")
    if _active and _active[-1] is not None:
        if not isinstance(alpha, Alpha):
            raise LedgerError(f"alpha {alpha} is not from the ledger: pass ledger.spend(name)")
        if alpha.used:
            raise LedgerError(f"the alpha of {alpha.name!r} was used twice: spend once per assertion")
        alpha.used = True
    return float(alpha)
