"""How noisy each product is: tiles against the digital product, on the inputs that the digital model gives it.

Noise-to-signal ratio = mean over tokens of ‖error‖²/‖y‖²: every token counts alike, however large its activations are,
and the noise of independent effects adds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aimc_sim.aliases import F32, F64, I64
from aimc_sim.calibrate.ranges import RangesInPass
from aimc_sim.chip import Chip
from aimc_sim.evaluate.windows import Windows
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware import Hardware
from aimc_sim.randomness import row_ids
from aimc_sim.tiles.matrix import TiledMatrix
from aimc_sim.torch_bridge.inputs import matrix_products, read_inputs, spread
from aimc_sim.torch_bridge.linear import socket_of
from aimc_sim.torch_bridge.model import load_digital
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.analog import analog_matrices

PROBED = 64  # tokens that products are compared on, spread evenly over the text
SEEN = 512  # tokens of the text that a probe chooses them from


@dataclass(frozen=True)
class Probe:
    """A probe holds inputs x (tokens, K) and digital products y (tokens, N), without bias, of matrices, as a model
    computes them.

    ids: (b, length) token ids to run through it; picked: (tokens,) which of them products are compared on; rows: the
    names of these, for read noise.
    """

    names: tuple[str, ...]
    ids: torch.Tensor
    picked: I64
    rows: I64
    inputs: dict[str, F32] = field(default_factory=dict)
    products: dict[str, F32] = field(default_factory=dict)

    @classmethod
    def of(cls, names: tuple[str, ...], windows: Windows) -> Probe:
        """Make a probe of these matrices on the beginning of a text. It is empty until a model runs."""
        length = min(len(windows.rows[0]), SEEN)
        batch = [row[:length] for row in windows.rows if len(row) >= length][: max(1, SEEN // length)]
        ids = torch.from_numpy(np.stack(batch).astype(np.int64))
        picked = spread(PROBED, ids.numel())
        return cls(names, ids, picked, row_ids(picked // length, picked % length))

    def watch(self, digital: Any) -> AbstractContextManager[None]:
        """Fill the probe from forwards of the digital model inside this context."""

        def see(name: str, x: F32, y: F32) -> None:
            self.inputs[name], self.products[name] = x[self.picked], y[self.picked]

        return matrix_products(digital, self.names, see)

    def noise(self, model: Any) -> F64:
        """Measure the (matrices,) noise-to-signal ratios of the tiles that are mounted in a model."""
        return np.array([noise_to_signal(*self.squares(model, name)) for name in self.names])

    def squares(self, model: Any, name: str) -> tuple[F64, F64]:
        """Measure (tokens,) ‖error‖² and ‖y‖² of the tiles that are mounted for one matrix, or for outputs of it."""
        socket = socket_of(model.get_submodule(name))
        assert socket is not None
        assert socket.tiles is not None
        return squares(self.inputs[name], self.products[name], socket.tiles, self.rows)


def probe(digital: Any, weight_file: WeightFile, hardware: Hardware, windows: Windows) -> Probe:
    """Run the digital model once over the beginning of the text, and keep what its analog matrices took and gave."""
    filled = Probe.of(tuple(matrix.name for matrix in analog_matrices(weight_file, hardware)), windows)
    with filled.watch(digital), torch.no_grad():
        digital(input_ids=filled.ids, use_cache=False)
    return filled


def squares(x: F32, y: F32, tiles: TiledMatrix, rows: I64) -> tuple[F64, F64]:
    """Compute (tokens,) ‖error‖² and ‖y‖²: products of x (tokens, K) through tiles against y (tokens, N). rows: their
    names.
    """
    error = tile_matmul(x, tiles, rows)
    error -= y
    return _square(error), _square(y)


def _square(values: F32) -> F64:
    found: F64 = np.einsum("ij,ij->i", values, values, dtype=np.float64)
    return found


def noise_to_signal(lost: F64, signal: F64) -> float:
    """Return the mean over the tokens (tokens,) that give anything; NaN where none does."""
    nonzero = signal > 0
    return float((lost[nonzero] / signal[nonzero]).mean()) if nonzero.any() else math.nan


def product_noise(
    weight_file: WeightFile,
    designs: Mapping[str, Hardware],
    *,
    seed: int = 0,
    time: float | str = 0.0,
    session: int = 0,
    tokens: int = PROBED,
    on_step: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Measure the noise-to-signal ratio of every analog matrix of every design: {design: {matrix: ratio}}; 0 without
    any signal.

    One pass of the digital model over the calibration text for all designs together; matrix by matrix, so that nothing
    of the text is kept. Every design is the same chip, ``seed``, read at one time since programming. Converter ranges
    that the pass derives are kept in the user's cache folder, where every other command finds them. on_step(done,
    total) counts matrices. Raises BadInput for a file without calibration text.
    """
    text = weight_file.calibration.token_ids
    ranges = {label: RangesInPass(weight_file, hardware) for label, hardware in designs.items()}
    analog = {label: {m.name for m in analog_matrices(weight_file, hw)} for label, hw in designs.items()}
    names = [
        matrix.name for matrix in weight_file.matrices if any(matrix.name in some for some in analog.values())
    ]
    ratios: dict[str, dict[str, float]] = {label: {} for label in designs}
    done = 0

    def see(name: str, x: F32) -> None:
        nonlocal done
        picked = spread(tokens, len(x))
        inputs = np.ascontiguousarray(x[picked])
        exact = inputs @ weight_file.weight(name).T
        rows = row_ids(picked // text.shape[1], picked % text.shape[1])
        for label, hardware in designs.items():
            if name in analog[label]:
                chip = Chip(weight_file, hardware, seed, ranges[label].of(name, x))
                tiles = chip.at(time, session).tiles(name)
                ratio = noise_to_signal(*squares(inputs, exact, tiles, rows))
                ratios[label][name] = 0.0 if math.isnan(ratio) else ratio
        weight_file.release(name)
        done += 1
        if on_step is not None:
            on_step(done, len(names))

    read_inputs(load_digital(weight_file), text, names, see)
    for each in ranges.values():
        each.keep()
    return ratios


def decibels(ratio: npt.ArrayLike) -> F64:
    """Convert noise-to-signal ratios into signal-to-noise ratios in dB; infinite without noise, NaN below zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(-10 * np.log10(np.asarray(ratio, np.float64)))


def layer_of(name: str) -> int | None:
    """Return the number of a layer: ``model.layers.7.mlp.up_proj`` → 7; None for a matrix outside the layers."""
    found = re.search(r"\.(\d+)\.", name)
    return int(found[1]) if found else None
