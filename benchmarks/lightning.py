"""Training beside aihwkit-lightning: are the gradients the same, does it load what we export, and what does each cost?

``python -m benchmarks.lightning`` makes the peers' environment where there is none (`benchmarks.peers_install`), in
which aihwkit-lightning meets the torch that it is made for. ``--record`` writes what the tests compare with.
Cost: forward and backward of one layer of 2048 × 2048, with static ranges, 8-bit DAC and ADC and fresh weight noise,
against `torch.nn.Linear` in the same process, in turn; and the peak of memory above that of Linear's.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aimc_sim.errors import BadInput
from benchmarks import lightning_cases as cases
from benchmarks.harness import Row, command_line, machine, show, two_threads
from benchmarks.lightning_worker import Cost
from benchmarks.peers import Peer
from benchmarks.peers_install import Environment, default_folder, environment
from benchmarks.peers_worker import serve
from benchmarks.tile_product import gaussian

if TYPE_CHECKING:
    from aimc_sim.hardware import Hardware
    from aimc_sim.torch_bridge.training.spec import Training

PEER, OURS = "aihwkit-lightning", "aimc-sim"
RECORD = Path(__file__).parents[1] / "tests" / "torch_bridge" / "training" / "lightning.json"
AGREES = 1e-6
SIZE, THREADS = 2048, 2
TOKENS = (512, 128)
TILES = (512, None)
GOALS = {
    (512, 512): 1.3,
    (512, None): 1.2,
    (128, 512): 1.6,
    (128, None): 1.6,
}  # (tokens, rows a tile) × Linear
SMALLEST = {"SIZE": 64, "TOKENS": (8,), "TILES": (32, None), "GOALS": {(8, 32): 1.6, (8, None): 1.6}, "ROUNDS": 1,
            "BUDGET_S": 0.0}  # fmt: skip
EXTRA = 0.15  # of the layer's activations and weights
ROUNDS, BUDGET_S = 5, 4.0


def hardware_of(case: cases.Case) -> Hardware:
    """Exact cells behind the converters of a case."""
    from aimc_sim.hardware import Hardware

    static = {"method": "std", "kappa": cases.KAPPA, "per": "tile"}
    ranges = static if case.range == "static" else {"method": "per_token", "per": "tile"}
    table: dict[str, Any] = {"name": "case", "device": "ideal", "tile": {"rows": case.tile_rows}}
    if case.dac:
        table["dac"] = {"bits": 8, "range": ranges}
    if case.adc:
        table["adc"] = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": float(case.lambda_)}}
    return Hardware.load(table)


def training_of(case: cases.Case, **changes: Any) -> Training:
    """The deterministic part of training."""
    from aimc_sim.torch_bridge.training.spec import Training

    bits = (case.weight_levels + 1).bit_length() if case.weight_levels else None
    settings = {"range_decay": cases.DECAY, "range_unclipped": cases.UNCLIPPED, "weight_bits": bits}
    return Training(**{"noise": None, "clip_sigma": None, **settings, **changes})


def layer_of(case: cases.Case, w: Any, bias: Any = None, beta: Any = None, **changes: Any) -> Any:
    """Our layer with these weights and ranges; ranges None: they are still to be begun."""
    import torch

    from aimc_sim.chip.ranges import MatrixRange
    from aimc_sim.torch_bridge import AnalogLinear

    linear = torch.nn.Linear(w.shape[1], w.shape[0], bias=bias is not None)
    with torch.no_grad():
        linear.weight.copy_(torch.as_tensor(w))
        if bias is not None:
            linear.bias.copy_(torch.as_tensor(bias))
    ranges = None if beta is None else MatrixRange(np.asarray(beta, np.float32))
    return AnalogLinear.from_linear(linear, hardware_of(case), training_of(case, **changes), ranges=ranges)


def gradients(case: cases.Case) -> dict[str, Any]:
    """What `lightning_worker` answers, of our layer: y, and gradients to x, w, bias and beta."""
    import torch

    arrays = case.arrays()
    static = case.range == "static"
    layer = layer_of(
        case, arrays["w"], arrays["bias"] if case.bias else None, arrays["beta"] if static else None
    ).train()
    x = torch.from_numpy(arrays["x"]).requires_grad_()
    y = layer(x)
    (y * torch.from_numpy(arrays["g"])).sum().backward()
    found = {"y": y, "x": x.grad, "w": layer.weight.grad, "bias": layer.bias.grad if case.bias else None,
             "beta": layer.input_range.value.grad if static else None}  # fmt: skip
    return {key: value.detach().numpy() for key, value in found.items() if value is not None}


def functions() -> dict[str, Any]:
    """The same of our functions: the output quantiser, the clipping of weights, the beginning of ranges."""
    import torch

    from aimc_sim.torch_bridge import clip_weights, initialising_ranges, quantize_output

    a = {key: torch.from_numpy(value) for key, value in cases.quantised_outputs().items()}
    y = a["y"].requires_grad_()
    q = quantize_output(y, a["bound"], 8)
    torch.autograd.backward(q, a["g"])
    assert y.grad is not None
    clipping = layer_of(cases.RECORDED[0], cases.clipped_weights(), beta=[1.0], clip_sigma=cases.SIGMA)
    clip_weights(clipping)
    case = next(case for case in cases.RECORDED if case.tiles == 3)
    starting = layer_of(case, case.arrays()["w"], range_forwards=cases.FORWARDS).train()
    with initialising_ranges(starting), torch.no_grad():
        for step in range(cases.FORWARDS + 1):
            starting(torch.from_numpy(cases.beginning(step)))
    return {
        "quantize_output": {"y": q.detach().numpy(), "x": y.grad.numpy()},
        "clip_weights": clipping.weight.detach().numpy(),
        "beginning": starting.input_range.value.detach().numpy(),
    }


def agreement(peer: Peer) -> list[Row]:
    """Largest differences of outputs and gradients, case by case, and of the functions."""
    rows = []
    for case in (*cases.RECORDED, *cases.LARGE):
        theirs = peer.ask("gradients", name=case.name)
        ours = gradients(case)
        rows.append(Row(f"{case.name}: y and gradients", _worst(ours, theirs), "of the largest", AGREES))
    for name, wanted in peer.ask("functions").items():
        if name == "failed":
            return [*rows, Row(f"functions: {wanted}", math.nan, "", AGREES)]
        found = functions()[name]
        pairs = (found, wanted) if isinstance(wanted, dict) else ({"": found}, {"": wanted})
        rows.append(Row(name, _worst(*pairs), "of the largest", AGREES))
    return rows


def _worst(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    if set(ours) != set(theirs):
        return math.nan
    return max(cases.largest_difference(ours[key], theirs[key]) for key in ours)


def loading(peer: Peer) -> list[Row]:
    """Export → strict loading there → its products against ours, untiled and tiled."""
    import torch

    from aimc_sim.torch_bridge.training.interchange import export_lightning

    rows = []
    for case in (cases.LARGE[0], cases.LARGE[1]):
        arrays = case.arrays()
        layers = {
            "block.first": layer_of(case, arrays["w"], arrays["bias"], arrays["beta"]),
            "block.second": layer_of(case, -arrays["w"][::-1].copy(), None, arrays["beta"] / 2),
        }
        block = torch.nn.ModuleDict({name.partition(".")[2]: layer for name, layer in layers.items()})
        model = torch.nn.ModuleDict({"block": block, "digital": torch.nn.Linear(8, 4)}).eval()
        with tempfile.TemporaryDirectory(prefix="aimc-lightning-") as folder:
            export_lightning(model, Path(folder) / "there")
            np.save(Path(folder) / "x.npy", arrays["x"])
            answer = peer.ask("load", folder=str(Path(folder) / "there"), x=str(Path(folder) / "x.npy"))
        title = f"exported, loaded there strictly, {case.name}: y"
        if "failed" in answer or answer["digital"] != ["digital"]:
            rows.append(Row(f"{title}: {answer.get('failed', answer)}", math.nan, "", AGREES))
            continue
        with torch.no_grad():
            ours = {name: layer(torch.from_numpy(arrays["x"])).numpy() for name, layer in layers.items()}
        rows.append(Row(title, _worst(ours, answer["outputs"]), "of the largest", AGREES))
    return rows


class Ours(Cost):
    """Our side of the cost, in a process of its own as the peer is."""

    def prepare(self, w: str, x: str, tile_rows: int | None) -> dict[str, Any]:
        """The layer that is trained, beside Linear."""
        case = cases.Case("", tokens=1, rows=SIZE, cols=SIZE, tile_rows=tile_rows, lambda_=14)
        beta, noise = np.full(case.tiles, 4.0), {"noise": "gaussian", "gamma": 0.03}
        self.layer = layer_of(case, self.begin(w, x), None, beta, **noise).train()
        self.steps = 0
        return {}

    def before(self, layer: Any) -> None:
        """Names the noise."""
        from aimc_sim.torch_bridge import set_step

        if layer is self.layer:
            self.steps += 1
            set_step(layer, self.steps)


def cost(peers: Environment, rounds: int) -> list[Row]:
    """Ours and theirs in one table, rounds in turn."""
    rows = []
    commands: dict[str, list[str | Path]] = {
        OURS: [sys.executable, "-m", "benchmarks.lightning", "--serve"],
        PEER: [peers.python, "-m", "benchmarks.lightning_worker", str(THREADS)],
    }
    with tempfile.TemporaryDirectory(prefix="aimc-lightning-") as folder:
        w, x = Path(folder) / "w.npy", Path(folder) / "x.npy"
        np.save(w, gaussian((SIZE, SIZE), 1) / np.float32(math.sqrt(SIZE)))
        for tokens in TOKENS:
            np.save(x, gaussian((tokens, SIZE), 2))
            for tile_rows in TILES:
                title = f"{tokens} tokens, {'untiled' if tile_rows is None else f'{tile_rows} rows a tile'}"
                field = {name: Peer(command) for name, command in commands.items()}
                try:
                    rows += _case(title, field, (str(w), str(x)), tokens, tile_rows, rounds)
                finally:
                    for one in field.values():
                        one.close()
    return rows


def _case(
    title: str,
    field: dict[str, Any],
    arrays: tuple[str, str],
    tokens: int,
    tile_rows: int | None,
    rounds: int,
) -> list[Row]:
    ratios: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    for name, one in field.items():
        answer = one.ask("prepare", w=arrays[0], x=arrays[1], tile_rows=tile_rows)
        if "failed" in answer:
            failed[name] = answer["failed"]
    for _ in range(rounds):
        for name, one in field.items():
            if name not in failed:
                answer = one.ask("round", budget_s=BUDGET_S)
                if "failed" in answer:
                    failed[name] = answer["failed"]
                else:
                    ratios.setdefault(name, []).append(answer["ratio"])
    whole_mib = (SIZE * SIZE + 2 * tokens * SIZE) * 4 / 2**20
    rows = []
    for name, one in field.items():
        mine = name == OURS
        if name in failed:
            rows.append(Row(f"{title}: {name} did not run: {failed[name]}", math.nan, ""))
            continue
        goal = GOALS[tokens, tile_rows] if mine else None
        rows.append(Row(f"{title}: {name}", statistics.median(ratios[name]), "of Linear", goal))
        extra = one.ask("memory").get("extra_mib")
        if extra is not None:
            rows.append(Row(f"    extra memory, {name}", extra, "MiB", EXTRA * whole_mib if mine else None))
    return rows


def record(peer: Peer, path: Path) -> None:
    """Write what the tests compare with, as the peer computes it."""
    found = {
        "made by": peer.ask("versions"),
        "cases": {case.name: peer.ask("gradients", name=case.name) for case in cases.RECORDED},
        "functions": peer.ask("functions"),
    }
    for answer in (found["functions"], *found["cases"].values()):
        if "failed" in answer:
            raise BadInput(PEER, why=str(answer["failed"]), do="see benchmarks/lightning_worker.py")
    path.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    question = (__doc__ or "").splitlines()[0]
    parser = command_line(question, globals(), arguments)
    parser.add_argument(
        "--venv", type=Path, help="folder of the peers' environment; default: below the cache folder"
    )
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="rounds of the cost; 0: gradients and loading alone"
    )
    parser.add_argument(
        "--record", action="store_true", help="write tests/torch_bridge/training/lightning.json anew"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)  # our side, as the worker
    options = parser.parse_args(arguments)
    if options.serve:
        two_threads()
        ours: Any = Ours()
        serve(ours, sys.stdin, sys.stdout)
        return 0
    try:
        folder = (options.venv or default_folder()).expanduser().absolute()
        peers = environment(folder, install=not options.smoke)
        if PEER not in peers.versions:
            raise BadInput(
                PEER, why=peers.reasons.get(PEER, "it is not installed"), do="see its own instructions"
            )
        two_threads()
        peer = Peer([peers.python, "-m", "benchmarks.lightning_worker", str(THREADS)])
        try:
            if options.record:
                record(peer, RECORD)
                return 0
            rows = [*agreement(peer), *loading(peer)]
        finally:
            peer.close()
        rows += cost(peers, options.rounds) if options.rounds > 0 else []
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    print(machine())
    print(f"{PEER} {peers.versions[PEER]}, torch {peers.torch}, {THREADS} threads")
    show(question, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
