"""Noise and saturation by matrix: of one chip at one time, told by its trial as a fact of its hardware."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.evaluate.saturation import count_clips, saturation_of
from aimc_sim.evaluate.snr import Probe, decibels, layer_of, noise_to_signal, probe
from aimc_sim.evaluate.sums import BLOCK
from aimc_sim.evaluate.windows import Windows
from aimc_sim.signoff.design.trials import Scored, Trial
from aimc_sim.signoff.execution.scores import Json
from aimc_sim.torch_bridge.model import load_digital
from aimc_sim.torch_bridge.streaming import StreamedModel
from aimc_sim.weightfile.analog import analog_matrices

if TYPE_CHECKING:
    from aimc_sim.chip.saturation import Saturation
    from aimc_sim.hardware import Hardware
    from aimc_sim.weightfile import WeightFile

COUNTED = 64  # tokens whose conversions are counted
DECIMALS = 2


@dataclass(frozen=True)
class MatrixNoise:
    """These are the figures of one analog matrix. snr_db: of its products, on the inputs that the digital model gives;
    None without any noise.

    inputs_clipped, conversions_saturated: shares, on the chip's own inputs; None where the hardware has no DAC.
    """

    name: str
    layer: int | None
    role: str
    snr_db: float | None
    inputs_clipped: float | None
    conversions_saturated: float | None


@dataclass(frozen=True)
class Layers:
    """Layers list every analog matrix of one chip at one time. tokens: that products are compared on; counted_tokens:
    that clipping is counted on.
    """

    seed: int
    time_s: float
    tokens: int
    counted_tokens: int
    matrices: tuple[MatrixNoise, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, JSON-ready, keys in a fixed order."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Json) -> Layers:
        """Read what `to_dict` gave, in whatever order of keys."""
        matrices = tuple(MatrixNoise(**row) for row in data["matrices"])
        return cls(**{**data, "matrices": matrices})


def tells_layers(trial: Trial, plan: Scored) -> bool:
    """Say whether this trial tells the layers of its hardware: the first chip's, at the last time, with the first
    task.
    """
    told = (plan.seeds[0], plan.times_s[-1], plan.tasks[0].label)
    return trial.kind == "chip" and (trial.seed, trial.time_s, trial.task) == told


def layers_of(
    model: Any,
    weight_file: WeightFile,
    hardware: Hardware,
    token_ids: npt.NDArray[np.int32],
    trial: Trial,
) -> Layers:
    """Measure SNR and saturation of every analog matrix of the chip that is mounted, on token_ids (length,).

    Of a streamed model the same figures, layer by layer.
    """
    text = Windows((np.asarray(token_ids, np.int32),))
    if isinstance(model, StreamedModel):
        probed, noise, clips = _measure_streamed(model, weight_file, hardware, text)
    else:
        probed = probe(load_digital(weight_file), weight_file, hardware, text)
        clips = saturation_of(model, hardware, text, COUNTED)
        noise = dict(zip(probed.names, probed.noise(model), strict=True))
    assert trial.seed is not None
    assert trial.time_s is not None
    rows = _rows(weight_file, hardware, noise, clips)
    return Layers(trial.seed, trial.time_s, len(probed.rows), min(COUNTED, len(token_ids)), rows)


def _rows(
    weight_file: WeightFile, hardware: Hardware, noise: Mapping[str, float], clips: Mapping[str, Saturation]
) -> tuple[MatrixNoise, ...]:
    rows = []
    for matrix in analog_matrices(weight_file, hardware):
        saturation, ratio = clips.get(matrix.name), float(decibels(noise[matrix.name]))
        rows.append(
            MatrixNoise(
                matrix.name,
                layer_of(matrix.name),
                matrix.role,
                round(ratio, DECIMALS) if math.isfinite(ratio) else None,
                None if saturation is None else saturation.input_share,
                None if saturation is None else saturation.conversion_share,
            )
        )
    return tuple(rows)


def _measure_streamed(
    model: StreamedModel, weight_file: WeightFile, hardware: Hardware, text: Windows
) -> tuple[Probe, dict[str, float], dict[str, Saturation]]:
    """Return what products are compared on, noise-to-signal ratios, and counters: the digital model and the chip go
    through memory side by side, a layer and then a piece of the head at a time.
    """
    digital = StreamedModel(weight_file)
    whole = Probe.of(tuple(matrix.name for matrix in analog_matrices(weight_file, hardware)), text)
    counted = whole.ids[:1, :COUNTED]
    squares: dict[str, list[tuple[Any, Any]]] = {name: [] for name in whole.names}
    clips: dict[str, Saturation] = {}
    theirs: Any = None  # hidden states of the digital model, and of the chip
    mine: Any = None

    @contextmanager
    def measuring(names: Iterable[str]) -> Iterator[None]:
        """Measure these matrices in a forward of both models inside this context."""
        part = replace(whole, names=tuple(names), inputs={}, products={})
        with part.watch(digital.model), count_clips(model.model, hardware, clips):
            yield
        for name in part.names:
            squares[name].append(part.squares(model.model, name))

    for layer in range(model.layers):
        names = [name for name in whole.names if name.startswith(model.prefix_of(layer))]
        with digital.layer(layer), model.layer(layer), measuring(names):
            theirs, mine = digital.advance(layer, whole.ids, theirs), model.advance(layer, counted, mine)
    head = [name for name in whole.names if name == model.head_name]
    for first, last in model.pieces(BLOCK) if head else ():
        with digital.head(first, last), model.head(first, last), measuring(head):
            digital.logits(whole.ids, theirs)
            model.logits(counted, mine)
    sums = {name: [sum(parts) for parts in zip(*pairs, strict=True)] for name, pairs in squares.items()}
    return whole, {name: noise_to_signal(*pair) for name, pair in sums.items()}, clips
