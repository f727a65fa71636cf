"""The rows of a folder of token shards, in one order for every epoch, read as training asks for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.files import reading_tensors
from aimc_sim.finetuning.data_plan import Tokens
from aimc_sim.finetuning.shards import AGAIN, read_index, read_shard, shard_path
from aimc_sim.identity import canonical_json
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.randomness import Stream, key_of, site_word

if TYPE_CHECKING:
    import torch

ORDER_PLANE = 1  # of stream TEXT: word 2 the epoch, word 0 the sequence; plane 0 is sampling


class TokenRows:
    """This holds every row of a folder of shards in one order: ``rows[i]`` (length,) int32 by shard and place.

    A shard is read when a row of it is asked for, and the last few stay. id: sha256 of the plan and of the shards that
    were there when it was opened.
    """

    def __init__(self, folder: str | Path, *, limit_tokens: int | None = None) -> None:
        self.folder = Path(folder)
        self.plan: dict[str, Any] = read_index(self.folder)["plan"]
        self.length = int(self.plan["length"])
        self._starts, self._paths = [0], []
        for path in _consecutive(self.folder):
            self._paths.append(path)
            self._starts.append(self._starts[-1] + _rows_of(path, self.length))
        if not self._paths:
            raise BadInput("data", got=str(folder), why="it holds no shard yet", do="run `aimc-sim sample`")
        self._count = self._starts[-1]
        if limit_tokens is not None:
            self._count = min(self._count, max(1, limit_tokens // self.length))
        self.id = hashlib.sha256(
            canonical_json({"plan": self.plan, "rows": self._count}).encode()
        ).hexdigest()[:16]
        self._open: dict[int, Tokens] = {}
        self._known: int | None = None
        self._order: tuple[tuple[int, int, int], npt.NDArray[np.int64]] | None = None

    def shards(self) -> list[Path]:
        """List the files, in order."""
        return list(self._paths)

    def expect(self, vocabulary: int) -> None:
        """Raise BadInput for a shard with a token that a model of so many does not know, now and when one is read."""
        self._known = vocabulary
        self._open.clear()
        self.shard(0)

    def shard(self, number: int) -> Tokens:
        """Read the rows of one shard, (rows, length) int32."""
        if number not in self._open:
            tokens = read_shard(self._paths[number])
            if self._known is not None and tokens.size:
                strange = int(tokens.max()) if tokens.min() >= 0 else int(tokens.min())
                if not 0 <= strange < self._known:
                    raise BadInput(
                        "data",
                        got=f"token {strange} in {self._paths[number].name}",
                        why=f"the model knows {self._known} tokens, so this text is not its own",
                        do="sample it from this checkpoint",
                    )
            if len(self._open) >= 64:
                del self._open[next(iter(self._open))]
            self._open[number] = tokens
        return self._open[number]

    def place(self, row: int) -> tuple[int, int]:
        """Return the shard of a row, and its place there."""
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        return shard, row - self._starts[shard]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> Tokens:
        shard, place = self.place(row)
        tokens: Tokens = self.shard(shard)[place]
        return tokens

    def take(self, indices: list[int], length: int) -> torch.Tensor:
        """Read the first ``length`` tokens of these rows, (count, length) int64."""
        import torch

        return torch.from_numpy(np.stack([self[i][:length] for i in indices]).astype(np.int64))

    def indices(self, position: int, count: int, seed: int, among: int | None = None) -> list[int]:
        """Return the rows at position … position + count − 1 of the endless sequence of epochs over the first
        ``among`` rows.

        Each epoch has an order of its own, of (seed, epoch), so where training stands is one integer.
        """
        rows = self._count if among is None else among
        wanted = []
        for place in range(position, position + count):
            epoch, offset = divmod(place, rows)
            if self._order is None or self._order[0] != (epoch, seed, rows):
                self._order = (epoch, seed, rows), order_of(rows, epoch, seed)
            wanted.append(int(self._order[1][offset]))
        return wanted


def order_of(rows: int, epoch: int, seed: int) -> npt.NDArray[np.int64]:
    """Return a permutation of (rows,) drawn with the keyed generator: rows sorted by 64 random bits each."""
    counter = np.zeros((rows, 4), np.uint32)
    counter[:, 0] = np.arange(rows)
    counter[:, 2] = epoch
    counter[:, 3] = site_word(Stream.TEXT, 0, ORDER_PLANE)
    words = philox4x32(counter, key_of(seed)).astype(np.uint64)
    return np.argsort(words[:, 0] << np.uint64(32) | words[:, 1], kind="stable")


def _consecutive(folder: Path) -> Iterator[Path]:
    """List the shards from number 0 on, up to the first that is missing."""
    shard = 0
    while (path := shard_path(folder, shard)).is_file():
        yield path
        shard += 1


def _rows_of(path: Path, length: int) -> int:
    from safetensors import safe_open

    with reading_tensors(path, "data", AGAIN), safe_open(path, framework="numpy") as file:
        shape = file.get_slice("tokens").get_shape()
    if len(shape) != 2 or shape[1] != length:
        raise BadInput(
            str(path),
            got=tuple(shape),
            why=f"rows of this set have {length} tokens",
            do=AGAIN,
        )
    return int(shape[0])
