"""Pytest plugin: the fixture ``ledger``, and the check of its sum over all workers of pytest-xdist.

In a conftest.py: ``pytest_plugins = ["aimc_sim.testing.pytest_plugin"]``; in pytest's ini section:
``alpha_ledger = tests/statistics/ledger.toml`` (relative to the root folder).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from aimc_sim.testing import ledger as ledgers
from aimc_sim.testing.ledger import AlphaLedger, LedgerError

_LEDGER = pytest.StashKey[AlphaLedger]()
_SPENT = pytest.StashKey["Counter[str]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("alpha_ledger", "the TOML file that registers every statistical assertion", default="")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getini("alpha_ledger")
    if path:
        config.stash[_LEDGER] = AlphaLedger.load(config.rootpath / path)
        config.stash[_SPENT] = Counter()


@pytest.fixture(autouse=True)
def _active_ledger(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let every assertion of every test need an alpha from the ledger."""
    session_ledger = request.config.stash.get(_LEDGER, None)
    if session_ledger is None:
        yield
    else:
        with ledgers.active(session_ledger):
            yield


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> AlphaLedger:
    """Return the suite's ledger: ``alpha=ledger.spend(name)``."""
    session_ledger = request.config.stash.get(_LEDGER, None)
    if session_ledger is None:
        raise LedgerError("pytest's setting alpha_ledger names no file")
    return session_ledger


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Add what a worker of pytest-xdist has spent, in the controller."""
    if _SPENT in node.config.stash:
        node.config.stash[_SPENT].update(getattr(node, "workeroutput", {}).get("alpha_spent", {}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if _LEDGER not in config.stash:
        return
    book = config.stash[_LEDGER]
    if hasattr(config, "workeroutput"):
        config.workeroutput["alpha_spent"] = dict(book.spent)
        return
    try:
        book.check(config.stash[_SPENT] + book.spent)
    except LedgerError as error:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        _say(config, f"alpha ledger: {error}")


def _say(config: pytest.Config, line: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(line, red=True)
