"""Imports run one way, without circles, and say what they need: `ORDER` is the whole law."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from aimc_sim.studies.sources import imported
from helpers.tree import MODULES

# A module imports from its own part and from lines above its own, anywhere in its code. aimc_sim: the package itself.
ORDER = """
    errors lazy renames aliases identity
    kernels files
    aimc_sim models units spec randomness
    studies wires devices
    hardware
    weightfile tiles
    execute
    chip
    torch_bridge
    calibrate
    exporting programming report
    evaluate
    finetuning sizing signoff
    attribution testing
    cli
"""
RANKS = {part: rank for rank, line in enumerate(ORDER.strip().splitlines()) for part in line.split()}


def part_of(module: str) -> str:
    """aimc_sim.devices.catalogue → devices."""
    return [*module.split("."), "aimc_sim"][1]


def targets(module: str) -> Iterator[str]:
    """The modules that a module imports; a name that is no module belongs to the module that it is in."""
    for name in imported(MODULES[module], module):
        target = name if name in MODULES else name.rpartition(".")[0]
        assert target in MODULES, f"{module} imports {name}, and there is no such module"
        yield target


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    here = part_of(module)
    for target in sorted(set(targets(module))):
        there = part_of(target)
        assert there == here or RANKS[there] < RANKS[here], (
            f"{module} imports {target}, which stands above it"
        )


def test_the_order_is_short_and_names_every_part_once() -> None:
    assert len(ORDER.strip().splitlines()) <= 15
    assert sorted(ORDER.split()) == sorted({part_of(module) for module in MODULES})


def test_no_modules_import_each_other_in_a_circle() -> None:
    arrows = {module: set(targets(module)) - {module} for module in MODULES}
    order = TopologicalSorter(arrows)
    try:
        order.prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_kernels_and_models_stand_alone_on_the_ground() -> None:
    for module in MODULES:
        parts = {part_of(target) for target in targets(module)}
        if part_of(module) == "kernels":
            assert parts <= {"kernels", "lazy", "aliases"}, module
        if part_of(module) == "models":
            assert parts <= {"models", "errors", "aliases", "files"}, module


def lazy_names(package: str) -> set[str]:
    """Public names of a package that load on first use: those that it imports for type checkers alone."""
    blocks = [
        node
        for node in ast.parse(MODULES[package].read_text(encoding="utf-8")).body
        if isinstance(node, ast.If)
    ]
    lines = [line for block in blocks for line in block.body if isinstance(line, ast.ImportFrom)]
    return {alias.name for line in lines for alias in line.names}


def test_product_code_imports_a_name_from_the_module_that_defines_it() -> None:
    """What a package loads on first use would be an import that nobody can read: `sources` follows imports."""
    lazy = {name: lazy_names(name) for name, path in MODULES.items() if path.name == "__init__.py"}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module) in lazy:
                hidden = {alias.name for alias in node.names} & lazy[str(node.module)]
                assert not hidden, (
                    f"{module} imports {hidden} from {node.module}, which loads it on first use"
                )


LATE = re.compile(r"# late[:,]")


def test_an_import_inside_a_function_says_that_it_is_for_a_lean_start() -> None:
    """Commands import what they need when they run (`aimc-sim --help` loads nothing); elsewhere a comment gives the
    reason. None hides an import upwards: `imported` sees them all."""
    for module, path in MODULES.items():
        if part_of(module) == "cli":
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        for function in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            ours = [
                node for node in ast.walk(function)
                if (isinstance(node, ast.ImportFrom) and str(node.module).startswith("aimc_sim"))
                or (isinstance(node, ast.Import) and any(a.name.startswith("aimc_sim") for a in node.names))
            ]  # fmt: skip
            if ours:
                first = min(node.lineno for node in ours)
                assert any(LATE.search(line) for line in lines[max(first - 3, 0) : first]), f"{path}:{first}"


def run_elsewhere(program: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_importing_aimc_sim_is_lean(tmp_path: Path) -> None:
    program = """
import sys, threading
import aimc_sim
heavy = {"torch", "transformers", "numba", "scipy", "h5py", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
assert threading.active_count() == 1
try:
    tasks = len(__import__("os").listdir("/proc/self/task"))
except FileNotFoundError:
    tasks = 1
assert tasks == 1, tasks
"""
    assert run_elsewhere(program, tmp_path) == ""


def test_the_kernels_start_no_threads_and_import_no_torch(tmp_path: Path) -> None:
    program = """
import importlib, pkgutil, sys, os
import numpy
before = len(os.listdir("/proc/self/task"))
import aimc_sim.kernels
for found in pkgutil.iter_modules(aimc_sim.kernels.__path__):
    if found.name != "triton":
        importlib.import_module(f"aimc_sim.kernels.{found.name}")
assert "torch" not in sys.modules
assert len(os.listdir("/proc/self/task")) == before
"""
    assert run_elsewhere(program, tmp_path) == ""


def test_top_level_names_stay_free(tmp_path: Path) -> None:
    program = """
import importlib.util
print([name for name in ("kernels", "models") if importlib.util.find_spec(name)])
"""
    assert run_elsewhere(program, tmp_path) == "[]\n"


def test_every_public_name_is_there_after_every_module_was_imported(tmp_path: Path) -> None:
    """A module of the same name as a public function would take its place as soon as something imports it."""
    program = f"""
import importlib, types
modules = [importlib.import_module(name) for name in {sorted(importable())}]
for module in modules:
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        assert not isinstance(value, types.ModuleType), (module, name)
        assert name in dir(module), (module, name)
import aimc_sim
try:
    aimc_sim.nothing
except AttributeError as error:
    print(error)
"""
    assert run_elsewhere(program, tmp_path) == "module 'aimc_sim' has no attribute 'nothing'\n"


def importable() -> set[str]:
    """Every module but those that run when imported, or need what a machine may lack."""
    return {
        name
        for name in MODULES
        if not name.endswith("__main__") and not name.startswith("aimc_sim.kernels.triton.")
    } - {"aimc_sim.evaluate.harness", "aimc_sim.testing.pytest_plugin"}


def test_nothing_newer_than_python_3_10_is_imported() -> None:
    newer = {
        "typing": {"Self", "Never", "LiteralString", "Unpack", "TypeVarTuple", "Required", "NotRequired", "override",
                   "assert_never", "assert_type", "reveal_type", "dataclass_transform"},
        "enum": {"StrEnum", "verify"},
        "datetime": {"UTC"},
    }  # fmt: skip
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                late = newer.get(node.module or "", set()) & {alias.name for alias in node.names}
                assert not late, f"{module} imports {late} of {node.module}, which Python 3.10 does not have"
