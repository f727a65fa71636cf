"""Token shards: text that a model samples itself, or any other, as safetensors files of equal rows and one JSON index.

A folder holds ``tokens.json`` (the plan) and ``tokens-000000.safetensors`` and so on, each with ``tokens``
(sequences, length) int32. A shard is a function of (weights, plan, its number): sequence ids count through all shards,
the draw at a position belongs to (seed, sequence, position), and sequences are generated in groups of the plan's
``batch``, so that neither the other shards nor an interruption change a bit. Logits are floating-point numbers, so this
holds on one machine with the same versions and threads; elsewhere a near-tie may fall the other way.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.files import read_json, reading_tensors, write_whole
from aimc_sim.finetuning.data_plan import SamplePlan, TextPlan, Tokens
from aimc_sim.identity import canonical_json, differences_of, listed
from aimc_sim.spec import Spec

INDEX = "tokens.json"
AGAIN = "remove it and sample again"
FORMAT, SCHEMA = "aimc-sim tokens", 1


def rows_for(tokens: int, length: int) -> int:
    """Count the rows of ``length`` tokens that hold at least so many."""
    if tokens < 1:
        raise BadInput("tokens", got=tokens, why="there is nothing to sample", do="ask for at least 1")
    if length < 2:
        raise BadInput("length", got=length, why="a row holds a token and the next", do="use 2 or more")
    return -(-tokens // length)


def sample_rows_to(
    model: Any,
    folder: str | Path,
    plan: SamplePlan,
    rows: int,
    *,
    part: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> list[Path]:
    """Sample the first ``rows`` rows into a folder, keeping what is there → paths of all shards of this part.

    The last shard ends with the last row; where a later call wants more, it goes on from there.
    part: (i, n) takes every n-th shard from the i-th on, for n processes or machines that fill one folder.
    Raises BadInput where the folder holds shards of another plan.
    """
    where = Path(folder)
    index, parts = part
    if not 0 <= index < parts:
        raise BadInput("part", got=part, why="parts count from 0", do="use i/n with i below n")
    begin_folder(where, plan)
    mine = range(index, -(-rows // plan.sequences), parts)
    counts = [min(plan.sequences, rows - shard * plan.sequences) for shard in mine]
    done, total = 0, sum(counts) * plan.length
    for shard, count in zip(mine, counts, strict=True):
        path = shard_path(where, shard)
        whole = _whole_rows(path, plan)
        if len(whole) < count:
            reused = whole[: len(whole) // plan.batch * plan.batch]  # whole groups

            def on_tokens(_stage: str, tokens: int, _total: int, before: int = done + reused.size) -> None:
                if progress is not None:
                    progress("sampling", before + tokens, total)

            fresh = sample_shard(model, plan, shard, on_tokens, rows=(len(reused), count))
            _write_shard(path, np.concatenate([reused, fresh]), plan, shard)
        done += count * plan.length
        if progress is not None:
            progress("sampling", done, total)
    return [shard_path(where, shard) for shard in mine]


def sample_shards(
    model: Any, folder: str | Path, plan: SamplePlan, shards: int, **options: Any
) -> list[Path]:
    """Call `sample_rows_to` for so many whole shards."""
    return sample_rows_to(model, folder, plan, shards * plan.sequences, **options)


def sample_shard(
    model: Any,
    plan: SamplePlan,
    shard: int,
    progress: Progress | None = None,
    *,
    rows: tuple[int, int] | None = None,
) -> Tokens:
    """Sample one shard of the plan, (sequences, length) int32; or of its rows these alone, from the start of a group
    on.
    """
    # late: torch takes seconds to load, and shards are read without it
    from aimc_sim.finetuning.sampler import sample_rows

    begin, end = (0, plan.sequences) if rows is None else rows
    first = shard * plan.sequences
    return sample_rows(model, plan, np.arange(first + begin, first + end, dtype=np.int64), progress)


def write_text_shards(folder: str | Path, plan: TextPlan, rows: Tokens) -> list[Path]:
    """Write rows (n, length) of an existing text, a rest of fewer than ``sequences`` in a last, smaller shard."""
    where = Path(folder)
    begin_folder(where, plan)
    paths = []
    for shard, start in enumerate(range(0, len(rows), plan.sequences)):
        paths.append(shard_path(where, shard))
        _write_shard(paths[-1], rows[start : start + plan.sequences], plan, shard)
    return paths


def shard_path(folder: Path, shard: int) -> Path:
    """Say where a shard lies."""
    return folder / f"tokens-{shard:06d}.safetensors"


def begin_folder(folder: Path, plan: SamplePlan | TextPlan) -> None:
    """Create the folder and its index, or check that the index is the plan's. Raises BadInput for another plan."""
    document = {
        "format": FORMAT,
        "schema": SCHEMA,
        "kind": "sampled" if isinstance(plan, SamplePlan) else "text",
        "plan": plan.model_dump(mode="json"),
        "plan_id": plan.id,
    }
    path = folder / INDEX
    if path.exists():
        index = read_index(folder)
        if index["plan_id"] != plan.id:
            raise BadInput(
                str(folder),
                got=listed(differences_of(index["plan"], document["plan"])),
                why="it holds shards of another plan, and a set of text has one",
                do="give another folder, or the options that it was begun with",
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(document, indent=2) + "\n")


