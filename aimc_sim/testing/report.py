"""What a conformance test found: one line a property, with its statistic, p-value and power."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from aimc_sim.errors import AimcError
from aimc_sim.testing.ledger import uncharged
from aimc_sim.testing.records import POWER, Record, StatisticalFailure

SHARES = 256  # of alpha: a report has at most so many statistical findings, each at alpha / SHARES


@dataclass(frozen=True)
class Finding:
    """A finding is about one property of a device. record: the statistic behind it; None for what holds exactly or not
    at all.

    >>> from aimc_sim.testing import Finding
    >>> print(Finding("bits", True, "the same bits in every order"))
    pass  bits: the same bits in every order
    """

    name: str
    passed: bool
    detail: str
    record: Record | None = None

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'FAIL'}  {self.name}: {self.record or self.detail}"


@dataclass(frozen=True)
class Report:
    """A report lists every property that was tested, and what could not be. alpha: the error of the report as a whole.

    >>> from aimc_sim.testing import Finding, Report
    >>> Report("mine", 1e-9, 0, 1000, (Finding("bits", True, "the same"),), ()).passed
    True
    """

    device: str
    alpha: float
    seed: int
    cells: int  # programmed at once for the moments
    findings: tuple[Finding, ...]
    not_tested: tuple[tuple[str, str], ...]  # (property, why)

    @property
    def passed(self) -> bool:
        """Whether no property is contradicted."""
        return not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        """What is contradicted."""
        return tuple(finding for finding in self.findings if not finding.passed)

    def __getitem__(self, name: str) -> Finding:
        """Return the finding of that name. Raises KeyError."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def __str__(self) -> str:
        verdict = "conforms" if self.passed else f"does not conform: {len(self.failures)} failed"
        lines = [
            f"{self.device} {verdict} ({len(self.findings)} properties, {self.cells} cells, seed {self.seed}, "
            f"alpha {self.alpha:g}, power {POWER})"
        ]
        lines += [str(finding) for finding in self.findings]
        lines += [f"----  {name}: not tested, {why}" for name, why in self.not_tested]
        return "\n".join(lines)


class NonConformance(AssertionError, AimcError):
    """A non-conformance says that an implementation contradicts what its device declares. ``report`` holds everything
    that was found.

    >>> from aimc_sim.testing import Finding, NonConformance, Report
    >>> report = Report("mine", 1e-9, 0, 1000, (Finding("bits", False, "they depend on the order"),), ())
    >>> NonConformance(report).report.failures[0].name
    'bits'
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        failures = "\n".join(f"  {finding}" for finding in report.failures)
        super().__init__(
            f"{report.device} does not conform ({len(report.failures)} of {len(report.findings)} properties fail, "
            f"seed {report.seed}, alpha {report.alpha:g}):\n{failures}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (NonConformance, (self.report,))


@dataclass
class Findings:
    """This collects the findings of one run; every statistical one costs ``share`` of the run's alpha."""

    alpha: float
    found: list[Finding] = field(default_factory=list)
    not_tested: list[tuple[str, str]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """alpha of one statistical finding."""
        return self.alpha / SHARES

    def statistic(
        self, name: str, assertion: Callable[..., Record], *samples: Any, factor: float = 1.0, **null: Any
    ) -> None:
        """Make assertion(*samples, **null, alpha=share). factor: its detectable effect is that much larger."""
        if sum(finding.record is not None for finding in self.found) >= SHARES:
            raise ValueError(f"a report has at most {SHARES} statistical findings: give fewer levels")
        with uncharged():
            try:
                record = assertion(*samples, **null, alpha=self.share)
            except StatisticalFailure as failure:
                record = failure.record
        record = replace(record, detectable=record.detectable * factor)
        self.found.append(Finding(name, record.passed, record.effect, record))

    def exact(self, name: str, passed: bool, detail: str) -> None:
        """Record a property that holds for every cell or does not hold."""
        self.found.append(Finding(name, bool(passed), detail))

    def skip(self, name: str, why: str) -> None:
        """Record a property that this implementation or device gives no way to test."""
        self.not_tested.append((name, why))
