"""Reads a low-rank adapter as peft saves it: ``adapter_config.json`` and ``adapter_model.safetensors`` in a folder.

What counts is y = W·x + scale·B(A·x) with scale = lora_alpha/r, or lora_alpha/√r with use_rslora. A setting under which
peft would compute anything else is refused, and so is one that is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aimc_sim.errors import BadInput
from aimc_sim.models.families import Candidate
from aimc_sim.models.hf_folder import Place, read_bits, read_header, read_json
from aimc_sim.models.tensors import SourceTensor, TensorInfo, check_finite

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
_USED = frozenset(
    "peft_type r lora_alpha use_rslora rank_pattern fan_in_fan_out bias init_lora_weights".split()
)
# What the adapter was made from, where it goes (its tensors say so themselves), and how it was trained.
_NO_EFFECT = frozenset(
    "auto_mapping base_model_name_or_path eva_config exclude_modules inference_mode layers_pattern "
    "layers_to_transform lora_dropout megatron_core peft_version qalora_group_size revision target_modules "
    "task_type".split()
)
_INITIAL = (True, False, "gaussian", "orthogonal", "eva")  # of A and B alone; others change the base, too
_MERGED = "merge the adapter into the base (merge_and_unload), or leave it out with --base-alone"
_DAMAGED = "train or save the adapter again, or leave it out with --base-alone"


@dataclass(frozen=True)
class LowRank:
    """A low-rank adapter lies beside one matrix: A (r, K) and B (N, r) by their facts, and the scale."""

    matrix: str
    a: TensorInfo
    b: TensorInfo
    scale: float
    _places: tuple[Place, Place] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Return the size of A and B in bytes."""
        return self.a.nbytes + self.b.nbytes

    def tensors(self, a: str, b: str) -> Iterator[SourceTensor]:
        """A and B under these names. Raises BadInput where one is not finite."""
        for name, place in zip((a, b), self._places, strict=True):
            bits = read_bits(place)
            check_finite(name, bits, place.info.dtype)
            yield SourceTensor(name, bits, place.info.dtype)


def adapter_files(folder: Path) -> tuple[Path, Path]:
    """Return settings and weights of an adapter's folder."""
    return folder / CONFIG, folder / WEIGHTS


def read_adapter(folder: Path, candidates: Sequence[Candidate]) -> tuple[LowRank, ...]:
    """Return the adapters in a folder, in the order of the matrices that they lie beside; no weight is read yet.

    Raises BadInput for settings that a weight file cannot represent, and for tensors that fit no matrix.
    """
    config = read_json(folder / CONFIG, required=True)
    alpha, rank = _settings(config, folder)
    if not (folder / WEIGHTS).is_file():
        raise BadInput("adapter", got=str(folder), why=f"it has no {WEIGHTS}", do=_DAMAGED)
    pairs: dict[str, dict[str, Place]] = {}
    for stored, place in read_header(folder / WEIGHTS).items():
        suffix = next((end for end in (_A, _B) if stored.endswith(end)), None)
        if suffix is None or not stored.startswith(_PREFIX):
            raise BadInput(
                f"tensor of {folder / WEIGHTS}",
                got=stored,
                why="it is neither A nor B of a plain matrix",
                do=_MERGED,
            )
        pairs.setdefault(stored[len(_PREFIX) : -len(suffix)], {})[suffix] = place
    if not pairs:
        raise BadInput("adapter", got=str(folder), why="there are no tensors in it", do=_DAMAGED)
    known = {candidate.name: candidate for candidate in candidates}
    odd = next((name for name in pairs if name not in known), None)
    if odd is not None:
        raise BadInput(f"adapter in {folder}", got=odd, why="the model has no such matrix", do=_DAMAGED)
    if config.get("fan_in_fan_out") and not any(known[name].layout == "in_out" for name in pairs):
        raise BadInput(
            f"{folder / CONFIG}: fan_in_fan_out", got=True, why="it says that the matrices lie as (inputs, outputs), "
            "and none of this model does", do=_DAMAGED,
        )  # fmt: skip
    ranks = {rank, *(config.get("rank_pattern") or {}).values()}
    rooted = bool(config.get("use_rslora"))
    return tuple(
        _pair(candidate, pairs[candidate.name], alpha, ranks, rooted)
        for candidate in candidates
        if candidate.name in pairs
    )


def _settings(config: dict[str, Any], folder: Path) -> tuple[float, int]:
    """Return (lora_alpha, r), everything else checked."""
    kind, initial = config.get("peft_type"), config.get("init_lora_weights", True)
    patterns: Any = config.get("rank_pattern") or {}
    for key, right, why in (
        ("peft_type", kind == "LORA", "only LoRA is a low-rank product beside a matrix"),
        ("bias", config.get("bias", "none") == "none", "biases of the base were trained, too"),
        ("init_lora_weights", initial in _INITIAL, "an adapter that begins so changes the base as well"),
        ("r", _whole(config.get("r")), "the rank is a whole number"),
        ("lora_alpha", _number(config.get("lora_alpha")), "the scale is a finite number"),
        ("use_rslora", isinstance(config.get("use_rslora", False), bool), "it is true or false"),
        ("rank_pattern", isinstance(patterns, dict) and all(map(_whole, patterns.values())),
         "it is a table of ranks"),
    ):  # fmt: skip
        if not right:
            raise BadInput(f"{folder / CONFIG}: {key}", got=config.get(key), why=why, do=_MERGED)
    for key in sorted(config.keys() - _USED - _NO_EFFECT):
        if config[key]:
            raise BadInput(
                f"{folder / CONFIG}: {key}",
                got=config[key],
                why="it may change what the adapter computes, which is taken for scale·B(A·x)",
                do=_MERGED,
            )
    return float(config["lora_alpha"]), int(config["r"])


def _whole(value: Any) -> bool:
    return type(value) is int and 0 < value < 1 << 31


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e30


def _pair(
    candidate: Candidate, places: dict[str, Place], alpha: float, ranks: set[int], rooted: bool
) -> LowRank:
    a, b = (None if (place := places.get(suffix)) is None else place.info for suffix in (_A, _B))
    rank = a.shape[0] if a is not None and len(a.shape) == 2 else 0
    if (
        a is None
        or b is None
        or rank not in ranks
        or (a.shape, b.shape) != ((rank, candidate.rows), (candidate.cols, rank))
    ):
        raise BadInput(
            f"adapter of {candidate.name}",
            got=(a and a.shape, b and b.shape),
            why=f"with rank {', '.join(map(str, sorted(ranks)))} it must be (r, {candidate.rows}) and "
            f"({candidate.cols}, r)",
            do=_DAMAGED,
        )
    scale = alpha / (math.sqrt(rank) if rooted else rank)
    return LowRank(candidate.name, a, b, scale, (places[_A], places[_B]))
