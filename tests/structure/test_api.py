"""What is public: every name has an example that runs, and docs/api.md says what the docstrings say."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aimc_sim.testing.ledger import uncharged
from helpers.tree import MODULES, ROOT


def generator() -> ModuleType:
    """docs/api.py, which is no module of the package."""
    spec = importlib.util.spec_from_file_location("api", ROOT / "docs" / "api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PUBLIC: list[str] = generator().PUBLIC


def documented(module: str) -> list[tuple[str, Any]]:
    """The public functions and classes of a module that are its own to explain."""
    owner = importlib.import_module(module)
    return [
        (name, thing)
        for name in owner.__all__
        if (inspect.isclass(thing := getattr(owner, name)) or inspect.isroutine(thing))
    ]


CASES = {f"{module}.{name}": thing for module in PUBLIC for name, thing in documented(module)}


@pytest.mark.parametrize("name", CASES)
def test_the_examples_of_a_public_name_run(
    name: str, tiny_checkpoint: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a checkpoint, model/, and its weight file, model.h5. Methods' examples run too."""
    monkeypatch.chdir(tmp_path)
    Path("model").symlink_to(tiny_checkpoint)
    Path("model.h5").symlink_to(tiny_weights)
    tests = [test for test in doctest.DocTestFinder().find(CASES[name], name) if test.examples]
    assert any(test.name == name for test in tests), "a public name has an example"
    runner, said = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS), []
    with uncharged():  # an example costs no alpha of the suite: those that assert are far from their bounds
        for test in tests:
            runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)


def test_what_is_public_has_a_list_of_names_and_nothing_else_has_one() -> None:
    listed = {name for name in MODULES if getattr(importlib.import_module(name), "__all__", None) is not None}
    assert listed == set(PUBLIC)


def test_the_page_says_what_the_docstrings_say() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "api.py"), "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr + "run: python docs/api.py"
