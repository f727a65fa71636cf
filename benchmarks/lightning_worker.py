"""Inside the peers' environment: what aihwkit-lightning computes, costs, and says to our exported checkpoints.

Started by `benchmarks.lightning` as ``PEERS_PYTHON -m benchmarks.lightning_worker THREADS``: one JSON line in, one out.
Imports nothing of aimc-sim.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import lightning_cases as cases
from benchmarks.peers_worker import peak_mib, serve, timed

BITS = 2**8 - 2  # steps of an 8-bit converter


def configuration(table: dict[str, Any]) -> Any:
    """A TorchInferenceRPUConfig from ``rpu_config.json``: dotted names, enums by their value."""
    config = import_module("aihwkit_lightning.simulator.configs").TorchInferenceRPUConfig()
    for name, value in table.items():
        *path, leaf = name.split(".")
        part = config
        for step in path:
            part = getattr(part, step)
        old = getattr(part, leaf)
        setattr(part, leaf, value if isinstance(old, (bool, int, float)) else type(old)(value))
    return config


def settings_of(case: cases.Case) -> dict[str, Any]:
    """The configuration of a case."""
    return {
        "forward.inp_res": BITS if case.dac else -1,
        "forward.out_res": BITS if case.adc else -1,
        "forward.out_bound": float(case.lambda_) if case.adc else 0.0,
        "mapping.max_input_size": case.tile_rows or -1,
        "clip.type": "LayerGaussianPerChannel",  # also what makes a full scale one of its column
        "clip.sigma": cases.SIGMA,
        "modifier.quantization_type": "DiscretizePerChannel" if case.weight_levels else "None",
        "modifier.res": float(2 * case.weight_levels),
        "pre_post.input_range.enable": True,
        "pre_post.input_range.dynamic": case.range == "token",
        "pre_post.input_range.init_from_data": 0,
        "pre_post.input_range.decay": cases.DECAY,
        "pre_post.input_range.input_min_percentage": cases.UNCLIPPED,
    }


def layer_of(w: Any, bias: Any, table: dict[str, Any]) -> Any:
    """The peer's layer with these weights."""
    import torch

    digital = torch.nn.Linear(w.shape[1], w.shape[0], bias=bias is not None)
    with torch.no_grad():
        digital.weight.copy_(w)
        if bias is not None:
            digital.bias.copy_(bias)
    return import_module("aihwkit_lightning.nn").AnalogLinear.from_digital(digital, configuration(table))


def read_safetensors(path: Path) -> dict[str, Any]:
    """The float32 tensors of a file, by name: the peers' environment has no package for it."""
    import torch

    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, item in header.items():
        assert item["dtype"] == "F32", name
        start, end = (8 + length + offset for offset in item["data_offsets"])
        values = np.frombuffer(data[start:end], "<f4").reshape(item["shape"])
        found[name] = torch.from_numpy(values.copy())
    return found