def read_index(folder: Path) -> dict[str, Any]:
    """Read the index of a folder of shards. Raises BadInput where there is none or it cannot be used."""
    path = folder / INDEX
    if not path.is_file():
        raise BadInput(
            "data",
            got=str(folder),
            why=f"it has no {INDEX}",
            do="make one with `aimc-sim sample CHECKPOINT --tokens N -o DIR`",
        )
    document = read_json(path, "data", mend="sample the text again")
    table: dict[str, Any] = document if isinstance(document, dict) else {}
    plan = table.get("plan")
    length = plan.get("length") if isinstance(plan, dict) else None
    ours = table.get("format") == FORMAT and table.get("schema") == SCHEMA and "plan_id" in table
    if not ours or not isinstance(length, int) or length < 2:
        raise BadInput(
            str(path), why=f"it is not an index of {FORMAT}, schema {SCHEMA}", do="sample the text again"
        )
    return table


def read_shard(path: Path) -> Tokens:
    """Read the rows of one shard. Raises BadInput where the file is damaged."""
    from safetensors.numpy import load_file

    with reading_tensors(path, "data", AGAIN):
        tokens = load_file(path).get("tokens")
    if tokens is None or tokens.ndim != 2 or tokens.dtype != np.int32:
        raise BadInput(str(path), why="it holds no table of int32 tokens", do=AGAIN)
    return tokens


def _write_shard(path: Path, tokens: Tokens, plan: Spec, shard: int) -> None:
    from safetensors.numpy import save

    # One entry: the library writes several in no particular order, and equal shards have equal bytes.
    shown = {"plan": plan.id, "shard": shard, "sha256": hashlib.sha256(tokens.tobytes()).hexdigest()}
    metadata = {"aimc_sim": canonical_json(shown)}
    write_whole(path, save({"tokens": np.ascontiguousarray(tokens)}, metadata=metadata))


def _whole_rows(path: Path, plan: SamplePlan) -> Tokens:
    """Read the rows of a shard that is there, undamaged and of this plan; else none, and it is made again."""
    none = np.empty((0, plan.length), np.int32)
    if not path.is_file():
        return none
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get("aimc_sim", "{}"))
            tokens: Tokens = np.ascontiguousarray(file.get_tensor("tokens"))
    except (SafetensorError, OSError, ValueError):
        return none
    digest = hashlib.sha256(tokens.tobytes()).hexdigest()
    same = metadata.get("plan") == plan.id and metadata.get("sha256") == digest
    fits = tokens.ndim == 2 and tokens.shape[1] == plan.length and len(tokens) <= plan.sequences
    return tokens if same and fits else none
