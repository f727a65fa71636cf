"""What does a layer cost that trains for a chip, against the ordinary layer that it replaces?

Rival: torch.nn.Linear in float32, forward and backward, 2048 × 2048, same run, in turn. The whole of training: DAC with
learned static ranges, weight noise fresh in every step, ADC, gradients to inputs, weights and ranges. Memory: the most
that torch allocates in a step above that of Linear's, as a share of the layer's activations and weights.
``benchmarks.lightning`` measures aihwkit-lightning beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from benchmarks.harness import Pair, Row, main, side_by_side
from benchmarks.tile_product import gaussian

SIZE = 2048
CASES: list[tuple[int, int | None, dict[str, Any], float | None]] = [  # tokens, rows a tile, training, goal
    (512, 512, {}, 1.3),
    (512, None, {}, 1.2),
    (128, 512, {}, 1.6),
    (128, None, {}, 1.6),
    (512, 512, {"noise": None}, None),
    (512, 512, {"backward": "noisy"}, 1.3),
    (512, 512, {"noise": "device"}, None),
    (512, None, {"noise": None, "weight_bits": 4}, None),
]
SMALLEST = {"SIZE": 64, "CASES": [(8, rows and 32, settings, goal) for _, rows, settings, goal in CASES]}
MEMORY_GOAL = 0.15


class Step:
    """One training step of a layer, gradients fresh, and the same of Linear."""

    def __init__(self, tokens: int, tile_rows: int | None, settings: dict[str, Any]) -> None:
        import torch

        from aimc_sim.hardware import Hardware
        from aimc_sim.torch_bridge import AnalogLinear, Training

        hardware = Hardware.load({
            "device": "pcm-hermes-2", "tile": {"rows": tile_rows}, "dac": {"range": {"method": "std", "per": "tile"}},
            "adc": {"full_scale": {"rule": "lambda", "lambda_": 14.0}},
        })  # fmt: skip
        self.linear = torch.nn.Linear(SIZE, SIZE, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(gaussian((SIZE, SIZE), 1)) / 50)
        plain = torch.nn.Linear(SIZE, SIZE, bias=False)
        plain.load_state_dict(self.linear.state_dict())
        self.layer = AnalogLinear.from_linear(plain, hardware, Training(**settings)).train()
        self.layer.put_ranges(torch.tensor([15.0]))  # of normal inputs, κ = 15: no ADC saturates
        self.x = torch.from_numpy(gaussian((tokens, SIZE), 2)).requires_grad_()
        self.g = torch.from_numpy(gaussian((tokens, SIZE), 3))
        self.number = 0

    def _run(self, layer: Any) -> None:
        self.x.grad = None
        for parameter in layer.parameters():
            parameter.grad = None
        layer(self.x).backward(self.g)

    def analog(self) -> None:
        """A step of the layer, its noise named."""
        self.number += 1
        self.layer.set_key(self.number)
        self._run(self.layer)

    def digital(self) -> None:
        """A step of Linear."""
        self._run(self.linear)

    def extra(self) -> float:
        """Peak memory of a step above that of Linear's, as a share of weights, inputs and outputs."""
        whole = 4 * (SIZE * SIZE + 2 * self.x.numel())
        return (self._peak(self.analog) - self._peak(self.digital)) / whole

    def _peak(self, run: Callable[[], None]) -> int:
        """Most bytes that torch has allocated during a step beyond what was there before."""
        # Its own switch for what it tells of itself; a measurement that fails still raises.
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")
        from torch.profiler import ProfilerActivity, profile

        run()
        self.x.grad = None
        for parameter in (*self.layer.parameters(), *self.linear.parameters()):
            parameter.grad = None
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            run()
        assert seen.profiler is not None
        events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
        return max(accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))


def measure() -> tuple[list[Row], list[dict[str, Any]]]:
    """Every case, as rows and as JSON: the costs, then the memory."""
    rows, data, steps = [], [], []
    for tokens, tile_rows, settings, goal in CASES:
        step = Step(tokens, tile_rows, settings)
        pair: Pair = side_by_side(step.analog, step.digital, repeats=15)
        name = f"{tokens} tokens, {f'tiles of {tile_rows} rows' if tile_rows else 'untiled'}"
        name += "".join(f", {key} = {value}" for key, value in settings.items())
        rows.append(Row(name, pair.ratio, "of Linear", goal))
        data.append(
            {
                "tokens": tokens,
                "rows": tile_rows,
                **settings,
                "ratio": pair.ratio,
                "s": pair.a_s,
                "linear_s": pair.b_s,
            }
        )
        steps.append((name, step, goal))
    for (name, step, goal), figures in zip(steps, data, strict=True):
        figures["extra_memory"] = step.extra()
        limit = None if goal is None else MEMORY_GOAL
        rows.append(Row(f"extra memory, {name}", figures["extra_memory"], "of the layer", limit))
    return rows, data


if __name__ == "__main__":
    main(__doc__.splitlines()[0] if __doc__ else "", measure)