class Cost:
    """Forward and backward of ``layer`` against those of Linear with the same weights."""

    layer: Any

    def begin(self, w: str, x: str) -> Any:
        """The weights (N, K), beside Linear, inputs (B, K) and the gradient that comes back."""
        import torch

        weights = torch.from_numpy(np.load(w))
        self.linear = torch.nn.Linear(weights.shape[1], weights.shape[0], bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(weights)
        self.x = torch.from_numpy(np.load(x)).requires_grad_()
        self.g = torch.ones(len(self.x), len(weights)) / len(weights)
        return weights

    def before(self, layer: Any) -> None:
        """What a training loop does before every forward."""

    def step(self, layer: Any) -> None:
        """One forward and backward from fresh gradients."""
        layer.zero_grad(set_to_none=True)
        self.x.grad = None
        self.before(layer)
        import torch

        torch.autograd.backward(layer(self.x), self.g)

    def round(self, budget_s: float) -> dict[str, Any]:
        """In turn, within a time."""
        pair = timed(lambda: self.step(self.layer), lambda: self.step(self.linear), budget_s)
        return {"a_s": pair.a_s, "b_s": pair.b_s, "ratio": pair.ratio}

    def memory(self) -> dict[str, Any]:
        """Peak MiB of a step above that of Linear's. The last question: the allocator no longer keeps what is freed."""
        peaks: list[float] = []
        for layer in (self.layer, self.linear):
            self.step(layer)
            layer.zero_grad(set_to_none=True)
            self.x.grad = None
            return_freed_memory()
            found = peak_mib(lambda: self.step(layer))  # noqa: B023
            if found is None:
                return {"extra_mib": None}
            peaks.append(found[1])
        return {"extra_mib": peaks[0] - peaks[1]}


def return_freed_memory() -> None:
    """Make glibc give memory back as it is freed, so that a step's peak is its own; elsewhere nothing happens."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 16)  # M_MMAP_THRESHOLD
        libc.malloc_trim(0)
    except (OSError, AttributeError):
        return


class Worker(Cost):
    """What the lines ask for."""

    def versions(self) -> dict[str, Any]:
        """Of the peer and its torch."""
        return {name: version(name) for name in ("aihwkit-lightning", "torch")}

    def gradients(self, name: str) -> dict[str, Any]:
        """Forward and backward of a case in training mode: y, and gradients to x, w, bias and beta."""
        import torch

        case = next(case for case in (*cases.RECORDED, *cases.LARGE) if case.name == name)
        a = {key: torch.from_numpy(value) for key, value in case.arrays().items()}
        layer = layer_of(a["w"], a["bias"] if case.bias else None, settings_of(case)).train()
        if layer.input_range is not None:
            layer.input_range.data.copy_(a["beta"])
        x = a["x"].clone().requires_grad_()
        y = layer(x)
        torch.autograd.backward(y, a["g"])
        found = {"y": y, "x": x.grad, "w": layer.weight.grad, "bias": case.bias and layer.bias.grad,
                 "beta": layer.input_range is not None and layer.input_range.grad}  # fmt: skip
        return {
            key: value.detach().tolist() for key, value in found.items() if isinstance(value, torch.Tensor)
        }

    def functions(self) -> dict[str, Any]:
        """The output quantiser alone, the clipping of weights, and the ranges after their first forwards."""
        import torch

        quantise = import_module("aihwkit_lightning.nn.modules.torch_utils.quant_utils").UniformQuantize
        a = {key: torch.from_numpy(value) for key, value in cases.quantised_outputs().items()}
        y, bound = a["y"].clone().requires_grad_(), a["bound"].view(1, -1)
        q = torch.clamp(quantise.apply(y, BITS, bound, True, False, None, False), min=-bound, max=bound)
        torch.autograd.backward(q, a["g"])
        assert y.grad is not None
        clipping = layer_of(torch.from_numpy(cases.clipped_weights()), None, settings_of(cases.RECORDED[0]))
        clipping.clip_weights()
        begun = settings_of(cases.RECORDED[3]) | {
            "pre_post.input_range.init_from_data": cases.FORWARDS,
            "pre_post.input_range.init_std_alpha": cases.KAPPA,
        }
        starting = layer_of(torch.from_numpy(cases.RECORDED[3].arrays()["w"]), None, begun).train()
        for step in range(cases.FORWARDS + 1):
            starting(torch.from_numpy(cases.beginning(step)))
        return {
            "quantize_output": {"y": q.detach().tolist(), "x": y.grad.tolist()},
            "clip_weights": clipping.weight.detach().tolist(),
            "beginning": starting.input_range.detach().tolist(),
        }

    def load(self, folder: str, x: str) -> dict[str, Any]:
        """An exported model of Linear layers: converted as its settings say, its state dict loaded strictly.

        Answers the output of every analog layer for the first K numbers of every input (B, …), and which stay digital.
        """
        import torch

        state = read_safetensors(Path(folder) / "model.safetensors")
        document = json.loads((Path(folder) / "rpu_config.json").read_text(encoding="utf-8"))
        model = torch.nn.ModuleDict()
        for name in [key.removesuffix(".weight") for key in state if key.endswith(".weight")]:
            *path, leaf = name.split(".")
            part = model
            for step in path:
                if step not in part:
                    part[step] = torch.nn.ModuleDict()
                part = part[step]  # type: ignore[assignment]
            cols, rows = state[f"{name}.weight"].shape
            part[leaf] = torch.nn.Linear(rows, cols, bias=f"{name}.bias" in state)
        convert = import_module("aihwkit_lightning.nn.conversion").convert_to_analog
        config = configuration(document["rpu_config"])
        analog = convert(model, config, exclude_modules=document["exclude_modules"]).eval()
        analog.load_state_dict(state, strict=True)
        inputs = torch.from_numpy(np.load(x))
        with torch.no_grad():
            outputs = {
                name: layer(inputs[:, : layer.in_features]).tolist()
                for name, layer in analog.named_analog_layers()
            }
        return {"outputs": outputs, "digital": document["exclude_modules"]}

    def prepare(self, w: str, x: str, tile_rows: int | None) -> dict[str, Any]:
        """A layer as it is trained: static ranges, 8-bit converters, Gaussian noise per column."""
        table = settings_of(cases.Case("", tile_rows=tile_rows)) | {
            "forward.out_bound": 14.0,
            "modifier.noise_type": "AddNormalPerChannel",
            "modifier.std_dev": 0.03,
        }
        self.layer = layer_of(self.begin(w, x), None, table).train()
        self.layer.input_range.data.fill_(4.0)
        return {}


def main() -> None:
    """Talk on the standard output, which the peer must not print to."""
    import torch

    torch.set_num_threads(int(sys.argv[1]))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        worker: Any = Worker()
        serve(worker, sys.stdin, answers)


if __name__ == "__main__":
    main()
