"""What a statistical assertion found, and what a negative control expects of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from aimc_sim.errors import AimcError
from aimc_sim.testing.ledger import uncharged

POWER = 0.99  # every Record says which effect it would have found with this probability


@dataclass(frozen=True)
class Record:
    """A record says what one statistical assertion found.

    law: the distribution of the statistic under the null; n: sample size; statistic, p_value: what came out;
    alpha: the error spent; detectable: the smallest effect (in words: effect) found with probability POWER.

    >>> from aimc_sim.testing import assert_binomial
    >>> print(assert_binomial(48, trials=100, probability=0.5, alpha=1e-9).law)
    count ~ binomial
    """

    law: str
    n: int
    statistic: float
    p_value: float
    alpha: float
    detectable: float
    effect: str

    @property
    def passed(self) -> bool:
        return self.p_value >= self.alpha

    def __str__(self) -> str:
        return (
            f"{self.law}: n = {self.n}, statistic {self.statistic:.6g}, p = {self.p_value:.3g} "
            f"(alpha {self.alpha:.3g}); finds {self.effect} of {self.detectable:.3g} with power {POWER}"
        )


class StatisticalFailure(AssertionError, AimcError):
    """A statistical failure says that the sample contradicts the null at level alpha; ``record`` holds the numbers.

    >>> from aimc_sim.testing import StatisticalFailure, assert_binomial
    >>> try:
    ...     assert_binomial(1, trials=100, probability=0.5, alpha=1e-9)
    ... except StatisticalFailure as failure:
    ...     failure.record.passed
    False
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        super().__init__(str(record))

    def __reduce__(self) -> tuple[object, ...]:
        return (StatisticalFailure, (self.record,))


def conclude(record: Record) -> Record:
    """Return the record, or StatisticalFailure where it contradicts the null. NaN contradicts every null."""
    if not record.passed:
        raise StatisticalFailure(record)
    return record


@contextlib.contextmanager
def must_reject(at_most: float = 1e-9) -> Iterator[None]:
    """Run a negative control: the assertion inside must fail, with a p-value of at most ``at_most``.

    Whoever writes a test for noise shows with this that a wrong implementation does not pass it.
    It costs no alpha: it cannot fail a right implementation.

    >>> from aimc_sim.testing import assert_binomial, must_reject
    >>> with must_reject():
    ...     _ = assert_binomial(1, trials=100, probability=0.5, alpha=1e-9)
    """
    try:
        with uncharged():
            yield
    except StatisticalFailure as failure:
        if not failure.record.p_value <= at_most:
            raise AssertionError(f"rejected, but barely: {failure.record}") from failure
        return
    raise AssertionError("a wrong implementation passed: the assertion in must_reject() did not fail")
