"""Scores of a model that is larger than memory, layer by layer over all windows: the same bits as `metrics.score`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.sums import BLOCK, WindowSums
from aimc_sim.evaluate.windows import Windows
from aimc_sim.spec import nearest
from aimc_sim.studies.memory import free_bytes
from aimc_sim.torch_bridge.rows import sequence_names
from aimc_sim.torch_bridge.streaming import StreamedModel
from aimc_sim.weightfile.analog import is_analog

if TYPE_CHECKING:
    from aimc_sim.hardware import Hardware
    from aimc_sim.weightfile import WeightFile

Stream = Literal["auto", "always", "never"]
STREAM: tuple[Stream, ...] = ("auto", "always", "never")
KEPT_BYTES = 256 << 20  # of hidden states in memory; what is above lies in temporary files


def streams(choice: Stream, weight_file: WeightFile, hardware: Hardware | None) -> bool:
    """Say whether to stream a chip of this hardware (None: the digital model): "auto" where it does not fit free
    memory.
    """
    if choice not in STREAM:
        raise BadInput("stream", got=choice, why="there is no such choice", do=nearest(str(choice), STREAM))
    return choice == "always" or (choice == "auto" and resident_bytes(weight_file, hardware) > free_bytes())


def resident_bytes(weight_file: WeightFile, hardware: Hardware | None) -> int:
    """Estimate what a model takes in memory unstreamed: tiles, and the largest matrix while it is programmed; of the
    digital model its file.
    """
    if hardware is None:
        return weight_file.path.stat().st_size
    total = largest = 0
    for matrix in weight_file.matrices:
        if is_analog(matrix, hardware):
            size, own = matrix.rows * matrix.cols, hardware.of_matrix(matrix.name)
            total, largest = total + _columns(own) * size, max(largest, size)
    return total * ((2 if hardware.uses_integers else 4) + (hardware.read_noise is not None)) + 8 * largest


def _columns(hardware: Hardware) -> int:
    """Count the effective weights that tiles keep for one of the model: what is converted apart is kept apart."""
    weights = hardware.weights
    if hardware.adc is None:
        return weights.copies or 1
    apart = (weights.copies or 1) if weights.slice_sum == "analog" else weights.arrays
    return apart * (2 if weights.subtract == "digital" else 1)


class HiddenStates:
    """These are the hidden states of every batch, (b, length, H) float32: in memory up to `KEPT_BYTES`, then in
    files.
    """

    def __init__(self) -> None:
        self._held: dict[int, torch.Tensor | tuple[Path, torch.Size]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._bytes = 0

    def __setitem__(self, batch: int, hidden: torch.Tensor) -> None:
        before = self._held.get(batch)
        if isinstance(before, torch.Tensor) or (before is None and self._bytes + hidden.nbytes <= KEPT_BYTES):
            self._bytes += 0 if before is not None else hidden.nbytes
            self._held[batch] = hidden
            return
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="aimc-sim-hidden-")
        path = Path(self._folder.name) / f"{batch}.f32"
        spool(hidden, path, "hidden states")
        self._held[batch] = (path, hidden.shape)

    def get(self, batch: int) -> torch.Tensor | None:
        """Return those of a batch; None where there are none yet."""
        stored = self._held.get(batch)
        if stored is None or isinstance(stored, torch.Tensor):
            return stored
        path, shape = stored
        return torch.from_numpy(np.fromfile(path, np.float32)).reshape(shape)

    def close(self) -> None:
        """Delete the temporary files, if any."""
        self._held = {}
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def scored(
    model: StreamedModel,
    hidden: HiddenStates,
    windows: Windows,
    batch: int,
    digital: tuple[StreamedModel, HiddenStates] | None,
    on_batch: Callable[[int, int], None] | None,
) -> list[tuple[float, float, int]]:
    """Score every window (nll nats, KL nats, equal top-1), layer by layer and then by pieces of the head.

    hidden: takes the last hidden states of the model. digital: the model to compare with, and its own last hidden
    states, of which logits are computed again piece by piece. on_batch(done, total) counts layers and pieces.
    """
    pieces = model.pieces(BLOCK)
    total = model.layers + len(pieces)
    tell = on_batch or (lambda done, total: None)
    for layer in range(model.layers):
        with model.layer(layer):
            for index, _, ids in _batches(model, windows, batch):
                hidden[index] = model.advance(layer, ids, hidden.get(index))
        tell(layer + 1, total)
    sums = [
        WindowSums(torch.from_numpy(row[1:].astype(np.int64)), digital is not None) for row in windows.rows
    ]
    for done, (first, last) in enumerate(pieces, model.layers + 1):
        with model.head(first, last), digital[0].head(first, last) if digital else nullcontext():
            for index, where, ids in _batches(model, windows, batch):
                mine = _logits(model, ids, hidden, index)
                theirs = None if digital is None else _logits(digital[0], ids, digital[1], index)
                for row, window in enumerate(range(where.start, where.stop)):
                    sums[window].add(first, mine[row], None if theirs is None else theirs[row])
        tell(done, total)
    return [each.result() for each in sums]


def _batches(model: StreamedModel, windows: Windows, batch: int) -> Iterator[tuple[int, slice, torch.Tensor]]:
    """Yield (index, windows, token ids) of every batch, while its rows are named."""
    for index, (where, rows) in enumerate(windows.batches(batch)):
        with sequence_names(model.model, range(where.start, where.stop)):
            yield index, where, torch.from_numpy(rows).long()


def _logits(model: StreamedModel, ids: torch.Tensor, hidden: HiddenStates, index: int) -> torch.Tensor:
    states = hidden.get(index)
    assert states is not None
    return model.logits(ids, states)[:, :-1]


def spool(tensor: torch.Tensor, path: Path, what: str) -> None:
    """Write float32 values into a temporary file. what: they are, for the BadInput where its folder has no room."""
    try:
        tensor.numpy().tofile(path)
    except OSError as error:
        raise BadInput(
            "temporary folder",
            got=str(path.parent),
            why=f"{what} do not fit: {error.strerror or error}",
            do="free some space, or point TMPDIR at a larger disk",
        ) from error
