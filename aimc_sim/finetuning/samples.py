"""`sample`: text to train on, as shards of equal rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.finetuning.models import load_plain, open_for_training
from aimc_sim.finetuning.numbers import parse_count, parse_part
from aimc_sim.finetuning.rows import TokenRows
from aimc_sim.finetuning.sampler import plan_for
from aimc_sim.finetuning.shards import rows_for, sample_rows_to
from aimc_sim.finetuning.texts import shards_of_text
from aimc_sim.models import Checkpoint
from aimc_sim.report.shown import Shown

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, repr=False)
class Samples(Shown):
    """Samples are a folder of token shards. shards: those of this call; tokens: in all of the folder's rows of
    ``length`` tokens, None where other processes fill it too.
    """

    folder: Path
    shards: tuple[Path, ...]
    tokens: int | None
    length: int

    @property
    def summary(self) -> str:
        """Where the shards are, and how many."""
        tokens = "" if self.tokens is None else f", {self.tokens:,} tokens in rows of {self.length}"
        return f"{self.folder}: {len(self.shards)} shards{tokens}"

    def to_dict(self) -> dict[str, Any]:
        """Return the folder, and counts."""
        shards = {"folder": str(self.folder), "shards": len(self.shards)}
        return {**shards, "tokens": self.tokens, "length": self.length}

    def print_on(self, console: Console) -> None:
        """Print the summary."""
        console.print(self.summary, soft_wrap=True)


def sample(
    checkpoint: str | Path | Checkpoint,
    output: str | Path,
    *,
    tokens: int | str,
    length: int = 512,
    sequences: int = 256,
    batch: int = 64,
    temperature: float = 1.0,
    top_k: int | None = 50,
    seed: int = 0,
    part: str = "0/1",
    text: str | Path | None = None,
    progress: Progress | None = None,
) -> Samples:
    """Write text to train on: the model's own samples, or rows of another ``text``.

    tokens: how many, in whole rows ("2M"); shards in the folder are kept, and more tokens go on from there. length:
    tokens a row; sequences: rows a shard; batch: rows generated together. top_k: only the most likely tokens, None or 0
    for all. part: "i/n", every n-th shard from the i-th on, to share a folder. text: a file, or
    "datasets:NAME[:SPLIT[:COLUMN]]". Raises BadInput where the folder holds shards of another plan.

    >>> import aimc_sim
    >>> aimc_sim.sample("model/", "samples", tokens=256, length=16, sequences=8, batch=8).tokens
    256
    """
    wanted, share, folder = parse_count(str(tokens), "tokens"), parse_part(part), Path(output)
    if folder.exists() and not folder.is_dir():
        raise BadInput("output", got=str(folder), why="it is a file", do="name a folder")
    if text is not None and share != (0, 1):
        raise BadInput("part", got=part, why="a text is cut by one process", do="leave part (--part) out")
    if top_k is not None and top_k < 0:
        raise BadInput("top_k", got=top_k, why="it counts tokens", do="use 1 or more, or 0 for all")
    opened = open_for_training(checkpoint)
    if text is not None:
        paths = shards_of_text(opened, str(text), folder, tokens=wanted, length=length, sequences=sequences)
    else:
        model = load_plain(opened).eval()
        plan = plan_for(
            model, length=length, sequences=sequences, batch=batch, temperature=temperature, top_k=top_k or None,
            seed=seed,
        )  # fmt: skip
        paths = sample_rows_to(model, folder, plan, rows_for(wanted, length), part=share, progress=progress)
    rows = TokenRows(folder) if share[1] == 1 else None
    return Samples(folder, tuple(paths), None if rows is None else len(rows) * rows.length, length)
