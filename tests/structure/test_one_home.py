"""One home for each machine: what only one module may do, by syntax and not by name of the function around it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from helpers.tree import MODULES


@dataclass(frozen=True)
class Machine:
    """does: whether a node of a module's syntax does it. homes: the modules that may, and what each does it for."""

    does: Callable[[ast.AST], bool]
    homes: dict[str, str]


def dotted(node: ast.AST) -> str:
    """``np.rint`` of the expression np.rint; what is not a name is left out: ``.round`` of (x / 2).round."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(pattern: str) -> Callable[[ast.AST], bool]:
    """Whether a node calls what has such a dotted name."""
    return lambda node: isinstance(node, ast.Call) and bool(re.fullmatch(pattern, dotted(node.func)))


def imports(pattern: str) -> Callable[[ast.AST], bool]:
    """Whether a node imports such a name, ``module`` or ``module.name``."""

    def does(node: ast.AST) -> bool:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        return any(re.match(pattern, name) for name in names)

    return does


def says(pattern: str) -> Callable[[ast.AST], bool]:
    """Whether a node is a text, or a piece of one, in which this stands."""
    return lambda node: (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and bool(re.search(pattern, node.value))
    )


def either(*does: Callable[[ast.AST], bool]) -> Callable[[ast.AST], bool]:
    """Whether a node does one of these."""
    return lambda node: any(each(node) for each in does)


HOOKS = r".*\.register_(forward|full_backward)(_pre)?_hook"
MACHINES = {
    "hooks on what a model computes": Machine(
        calls(HOOKS),
        {
            "aimc_sim.torch_bridge.inputs": "inputs and products of matrices",
            "aimc_sim.torch_bridge.adapter": "an adapter beside a matrix",
            "aimc_sim.torch_bridge.coverage": "which module computes",
            "aimc_sim.torch_bridge.rows": "names of rows; the head's last position",
            "aimc_sim.torch_bridge.streaming": "letting go of a layer's weights",
            "aimc_sim.torch_bridge.training.ranges": "first values of learned ranges",
        },
    ),
    "processes beside this one": Machine(
        imports(r"multiprocessing|concurrent\.futures\.(process|ProcessPool)|loky|joblib|ray($|\.)"),
        {
            "aimc_sim.studies.workers": "a worker a core",
            "aimc_sim.signoff.execution.engine_ray": "workers of a Ray cluster",
        },
    ),
    "databases": Machine(calls(r"sqlite3\.connect"), {"aimc_sim.studies.store": "every study's measurements"}),
    "a file that takes another's place": Machine(
        calls(r"os\.(replace|rename)|shutil\.move"), {"aimc_sim.files": "every file of ours"}
    ),
    "drawings": Machine(
        says(r"<(svg|path|line|rect|circle|polyline|polygon|ellipse|text|tspan)\b"),
        {"aimc_sim.report.charts": "every chart"},
    ),
    # Every rounding of arrays, so that a DAC or an ADC cannot be written out anew.
    "rounding": Machine(
        either(calls(r"(.*\.)?(rint|nearbyint)|.*\.round_?"), says("^rint$")),
        {
            "aimc_sim.kernels.converters": "DAC and ADC, NumPy and Numba",
            "aimc_sim.kernels.adc": "ADC, in vector registers",
            "aimc_sim.kernels.triton.converters": "DAC and ADC, Triton",
            "aimc_sim.torch_bridge.converters": "DAC and ADC, torch, where autograd and GPUs need it",
            "aimc_sim.chip.array": "readouts",
            "aimc_sim.kernels.cells": "readouts",
            "aimc_sim.kernels.conductance": "readouts",
            "aimc_sim.kernels.triton.conductance": "readouts",
            "aimc_sim.chip.draws": "steps of a trim",
            "aimc_sim.hardware.cells": "codes of weights",
            "aimc_sim.kernels.grid_scale": "codes of a quantised checkpoint",
            "aimc_sim.kernels.panels": "the grid of effective weights",
            "aimc_sim.tiles.input_codes": "the grid of a curve's weights",
            "aimc_sim.kernels.reads": "steps of a DAC's curve",
            "aimc_sim.kernels.read_noise": "steps of read noise",
            "aimc_sim.kernels.elementary": "range reduction",
            "aimc_sim.kernels.triton.elementary": "range reduction",
            "aimc_sim.kernels.wires": "a power of two",
            "aimc_sim.wires": "which tiles are spot-checked",
            "aimc_sim.evaluate.questions": "whether answers are whole numbers",
            "aimc_sim.sizing.cost.designs": "whether numbers are whole",
            "aimc_sim.testing.strategies": "weights on a grid",
        },
    ),
    # The range that counts as none; other packages have other numbers, from 1e-300 on.
    "a range that is too small": Machine(
        lambda node: isinstance(node, ast.Constant) and isinstance(node.value, float) and 1e-35 < node.value < 1e-25,
        {"aimc_sim.kernels.converters": "MIN_RANGE"},
    ),
}  # fmt: skip

TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_stands_in_its_homes_alone(machine: str) -> None:
    does, homes = MACHINES[machine].does, MACHINES[machine].homes
    assert {name for name, tree in TREES.items() if any(does(node) for node in ast.walk(tree))} == set(homes)


@pytest.mark.parametrize(
    ("machine", "line"),
    [
        ("hooks on what a model computes", "model.get_submodule(name).register_forward_pre_hook(see)"),
        ("hooks on what a model computes", "layer.register_forward_hook(see, prepend=True)"),
        ("processes beside this one", "from concurrent.futures import ProcessPoolExecutor"),
        ("processes beside this one", "import multiprocessing.pool"),
        ("processes beside this one", "from loky import get_reusable_executor"),
        ("databases", "base = sqlite3.connect(path, timeout=3)"),
        ("a file that takes another's place", "os.replace(draft, path)"),
        ("drawings", "parts.append(f'<circle cx=\"{x}\"/>')"),
        ("rounding", "codes = torch.clamp((x / lsb).round(), -n, n)"),
        ("rounding", "codes = np.rint(x * scale)"),
        ("rounding", "code = row.call('rint', signal)"),
    ],
)
def test_it_is_seen_however_it_is_written(machine: str, line: str) -> None:
    assert any(MACHINES[machine].does(node) for node in ast.walk(ast.parse(line)))
