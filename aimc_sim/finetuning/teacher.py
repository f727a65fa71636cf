"""A teacher asked once: its best log-probabilities of every token of the data, kept shard by shard beside it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.files import reading_tensors, write_whole
from aimc_sim.finetuning.losses import keep_top_k
from aimc_sim.finetuning.rows import TokenRows
from aimc_sim.finetuning.sampler import model_id

INDEX = "teacher.json"
FORWARD_TOKENS = 4096


class CachedTeacher:
    """A cached teacher keeps k log-probabilities and the rest of every token, by row of the data: 6·k + 4 bytes a
    token on disk.
    """

    def __init__(self, folder: Path, rows: TokenRows) -> None:
        self._folder, self._rows = folder, rows
        self._open: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @classmethod
    def of(
        cls,
        teacher: Any,
        rows: TokenRows,
        folder: Path,
        k: int,
        temperature: float,
        progress: Progress | None = None,
    ) -> CachedTeacher:
        """Open the cache in a folder, made where it is missing, shard by shard. Raises BadInput for another
        teacher's.
        """
        from safetensors.torch import save

        document = {"teacher": model_id(teacher), "dtype": str(teacher.dtype), "k": k, "temperature": temperature,
                    "data": rows.plan}  # fmt: skip
        text = json.dumps(document, indent=1, sort_keys=True) + "\n"
        folder.mkdir(parents=True, exist_ok=True)
        index = folder / INDEX
        if index.exists() and index.read_text(encoding="utf-8") != text:
            raise BadInput(
                "cached teacher",
                got=str(folder),
                why="it holds another teacher's answers, or to another text",
                do="remove the folder, or name another",
            )
        write_whole(index, text)
        for number in range(len(rows.shards())):
            target = _path(folder, number)
            tokens = rows.shard(number)
            asked = hashlib.sha256(tokens.tobytes()).hexdigest()
            if _hash_answered(target) != asked:  # none yet, or the shard has grown or changed since
                values, indices = _answers(teacher, tokens, k, temperature)
                tensors = {"values": values.half(), "indices": indices.int()}
                write_whole(target, save(tensors, metadata={"tokens": asked}))
            if progress is not None:
                progress("teacher", number + 1, len(rows.shards()))
        return cls(folder, rows)

    def take(self, indices: list[int], length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return of these rows: values float32 and token ids int64, each (rows, length, k + 1), the last the rest."""
        pairs = []
        for row in indices:
            shard, place = self._rows.place(row)
            values, best = self._shard(shard)
            pairs.append((values[place, :length].float(), best[place, :length].long()))
        return torch.stack([v for v, _ in pairs]), torch.stack([b for _, b in pairs])

    def _shard(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        if number not in self._open:
            from safetensors.torch import load_file

            if len(self._open) >= 64:
                del self._open[next(iter(self._open))]
            path = _path(self._folder, number)
            with reading_tensors(path, "cached teacher", "remove this file"):
                tensors = load_file(path)  # mapped: pages come when they are read
            self._open[number] = tensors["values"], tensors["indices"]
        return self._open[number]


def _path(folder: Path, number: int) -> Path:
    return folder / f"teacher-{number:06d}.safetensors"


def _hash_answered(path: Path) -> str | None:
    """Return the sha256 of the tokens that the file answers; None where there is no file, or none that can be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            asked: str | None = (file.metadata() or {}).get("tokens")
            return asked
    except (OSError, SafetensorError):
        return None


@torch.no_grad()
def _answers(teacher: Any, tokens: Any, k: int, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    batch = max(1, FORWARD_TOKENS // tokens.shape[1])
    values, indices = [], []
    for first in range(0, len(tokens), batch):
        ids = torch.from_numpy(tokens[first : first + batch].astype(np.int64)).to(teacher.device)
        kept = keep_top_k(teacher(input_ids=ids, use_cache=False).logits, k, temperature)
        values.append(kept[0].cpu())
        indices.append(kept[1].cpu())
    return torch.cat(values), torch.cat(indices)
