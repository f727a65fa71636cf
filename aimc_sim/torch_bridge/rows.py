"""What each row of a batch is called, so that noise that is fresh in every product does not depend on batching.

A row is (sequence, position, draw). The root model learns it from its inputs before each forward; the analog layers
look it up. Padding, sorting, splitting a batch or recomputing a prefix give a token the same name and noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn
from torch.utils.hooks import RemovableHandle

from aimc_sim.aliases import I64
from aimc_sim.errors import BadInput
from aimc_sim.randomness import row_ids
from aimc_sim.torch_bridge.kv_cache import cached_length


class RowNames:
    """Row names are the row ids (batch, length) of the forward that is running, shared by a model's analog layers."""

    def __init__(self) -> None:
        self.ids: I64 | None = None
        # (batch,) names of the sequences, or (batch, length) where they branch; None: their places in the batch
        self.sequences: I64 | None = None
        self.draw = 0

    def watch(self, model: nn.Module) -> RemovableHandle:
        """Learn the rows before every forward of the root model, until the handle is removed."""
        return model.register_forward_pre_hook(self._learn, with_kwargs=True)

    def of(self, batch: tuple[int, ...]) -> I64:
        """Return (rows,) ids for an input of shape (batch, length, features) or (batch·length, features).

        A shorter length means the last positions, as when only the last logits are wanted.
        """
        ids = self.ids
        if ids is not None and len(batch) == 2 and batch[0] == ids.shape[0] and batch[1] <= ids.shape[1]:
            return ids[:, ids.shape[1] - batch[1] :].reshape(-1)
        if ids is not None and len(batch) == 1 and batch[0] == ids.size:
            return ids.reshape(-1)
        raise BadInput(
            "rows of the batch",
            got=batch,
            why="read noise is drawn by the name of each row, and "
            + ("none is known" if ids is None else f"the model was called with {ids.shape} tokens"),
            do="call the whole model, not one of its layers",
        )

    def _learn(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = kwargs.get("input_ids")
        if tokens is None:
            tokens = kwargs.get("inputs_embeds", args[0] if args else None)
        if tokens is None:
            self.ids = None
            return
        batch, length = tokens.shape[:2]
        positions = kwargs.get("position_ids")
        if positions is None:
            start = cached_length(kwargs)
            positions = np.arange(start, start + length)[None]
        else:
            positions = positions.detach().cpu().numpy()
        sequences = np.arange(batch) if self.sequences is None else self.sequences
        if sequences.shape not in ((batch,), (batch, length)):
            raise BadInput(
                "sequence ids",
                got=sequences.shape,
                why=f"the batch has {batch} sequences of {length} tokens",
                do="give one id each, or one a token",
            )
        names = sequences[:, None] if sequences.ndim == 1 else sequences
        self.ids = row_ids(names, np.broadcast_to(positions, (batch, length)), self.draw)


@contextmanager
def sequence_names(model: nn.Module, sequences: Sequence[int] | I64, draw: int = 0) -> Iterator[None]:
    """Name the sequences of a model's batches: inside, rows draw the read noise of these names, not of their places.

    sequences: (batch,), or (batch, length) for rows that hold several branches of a text. draw: of several draws of
    fresh noise, which. A digital model has no noise to name. A batch of another shape raises BadInput.

    >>> import aimc_sim, torch
    >>> from aimc_sim.torch_bridge import sequence_names
    >>> chip = {"device": "pcm-hermes-2", "dac": {}, "read_noise": {}}
    >>> model, ids = aimc_sim.load_model("model.h5", hardware=chip), torch.tensor([[1, 2, 3]])
    >>> with torch.no_grad():
    ...     first = model(ids).logits
    ...     with sequence_names(model, [7]):
    ...         other = model(ids).logits
    ...     torch.equal(model(ids).logits, first), torch.equal(other, first)
    (True, False)
    """
    names = getattr(model, "row_names", None)
    if not isinstance(names, RowNames):
        yield  # a digital model has no noise to name
        return
    before = names.sequences, names.draw
    names.sequences, names.draw = np.asarray(sequences, np.int64), draw
    try:
        yield
    finally:
        names.sequences, names.draw = before


@contextmanager
def head_rows(model: Any, batch: npt.ArrayLike, position: npt.ArrayLike) -> Iterator[None]:
    """Inside, the head computes only the rows at (batch[i], position[i]): logits are (1, rows, vocabulary)."""
    rows, columns = np.asarray(batch, np.int64), np.asarray(position, np.int64)
    names = getattr(model, "row_names", None)

    def only(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if isinstance(names, RowNames) and names.ids is not None:
            names.ids = names.ids[rows, columns][None]
        return (args[0][rows, columns][None], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(only)
    try:
        yield
    finally:
        handle.remove()
