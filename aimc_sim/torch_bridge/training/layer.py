"""`TrainingLinear` learns under the noise and the converters of a chip, and runs on a chip when one is mounted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from aimc_sim.chip.mapping import tile_map
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware, StaticRange
from aimc_sim.randomness import Stream, event_word, key_of, site_word
from aimc_sim.tiles.matrix import TiledMatrix
from aimc_sim.torch_bridge.linear import Socket
from aimc_sim.torch_bridge.training.input_range import InputRange
from aimc_sim.torch_bridge.training.op import analog_linear
from aimc_sim.torch_bridge.training.plan import (
    EVENT,
    KEY_LENGTH,
    ORDINAL,
    SEED_HIGH,
    SEED_LOW,
    fixed_lambda,
    plan_for,
)
from aimc_sim.torch_bridge.training.spec import Training
from aimc_sim.torch_bridge.training.updates import watch

Tensor = torch.Tensor
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
EVENTS = 1 << 32  # names of noise there are; then they come round again
ROWS_AT_ONCE = 256  # columns of the crossbar whose float32 copy exists at once while they are clipped


class TrainingLinear(nn.Module):
    """TrainingLinear computes y = x·Wᵀ + b as the chip will: weight (out_features, in_features) is a parameter.

    x: (…, in_features) float32, bfloat16 or float16; y alike. While it trains: DAC, weights with noise, ADC, as
    hardware and training say; in eval mode without noise; inside `on_chip` on the cells of one chip; inside `digital`
    as a plain linear layer. Make it with `AnalogLinear.from_linear` or `convert`.

    Noise is a function of seed, step and layer: all forwards of a step have the same, and a step of an optimizer that
    holds the weights (or of any, where they are frozen) makes the next step. Recomputation and compilation change
    nothing. `set_step` names a step by hand, `aimc_sim.training` gives micro-steps and processes noise of their own.

    >>> import torch
    >>> from aimc_sim.torch_bridge import AnalogLinear
    >>> layer = AnalogLinear.from_linear(torch.nn.Linear(16, 4), {"device": "gaussian"})
    >>> x = torch.ones(2, 16)
    >>> torch.equal(layer(x), layer(x))
    True
    >>> layer.next_step()
    >>> layer.step
    1
    """

    full_scale: Tensor | None
    column_tile: Tensor

    def __init__(
        self, weight: nn.Parameter, bias: nn.Parameter | None, hardware: Hardware, training: Training, *,
        name: str = "linear", ordinal: int = 0, ranges: MatrixRange | None = None, seed: int = 0,
        transposed: bool = False,
    ) -> None:  # fmt: skip
        """transposed: the layer was a Conv1D, and `restore` makes it one again."""
        super().__init__()
        self.matrix_name = name
        self.out_features, self.in_features = (int(size) for size in weight.shape)
        self.weight, self.bias = weight, bias
        self.socket = Socket(name, self.in_features, self.out_features)
        self.hardware, self.settings, self.ordinal, self.transposed = hardware, training, ordinal, transposed
        site_word(Stream.TRAINING, ordinal)
        self.plan = plan_for(self.in_features, self.out_features, hardware, training, name)
        self.plan_text = self.plan.text
        quiet = plan_for(self.in_features, self.out_features, hardware, quiet_of(training), name)
        self.quiet_text = quiet.text
        self.as_digital = False
        # On the host, whatever the device: operators read it, and steps change it between graphs.
        self.state = torch.zeros(KEY_LENGTH, dtype=torch.int64)
        self._asleep = torch.zeros(KEY_LENGTH, dtype=torch.int64)
        self.state[ORDINAL] = ordinal
        self.clips_itself = True
        self.set_key(0, seed)
        self.input_range = InputRange(self.plan.tiles, training.learn_ranges) if self.has_ranges else None
        self.register_buffer("full_scale", self._full_scale(ranges))
        columns = tile_map(self.in_features, self.out_features, hardware.tile).column_tile
        self.register_buffer("column_tile", torch.from_numpy(columns), persistent=False)
        if self.input_range is not None and ranges is not None and ranges.input_range is not None:
            self.put_ranges(torch.from_numpy(np.array(ranges.input_range, np.float32)))
        watch(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        watch(self)  # a copy, which no constructor has seen

    @property
    def tiles(self) -> TiledMatrix | None:
        """Return the tiles that are mounted; None: the layer computes with its weights."""
        return self.socket.tiles

    def mount(self, tiles: TiledMatrix) -> None:
        """Compute with these tiles, without gradient, from now on. Raises BadInput when they hold another shape."""
        self.socket.mount(tiles)

    def unmount(self) -> None:
        """Let go of the tiles, and compute with the weights again."""
        self.socket.unmount()

    @property
    def has_ranges(self) -> bool:
        """Return whether the DAC has a static range for every tile."""
        return self.hardware.dac is not None and isinstance(self.hardware.dac.range, StaticRange)

    @property
    def clips(self) -> bool:
        """Return whether the weights are to be clipped after every update."""
        return self.settings.clip_sigma is not None and self.in_features > 1

    def set_key(self, step: int, seed: int | None = None, events: int = 1, rank: int = 0) -> None:
        """Name the noise of the coming forwards: training step, chip (64 bits; None: as before).

        events: how many names each step has, one a micro-step and process, and ``rank`` the first of this process; the
        name, of 32 bits, is step·events + rank + what `set_micro_step` adds.
        """
        if seed is not None:
            low, high = key_of(seed)
            self.state[SEED_LOW], self.state[SEED_HIGH] = int(low), int(high)
        self._events, self._rank = events, rank
        self._first_event = int(event_word(step, "training step")) * events % EVENTS
        self.set_micro_step(0)

    def set_micro_step(self, offset: int) -> None:
        """Name the noise of the coming forwards of this step: ``offset`` names after the first of this process."""
        self.state[EVENT] = (self._first_event + self._rank + offset) % EVENTS

    @property
    def step(self) -> int:
        """Return the training step of the coming forward."""
        return self._first_event // self._events

    def next_step(self) -> None:
        """End a step: the next one has noise of its own."""
        self._first_event = (self._first_event + self._events) % EVENTS
        self.set_micro_step(0)

    def after_update(self) -> None:
        """An optimizer has changed the weights: see that the chip can hold them, and go on to the next step."""
        if self.clips and self.clips_itself:
            self.clip()
        self.next_step()

    @torch.no_grad()
    def clip(self) -> None:
        """W_:,j ← clamp(W_:,j, ±α·std(W_:,j)) over the whole column (a row of ``weight``), unbiased, in float32."""
        alpha = self.settings.clip_sigma
        assert alpha is not None
        for rows in torch.split(self._own_rows(), ROWS_AT_ONCE):
            limit = (alpha * rows.float().std(dim=1, keepdim=True)).to(rows.dtype)
            rows.clamp_(-limit, limit)

    def _own_rows(self) -> Tensor:
        """Return the rows of the weight that this process holds; BadInput where it holds parts of rows."""
        weight = self.weight.data
        local: Any = getattr(weight, "to_local", None)
        if local is None:
            return weight
        placements: Any = weight.placements  # type: ignore[attr-defined]
        if any(place.is_shard() and place.dim != 0 for place in placements):
            raise BadInput(
                f"weight of {self.matrix_name}",
                got=str(placements),
                why="a column's standard deviation needs the whole column, and processes hold parts of it",
                do="shard weights along their outputs, dimension 0, as fully_shard does",
            )
        rows: Tensor = local()
        return rows

    def put_ranges(self, value: Tensor) -> None:
        """Use these static ranges, (tiles,), or one for all, as they are. Raises BadInput for another number."""
        assert self.input_range is not None
        value = value.detach().float().reshape(-1)
        if value.numel() not in (1, self.plan.tiles) or not bool(((value > 0) & value.isfinite()).all()):
            raise BadInput(
                f"input ranges of {self.matrix_name}",
                got=value.tolist(),
                why=f"the layer has {self.plan.tiles} row tiles, each with a positive, finite range",
                do="calibrate or train them for this hardware",
            )
        with torch.no_grad():
            self.input_range.value.copy_(value.expand(self.plan.tiles))
            self.input_range.forwards.fill_(self.settings.range_forwards)
        self.input_range.settle()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TrainingLinear:
        before = self.full_scale
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if before is not None and self.full_scale is not None and self.full_scale.dtype != torch.float32:
            self.full_scale = before.to(self.full_scale.device)
        return self

    def _full_scale(self, ranges: MatrixRange | None) -> Tensor | None:
        """Return (tiles, column tiles) of an ADC whose full scales are calibrated."""
        adc = self.hardware.adc
        if adc is None or fixed_lambda(adc) is not None:
            return None
        if ranges is None or ranges.full_scale is None:
            raise BadInput(
                f"ADC full scale of {self.matrix_name}",
                why=f"the hardware derives it from calibration text ({adc.full_scale.rule}), and none was given",
                do="give the ADC the rule of lambda, full_scale = {rule = 'lambda', lambda_ = 14}, or pass calibrated "
                "ranges to convert(model, hardware, ranges=...)",
            )
        return torch.from_numpy(np.array(ranges.full_scale, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        if self.socket.tiles is not None:
            return self.socket.linear(x, self.bias)
        if self.as_digital:
            return functional.linear(x, self.weight, self.bias)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        if x.dtype not in DTYPES or x.shape[-1] != self.in_features:
            raise BadInput(
                f"input of {self.matrix_name}",
                got=(tuple(x.shape), str(x.dtype)),
                why=f"the layer takes (…, {self.in_features}) float32, bfloat16 or float16",
                do="convert or reshape the input",
            )
        beta = None if self.input_range is None else self._ranges(self.input_range, x)
        text, key = (self.plan_text, self.state) if self.training else (self.quiet_text, self._asleep)
        flat = x.reshape(-1, self.in_features)
        y: Tensor
        y, _, _ = analog_linear(flat, self.weight, beta, self._fitted(), key.clone(), self._row_ids(x), text)
        y = y.reshape(*x.shape[:-1], self.out_features)
        if self.bias is not None:
            y += self.bias.to(y.dtype)  # in place: nothing else holds y, and backward does not need it
        return y

    def _ranges(self, input_range: InputRange, x: Tensor) -> Tensor:
        """Return the static ranges (tiles,). Where there are none yet,
        a training forward begins them with what it sees.
        """
        if not input_range.ready and self.training and not torch.compiler.is_compiling():
            self.observe(x)
        if not input_range.ready:
            raise BadInput(
                f"input range of {self.matrix_name}",
                why="it has no first value yet, and every input would be clipped to zero",
                do="run initialise_ranges(model, batches) first, or a training forward that is not compiled",
            )
        value: Tensor = input_range()
        return value

    def observe(self, x: Tensor) -> None:
        """Move static ranges that are still beginning to their mean over the forwards so far, this one included.

        x: (…, in_features). Raises BadInput where the ranges are sharded already, and for a rule of the hardware that
        a single forward does not show.
        """
        input_range, dac = self.input_range, self.hardware.dac
        if input_range is None or dac is None or not isinstance(dac.range, StaticRange):
            return
        if hasattr(input_range.value, "full_tensor"):
            raise BadInput(
                "model", why="its ranges are sharded already", do="initialise the ranges before shard(model)"
            )
        input_range.observe(x, dac.range, self.plan, self.settings.range_forwards)

    def _fitted(self) -> Tensor | None:
        """Return the full scales as the operator takes them: a column, or for the exact forward a column tile."""
        if self.full_scale is None or self.plan.exact:
            return self.full_scale
        return self.full_scale[:, self.column_tile]

    def _row_ids(self, x: Tensor) -> Tensor | None:
        """Return (rows,) int64 names of the rows, sample and position, which read noise is drawn by."""
        if not self.plan.exact:
            return None
        samples, length = (x.shape[0], x.shape[1]) if x.ndim == 3 else (x.numel() // self.in_features, 1)
        sample = torch.arange(samples, dtype=torch.int64) << 32
        return (sample[:, None] + (torch.arange(length, dtype=torch.int64) << 8)).reshape(-1)

    def learned_range(self) -> MatrixRange:
        """Return the ranges as inference takes them."""
        beta = (
            None if self.input_range is None else whole(self.input_range.value).float().cpu().numpy().copy()
        )
        fitted = None if self.full_scale is None else self.full_scale.float().cpu().numpy().copy()
        return MatrixRange(beta, fitted)

    def extra_repr(self) -> str:
        shape = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{self.matrix_name}, {shape}, row tiles={self.plan.tiles}, noise={self.plan.noise}"


def training_layers(model: nn.Module) -> list[TrainingLinear]:
    """Return the layers of a model that train for a chip, in its order, however it is wrapped."""
    return [module for module in model.modules() if isinstance(module, TrainingLinear)]


def quiet_of(training: Training) -> Training:
    """Return the same without noise: what a layer computes in eval mode."""
    return training.model_copy(update={"noise": None})


def whole(tensor: Tensor) -> Tensor:
    """Return a parameter's values; gathered where it is sharded."""
    gather: Any = getattr(tensor, "full_tensor", None)
    return tensor.detach() if gather is None else gather().detach()
