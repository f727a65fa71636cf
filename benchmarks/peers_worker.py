"""Inside the peers' environment: one JSON line in, one out; prepares and times what it is asked for.

Started by `benchmarks.peers` as ``PEERS_PYTHON -m benchmarks.peers_worker THREADS``. Imports nothing of aimc-sim, and
peers only by name, so that it is checked and tested where none is installed. What a peer prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from benchmarks.harness import Pair, seconds, side_by_side

DAY_S = 86_400.0
STEPS = 2**8 - 2  # of an 8-bit converter, as the peers count them
ADC_BOUND = 12.0  # full-scale weights × inputs
FEWEST, MOST = 3, 61  # pairs in a round


class Product(Protocol):
    """One layer, ready to be multiplied with."""

    def __call__(self, x: Any, /) -> Any: ...


def aihwkit(w: Any, tile_rows: int, read_noise: bool, cpp: bool) -> Product:
    """aihwkit's layer a day after programming, on its Torch tile or its C++ tile.

    Read noise: on the C++ tile from every cell (its PCM_READ); the Torch tile has one σ for all outputs.
    """
    configs = import_module("aihwkit.simulator.configs")
    enums = import_module("aihwkit.simulator.parameters.enums")
    inference = import_module("aihwkit.inference")
    noise: dict[str, Any] = {"out_noise": 0.0}
    if read_noise:
        noise = (
            {"w_noise": 0.0175, "w_noise_type": enums.WeightNoiseType.PCM_READ}
            if cpp
            else {"out_noise": 0.06}
        )
    config = (configs.InferenceRPUConfig if cpp else configs.TorchInferenceRPUConfig)()
    config.forward = configs.IOParameters(**{
        "inp_res": STEPS, "out_res": STEPS, "inp_bound": 1.0, "out_bound": ADC_BOUND, "inp_noise": 0.0,
        "out_noise": 0.0, "noise_management": enums.NoiseManagementType.ABS_MAX,
        "bound_management": enums.BoundManagementType.NONE, **noise,
    })  # fmt: skip
    config.mapping = configs.MappingParameter(
        weight_scaling_omega=1.0,
        weight_scaling_columnwise=True,
        max_input_size=tile_rows,
        max_output_size=tile_rows,
    )
    config.noise_model = inference.PCMLikeNoiseModel(g_max=25.0)
    config.drift_compensation = inference.GlobalDriftCompensation()
    layer = import_module("aihwkit.nn").AnalogLinearMapped.from_digital(_digital(w), config)
    layer.eval()
    for tile in layer.analog_tiles():
        tile.program_weights()
        tile.drift_weights(DAY_S)
    return layer  # type: ignore[no-any-return]


def lightning(w: Any, tile_rows: int, read_noise: bool) -> Product:
    """aihwkit-lightning's layer: it has no device model, so its weights are exact.

    In place of read noise, its output noise of one σ, which it adds only in training mode.
    """
    config = import_module("aihwkit_lightning.simulator.configs").TorchInferenceRPUConfig()
    parameters = import_module("aihwkit_lightning.simulator.parameters")
    config.forward.inp_res = config.forward.out_res = STEPS
    config.forward.out_bound = ADC_BOUND
    config.forward.out_noise = 0.06 if read_noise else 0.0
    config.mapping.max_input_size = tile_rows
    config.clip.type = parameters.WeightClipType.LAYER_GAUSSIAN_PER_CHANNEL  # an ADC full scale per column
    ranges = config.pre_post.input_range
    ranges.enable, ranges.dynamic, ranges.learn_input_range, ranges.init_from_data = True, True, False, 0
    layer = import_module("aihwkit_lightning.nn").AnalogLinear.from_digital(_digital(w), config)
    layer.train(read_noise)
    return layer  # type: ignore[no-any-return]


def _digital(w: Any) -> Any:
    import torch

    layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(w)
    return layer


MAKERS: dict[str, Callable[[Any, int, bool], Product]] = {
    "aihwkit, Torch tile": lambda w, rows, noise: aihwkit(w, rows, noise, cpp=False),
    "aihwkit, C++ tile": lambda w, rows, noise: aihwkit(w, rows, noise, cpp=True),
    "aihwkit-lightning": lightning,
}


def timed(product: Callable[[], object], rival: Callable[[], object], budget_s: float) -> Pair:
    """One round: as many pairs as the budget allows, within bounds."""
    product()
    cost = seconds(product) + seconds(rival)
    return side_by_side(product, rival, max(FEWEST, min(MOST, int(budget_s / cost))), warmup=1)


def peak_mib(call: Callable[[], Any]) -> tuple[Any, float] | None:
    """What call returns, and the most memory in MiB that it held above what was there before; None off Linux."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again here
        before = _status_mib("VmRSS")
        result = call()
        return result, _status_mib("VmHWM") - before
    except (OSError, StopIteration):
        return None


