"""Scores of a model that is larger than memory, layer by layer over all windows: the same bits as `metrics.score`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
    from collections.abc import Callable

    from aimc_sim.hardware import Hardware
    from aimc_sim.weightfile import WeightFile

Stream = Literal["auto", "always", "never"]
STREAM: tuple[Stream, ...] = ("auto", "always", "never")
KEPT_BYTES = 256 << 20  # of hidden states in memory; what is above lies in temporary files


def streams(choice: Stream, weight_file: WeightFile, hardware: Hardware | None) -> bool:
    """Whether to stream a chip of this hardware (None: the digital model): "auto" where it does not fit free memory."""
    if choice not in STREAM:
        raise BadInput("stream", got=choice, why="there is no such choice", do=nearest(str(choice), STREAM))
    return choice == "always" or (choice == "auto" and resident_bytes(weight_file, hardware) > free_bytes())


def resident_bytes(weight_file: WeightFile, hardware: Hardware | None) -> int:
    """About what a model takes in memory unstreamed: tiles, and the largest matrix while it is programmed; of the
    digital model its file."""
    if hardware is None:
        return weight_file.path.stat().st_size
    total = largest = 0
    for matrix in weight_file.matrices:
        if is_analog(matrix, hardware):
            size, own = matrix.rows * matrix.cols, hardware.of_matrix(matrix.name)
            total, largest = total + _columns(own) * size, max(largest, size)
    return total * ((2 if hardware.uses_integers else 4) + (hardware.read_noise is not None)) + 8 * largest


def _columns(hardware: Hardware) -> int:
    """Effective weights that tiles keep for one of the model: what is converted apart is kept apart."""
    weights = hardware.weights
    if hardware.adc is None:
        return weights.copies or 1
    apart = (weights.copies or 1) if weights.slice_sum == "analog" else weights.arrays
    return apart * (2 if weights.subtract == "digital" else 1)


class HiddenStates:
    """Hidden states of every batch, (b, length, H) float32: in memory up to `KEPT_BYTES`, then in files."""

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
        """Those of a batch; None where there are none yet."""
        found = self._held.get(batch)
        if found is None or isinstance(found, torch.Tensor):
            return found
        path, shape = found
        return torch.from_numpy(np.fromfile(path, np.float32)).reshape(shape)

    def close(self) -> None:
        """Delete the temporary files, if any."""
        self._held = {}
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class _Batches:
    """Windows as batches of token ids, each with the names of its sequences."""

    def __init__(self, windows: Windows, batch: int) -> None:
        self.groups = [(where, torch.from_numpy(rows).long()) for where, rows in windows.batches(batch)]

    def __len__(self) -> int:
        return len(self.groups)

    def on(self, model: StreamedModel) -> Iterator[tuple[int, slice, torch.Tensor]]:
        """(index, windows, token ids) of every batch, while its rows are named."""
        for index, (where, ids) in enumerate(self.groups):
            with sequence_names(model.model, range(where.start, where.stop)):
                yield index, where, ids


class StreamedReference:
    """The digital model's last hidden states on a set of windows; its logits are computed again block by block.

    `scores` are the digital model's own: (nll, kl, agree) of every window. Use as a context manager.
    """

    def __init__(
        self,
        model: StreamedModel,
        windows: Windows,
        batch: int,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> None:
        self.model, self.windows, self.batch = model, windows, batch
        self.hidden = HiddenStates()
        try:
            self.parts = _scored(model, self.hidden, windows, batch, None, on_batch)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Delete the temporary files, if any."""
        self.hidden.close()


def scores_of(
    model: StreamedModel,
    windows: Windows,
    batch: int,
    reference: StreamedReference | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[tuple[float, float, int]]:
    """(nll nats, KL nats, equal top-1) of every window. on_batch(done, total): of layers and pieces of the head."""
    hidden = HiddenStates()
    try:
        return _scored(model, hidden, windows, batch, reference, on_batch)
    finally:
        hidden.close()


def _scored(
    model: StreamedModel,
    hidden: HiddenStates,
    windows: Windows,
    batch: int,
    reference: StreamedReference | None,
    on_batch: Callable[[int, int], None] | None,
) -> list[tuple[float, float, int]]:
    batches, pieces = _Batches(windows, batch), model.pieces(BLOCK)
    total = model.layers + len(pieces)

    def step(done: int) -> None:
        if on_batch is not None:
            on_batch(done, total)

    for layer in range(model.layers):
        with model.layer(layer):
            for index, _, ids in batches.on(model):
                hidden[index] = model.advance(layer, ids, hidden.get(index))
        step(layer + 1)
    sums = [WindowSums(torch.from_numpy(row[1:]).long(), reference is not None) for row in windows.rows]
    for done, (first, last) in enumerate(pieces, 1):
        with model.head(first, last), _heads(reference, first, last):
            for index, where, ids in batches.on(model):
                states = hidden.get(index)
                assert states is not None
                logits = model.logits(ids, states)[:, :-1]
                digital = None
                if reference is not None:
                    theirs = reference.hidden.get(index)
                    assert theirs is not None
                    digital = reference.model.logits(ids, theirs)[:, :-1]
                for row, window in enumerate(range(where.start, where.stop)):
                    sums[window].add(first, logits[row], None if digital is None else digital[row])
        step(model.layers + done)
    return [each.result() for each in sums]


@contextmanager
def _heads(reference: StreamedReference | None, first: int, last: int) -> Iterator[None]:
    with ExitStack() as stack:
        if reference is not None:
            stack.enter_context(reference.model.head(first, last))
        yield


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
