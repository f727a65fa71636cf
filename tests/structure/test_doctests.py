"""Examples in docstrings run, and every public function of the torch bridge has one."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest

from aimc_sim.testing.ledger import uncharged

PACKAGES = ("aimc_sim", "aimc_sim.torch_bridge")  # whose public names' examples run …
COMPLETE = ("aimc_sim.torch_bridge",)  # … and those of which every name has one
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def public_names() -> list[tuple[str, str]]:
    return [
        (package, name)
        for package in PACKAGES
        for name in sorted(importlib.import_module(package).__all__)
        if not name.startswith("__")
    ]


def examples(value: Any, name: str) -> list[doctest.DocTest]:
    """The docstring of a function, or those of a class and its own methods, each with the names of its module."""
    return [test for test in doctest.DocTestFinder().find(value, name) if test.examples]


@pytest.mark.parametrize(("package", "name"), public_names())
def test_examples_of_public_names_run(
    package: str, name: str, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a weight file, model.h5, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    Path("model.h5").symlink_to(tiny_weights)
    found = examples(getattr(importlib.import_module(package), name), name)
    assert found or package not in COMPLETE, f"{package}.{name} has no example"
    runner, report = doctest.DocTestRunner(optionflags=OPTIONS), []
    with uncharged():
        for test in found:
            runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)