def _status_mib(key: str) -> float:
    with open("/proc/self/status", encoding="utf-8") as file:
        return int(next(line for line in file if line.startswith(key)).split()[1]) / 1024


class Worker:
    """What the lines ask for: `prepare` then `round`, `program` then `scratch`."""

    def __init__(self) -> None:
        self.layer: Product | None = None
        self.x: Any = None
        self.w: Any = None

    def versions(self, names: list[str]) -> dict[str, Any]:
        """Installed versions by distribution name."""
        return {name: version(name) for name in names}

    def prepare(self, maker: str, w: str, x: str, tile_rows: int, read_noise: bool) -> dict[str, Any]:
        """A layer, and its relative error against the digital one: it did what it was asked."""
        import numpy as np
        import torch

        self.w, self.x = torch.from_numpy(np.load(w)), torch.from_numpy(np.load(x))
        self.layer = MAKERS[maker](self.w, tile_rows, read_noise)
        with torch.inference_mode():
            exact = torch.nn.functional.linear(self.x, self.w)
            return {"error": float((self.layer(self.x) - exact).norm() / exact.norm())}

    def round(self, budget_s: float) -> dict[str, Any]:
        """The layer against float32 linear, in turn."""
        import torch

        layer, x, w = self.layer, self.x, self.w
        assert layer is not None
        with torch.inference_mode():
            pair = timed(lambda: layer(x), lambda: torch.nn.functional.linear(x, w), budget_s)
        return {"a_s": pair.a_s, "b_s": pair.b_s, "ratio": pair.ratio}

    def program(self, w: str, scratch: bool) -> dict[str, Any]:
        """aihwkit's programming and then its drift by a day: seconds each, or MiB of scratch each.

        Scratch is the peak above what was there before and above what the step returns.
        """
        import numpy as np
        import torch

        weights = torch.from_numpy(np.load(w))
        weights /= weights.abs().max()
        model = import_module("aihwkit.inference").PCMLikeNoiseModel(g_max=25.0)
        kept: dict[str, Any] = {}

        def programming() -> None:
            kept["programmed"], kept["nu"] = model.apply_programming_noise(weights)

        def drift() -> None:
            kept["drifted"] = model.apply_drift_noise(kept["programmed"], kept["nu"], DAY_S)

        if not scratch:
            return {"programming": seconds(programming), "drift": seconds(drift)}
        layer_mib = weights.numel() * weights.element_size() / 2**20
        peaks = {name: peak_mib(step) for name, step in (("programming", programming), ("drift", drift))}
        keeps = {"programming": (1 + len(kept["nu"])) * layer_mib, "drift": layer_mib}
        return {name: None if found is None else found[1] - keeps[name] for name, found in peaks.items()}


def serve(worker: Worker, lines: Any, answers: Any) -> None:
    """Answer every line; an error is an answer too."""
    for line in lines:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # whatever a peer raises: it becomes a row
            answer = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Talk on the standard output, which peers must not print to."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        import torch

        torch.set_num_threads(int(sys.argv[1]))
        serve(Worker(), sys.stdin, answers)


if __name__ == "__main__":
    main()
