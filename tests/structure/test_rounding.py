"""A code of a DAC or an ADC is rounded in one module a backend, and whatever else rounds is listed with what it is."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONVERTERS = {
    "kernels/converters.py": "NumPy and Numba",
    "kernels/adc.py": "the ADC in vector registers",
    "kernels/triton/converters.py": "Triton",
    "aimc_sim/torch_bridge/converters.py": "torch, where autograd and GPUs need it",
}
OTHERS = {
    "kernels/cells.py": "readouts as integers",
    "kernels/conductance.py": "readouts as integers",
    "kernels/elementary.py": "the exponent of a power",
    "kernels/grid_scale.py": "whether a weight is a multiple of a step",
    "kernels/panels.py": "effective weights on 16 bits",
    "kernels/read_noise.py": "variances on 8 bits",
    "kernels/reads.py": "the curve of a DAC as whole numbers",
    "kernels/triton/conductance.py": "readouts as integers",
    "kernels/triton/elementary.py": "rint itself, and the exponent of a power",
    "aimc_sim/chip/array.py": "readouts as integers",
    "aimc_sim/chip/draws.py": "a trim",
    "aimc_sim/evaluate/questions.py": "whether an answer is a whole number",
    "aimc_sim/hardware/cells.py": "codes of weights",
    "aimc_sim/sizing/cost/designs.py": "whether a field is a whole number",
    "aimc_sim/testing/strategies.py": "codes of weights",
    "aimc_sim/tiles/input_codes.py": "effective weights on 16 bits",
    "aimc_sim/wires.py": "which tiles are looked at",
    "kernels/wires.py": "a power of two",
}


def rounds(call: ast.Call) -> bool:
    """np.rint, np.round, torch.round, Triton's rint and LLVM's; a method ``round()``; not Python's own of a number."""
    function = call.func
    if isinstance(function, ast.Attribute):
        named = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
        return function.attr in ("rint", "round", "round_") or "rint" in named
    return isinstance(function, ast.Name) and function.id == "rint"


def test_converters_round_in_one_module_a_backend() -> None:
    found = {
        str(path.relative_to(ROOT))
        for folder in ("kernels", "aimc_sim")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and rounds(node)
    }
    assert found == CONVERTERS.keys() | OTHERS.keys()


def test_a_range_that_counts_as_none_is_one_number() -> None:
    """Numbers from 1e-35 to 1e-25 in code; other packages have other ones, from 1e-300 on."""
    homes = [
        str(path.relative_to(ROOT))
        for folder in ("kernels", "aimc_sim")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, float) and 1e-35 < node.value < 1e-25
    ]
    assert homes == ["kernels/converters.py"]
