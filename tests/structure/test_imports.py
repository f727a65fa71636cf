"""Imports run one way (DESIGN: hardware, kernels ← devices ← weightfile ← chip ← bridge ← evaluate ← signoff ← cli)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "aimc_sim": ROOT / "aimc_sim",
    "aimc_sim.kernels": ROOT / "kernels",
    "aimc_sim.models": ROOT / "models",
}

# A module may import from ranks below its own, and from its own name. The longest prefix decides.
RANKS = [
    {"errors"},
    {"units", "spec"},
    {"randomness"},
    {"kernels"},
    {"devices", "processes"},
    {"converters", "imperfections", "transforms", "weights", "fault_map"},
    {"placement"},
    {"hardware_checks", "imperfection_checks"},
    {"hardware"},
    {"mapping", "wires"},
    {"models"},
    {"weightfile", "weightfile_adapters", "weightfile_checks", "weightfile_layout", "weightfile_write"},
    {"execute", "wires_torch"},
    {"fault_sites", "temperature", "input_codes"},
    {"periphery", "cell_wires", "saturation"},
    {"repair", "compensation"},
    {"cell_array", "converted_columns"},
    {"cell_matrix"},
    {"chip"},
    {"calibrate_rules"},
    {
        "torch_bridge",
        "programming",
        "sampling",
        "calibrate",
        "calibrate_cache",
        "calibrate_moments",
        "export",
    },
    {"evaluate"},
    {"train"},
    {"report_parts"},
    {"sizing", "deploy"},
    {"signoff"},
    {"explain"},
    {"cli"},
]
ONE_PART = [  # parts of several files, which may import each other
    {"weightfile", "weightfile_adapters", "weightfile_checks", "weightfile_layout", "weightfile_write"},
    {
        "torch_bridge",
        "programming",
        "sampling",
        "calibrate",
        "calibrate_cache",
        "calibrate_moments",
        "export",
    },
]
FREE = {"", "testing"}  # the package itself (lazy) and the public test kit, which only tests import


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            found[name] = path
    return found


def part_of(module: str) -> str:
    """aimc_sim.devices.pcm → devices; aimc_sim → ''."""
    return [*module.split("."), ""][1]


def imported(module: str, path: Path) -> set[str]:
    """Every module of ours that this file imports, at any depth of its code, except for type checking only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            typing_only |= {inner for line in node.body for inner in ast.walk(line)}
    found: set[str] = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, base]).rstrip(".")
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in found if name == "aimc_sim" or name.startswith("aimc_sim.")}


def rank(part: str) -> int:
    for index, parts in enumerate(RANKS):
        if part in parts:
            return index
    raise AssertionError(f"aimc_sim/{part} has no place in the order of imports: give it one in {__file__}")


MODULES = modules()


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    here = part_of(module)
    if here in FREE:
        return
    for name in sorted(imported(module, MODULES[module])):
        there = part_of(name)
        if there == "__version__":
            continue
        assert there not in FREE, (
            f"{module} imports {name}: the product does not import its package or test kit"
        )
        own = here != "models" or there in {"models", "errors"}
        assert own, f"{module} imports {name}: models knows nothing of ours but the errors"
        together = here == there or any({here, there} <= parts for parts in ONE_PART)
        assert together or rank(there) < rank(here), f"{module} imports {name}, which stands above it"


def test_kernels_import_no_configuration() -> None:
    for module, path in MODULES.items():
        if part_of(module) == "kernels":
            assert {part_of(name) for name in imported(module, path)} <= {"kernels"}, module


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


def test_every_public_name_loads_on_first_use(tmp_path: Path) -> None:
    program = """
import aimc_sim, types
for name in aimc_sim.__all__:
    getattr(aimc_sim, name)
assert not isinstance(aimc_sim.export, types.ModuleType)
import aimc_sim.export
assert callable(aimc_sim.export), "the function, after the module of the same name was imported"
assert set(aimc_sim.__all__) <= set(dir(aimc_sim))
try:
    aimc_sim.nothing
except AttributeError as error:
    print(error)
"""
    assert run_elsewhere(program, tmp_path) == "module 'aimc_sim' has no attribute 'nothing'\n"


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
