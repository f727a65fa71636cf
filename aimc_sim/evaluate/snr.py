"""How noisy each product is: tiles against the digital product, on the inputs that the digital model gives it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aimc_sim.aliases import F32, F64
from aimc_sim.evaluate.windows import Windows
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware import Hardware
from aimc_sim.randomness import row_ids
from aimc_sim.torch_bridge.linear import TileLinear
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.analog import analog_matrices

PROBED = 64  # tokens that products are compared on, spread evenly over the text
SEEN = 512  # tokens of the text that they are chosen from


@dataclass(frozen=True)
class Probe:
    """Inputs x (tokens, K) and digital products y (tokens, N), without bias, of every analog matrix, in file order."""

    names: tuple[str, ...]
    inputs: dict[str, F32]
    products: dict[str, F32]
    rows: npt.NDArray[np.int64]  # (tokens,) names of the rows, for read noise

    def noise(self, model: Any) -> F64:
        """(matrices,) noise-to-signal ratio of the tiles that are mounted: mean over tokens of ‖error‖²/‖y‖².

        Every token counts alike, however large its activations are; the noise of independent effects adds.
        """
        return np.array([noise_to_signal(*self.squares(model, name)) for name in self.names])

    def squares(self, model: Any, name: str) -> tuple[F64, F64]:
        """(tokens,) ‖error‖² and ‖y‖² of the tiles that are mounted for one matrix, or for outputs of it."""
        layers = {module.matrix_name: module for module in model.modules() if isinstance(module, TileLinear)}
        tiles, y = layers[name].tiles, self.products[name]
        assert tiles is not None
        error = tile_matmul(self.inputs[name], tiles, self.rows if tiles.noise is not None else None)
        error -= y
        return (
            np.einsum("ij,ij->i", error, error, dtype=np.float64),
            np.einsum("ij,ij->i", y, y, dtype=np.float64),
        )


def noise_to_signal(lost: F64, signal: F64) -> float:
    """Mean over the tokens (tokens,) that give anything; NaN where none does."""
    heard = signal > 0
    return float((lost[heard] / signal[heard]).mean()) if heard.any() else math.nan


def probe(digital: Any, weight_file: WeightFile, hardware: Hardware, windows: Windows) -> Probe:
    """Run the digital model once over the beginning of the text, and keep what its matrices took and gave."""
    ids, picked, rows = probed(windows)
    seen = Probe(tuple(matrix.name for matrix in analog_matrices(weight_file, hardware)), {}, {}, rows)
    with watched(digital, seen, picked), torch.no_grad():
        digital(input_ids=ids, use_cache=False)
    return seen


def probed(windows: Windows) -> tuple[torch.Tensor, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Token ids (b, length) of the beginning of a text, which of them products are compared on (tokens,), and the names
    of these rows (tokens,)."""
    length = min(len(windows.rows[0]), SEEN)
    batch = [row[:length] for row in windows.rows if len(row) >= length][: max(1, SEEN // length)]
    ids = torch.from_numpy(np.stack(batch).astype(np.int64))
    picked = np.unique(np.linspace(0, ids.numel() - 1, min(PROBED, ids.numel())).astype(np.int64))
    return ids, picked, row_ids(picked // length, picked % length)


@contextmanager
def watched(model: Any, seen: Probe, picked: npt.NDArray[np.int64]) -> Iterator[None]:
    """Within this context the digital model's forwards fill the probe, with the rows that are picked."""

    def watch(name: str) -> Any:
        def hook(module: Any, args: Any, out: Any) -> None:
            x, y = (value.detach().reshape(-1, value.shape[-1])[picked].float() for value in (args[0], out))
            if module.bias is not None:  # added digitally, so it is no part of the product
                y = y - module.bias
            seen.inputs[name], seen.products[name] = x.numpy(), y.numpy()

        return hook

    with ExitStack() as stack:
        for name in seen.names:
            # Ahead of an adapter's own hook: the product is what tiles compute, without the adapter.
            handle = model.get_submodule(name).register_forward_hook(watch(name), prepend=True)
            stack.callback(handle.remove)
        yield


def decibels(ratio: F64) -> F64:
    """Signal-to-noise ratio in dB of noise-to-signal ratios; infinite without noise, NaN below zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(-10 * np.log10(ratio))


def layer_of(name: str) -> int | None:
    """``model.layers.7.mlp.up_proj`` → 7; None for a matrix outside the layers."""
    found = re.search(r"\.(\d+)\.", name)
    return int(found[1]) if found else None
