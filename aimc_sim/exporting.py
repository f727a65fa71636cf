"""Checkpoint in, weight file out: streamed, checked, calibrated on the model's own text, and written at once or not."""

from __future__ import annotations

import importlib.metadata
import platform
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import Progress
from aimc_sim.calibrate.moments import collect_moments
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware, HardwareSource
from aimc_sim.models import Checkpoint, load_tokenizer, open_checkpoint
from aimc_sim.randomness import key_of
from aimc_sim.torch_bridge.model import load_digital
from aimc_sim.torch_bridge.sampling import sample_tokens
from aimc_sim.torch_bridge.streaming import release_layers
from aimc_sim.weightfile import Calibration, MatrixInfo, WeightFile
from aimc_sim.weightfile.manifest import AdapterInfo
from aimc_sim.weightfile.writer import WeightFileWriter

if TYPE_CHECKING:
    from aimc_sim.models.peft_adapter import LowRank

FALLBACK = "hermes-256"  # the hardware of a checkpoint that was trained for none
SEQUENCE_LENGTH = 128
_VERSIONS = ("aimc-sim", "torch", "transformers", "numpy", "h5py")


def export(
    checkpoint: str | Path | Checkpoint,
    path: str | Path,
    hardware: HardwareSource | None = None,
    *,
    calibration_tokens: int = 1024,
    text: str | None = None,
    token_ids: npt.NDArray[np.integer[Any]] | None = None,
    seed: int = 0,
    base_alone: bool = False,
    progress: Progress | None = None,
) -> WeightFile:
    """Export a checkpoint: write a weight file and return it open.

    checkpoint: a Hugging Face folder, a GGUF file, a model id, or an opened Checkpoint. hardware: the default of the
    file, a preset's name, a TOML file or a Hardware; None is what the folder was trained for, else hermes-256.
    calibration_tokens: how much text calibration sees, in
    sequences of 128; 0 skips calibration. The text is the model's own (from BOS, with ``seed``), unless ``text``
    (tokenised, cut to calibration_tokens) or ``token_ids`` (S, L) is given. base_alone: leave out the low-rank adapter
    of a checkpoint that has one; otherwise it goes into the file, and calibration sees base and adapter together.
    progress: called as (stage, done, total), stages "tensors" (bytes), "sample" (tokens) and "calibrate" (sequences).

    Nothing appears under ``path`` unless everything succeeded. Raises BadInput for a checkpoint, text or disk that
    cannot serve.

    >>> import aimc_sim
    >>> weights = aimc_sim.export("model/", "exported.h5", hardware="hermes-256", calibration_tokens=64)
    >>> weights.hardware.name
    'hermes-256'
    """

    spec, _ = hardware_for(checkpoint, hardware)
    _check_request(calibration_tokens, text, token_ids)
    key_of(seed)  # refuses what is no seed, before anything is written
    opened = open_checkpoint(checkpoint) if isinstance(checkpoint, (str, Path)) else checkpoint
    adapters = () if base_alone else opened.adapters
    spec.placement.check([(item.name, item.role) for item in opened.candidates])
    with WeightFileWriter(path, expected_bytes=_bytes_of(opened, adapters)) as writer:
        _write_model(writer, opened, adapters, spec, progress)
        if calibration_tokens or token_ids is not None:
            _calibrate(writer, opened, calibration_tokens, text, token_ids, seed, progress)
        return writer.finish()


def hardware_for(
    checkpoint: str | Path | Checkpoint, hardware: HardwareSource | None
) -> tuple[Hardware, str]:
    """Choose the hardware of a weight file, and say where it comes from if training has to do with it."""
    trained_for = None if isinstance(checkpoint, Checkpoint) else Path(checkpoint) / "hardware.toml"
    if trained_for is None or not (trained_for.is_file() and trained_for.with_name("analog.json").is_file()):
        return Hardware.load(hardware or FALLBACK), ""
    trained, chosen = Hardware.load(trained_for), Hardware.load(hardware or trained_for)
    if hardware is None:
        return chosen, f"hardware {chosen.name}, from {trained_for}"
    same = trained.id == chosen.id
    return (
        chosen,
        "" if same else f"hardware {chosen.name}; the folder was trained for {trained.name} ({trained_for})",
    )


def _check_request(tokens: int, text: str | None, token_ids: npt.NDArray[Any] | None) -> None:
    if text is not None and token_ids is not None:
        raise BadInput("calibration", why="both text and token_ids are given", do="pass one of them")
    if tokens < 0 or 0 < tokens < 2:
        raise BadInput(
            "calibration_tokens",
            got=tokens,
            why="statistics need some text",
            do="choose 2 or more, or 0 to skip calibration",
        )


def _write_model(
    writer: WeightFileWriter,
    opened: Checkpoint,
    adapters: tuple[LowRank, ...],
    spec: Hardware,
    progress: Progress | None,
) -> None:
    # Documents first, so that a preview has them.
    writer.add_document("config.json", opened.config)
    writer.add_document("generation_config.json", opened.generation_config)
    writer.add_document("hardware.toml", spec.to_toml().encode())
    for name, data in opened.tokenizer_files.items():
        writer.add_tokenizer_file(name, data)
    table = tuple(AdapterInfo.of(adapter.matrix, adapter.scale) for adapter in adapters)
    beside = (adapter.tensors(info.a, info.b) for adapter, info in zip(adapters, table, strict=True))
    done, total = 0, _bytes_of(opened, adapters)
    for tensor in chain(opened.tensors(), *beside):
        writer.add_tensor(tensor.name, tensor.bits, tensor.dtype)
        done += tensor.bits.nbytes
        if progress is not None:
            progress("tensors", done, total)
    writer.set_matrices(matrix_table(opened))
    writer.set_adapters(table)
    for name, ranges in opened.ranges.items():
        writer.add_ranges(name, ranges)
    files = opened.source["files"] + (opened.adapter_source if adapters else [])
    writer.add_document("provenance.json", opened.source | {"files": files, "versions": _versions()})


def _bytes_of(opened: Checkpoint, adapters: tuple[LowRank, ...]) -> int:
    return opened.nbytes + sum(adapter.nbytes for adapter in adapters)


def matrix_table(opened: Checkpoint) -> tuple[MatrixInfo, ...]:
    """Return the file's list of candidates: ordinals in module order, the head last,
    a tied head on the embedding's tensor.
    """
    table = []
    for ordinal, item in enumerate(opened.candidates):
        tensor = opened.tied.get(f"{item.name}.weight", f"{item.name}.weight")
        table.append(
            MatrixInfo(
                item.name,
                ordinal,
                item.rows,
                item.cols,
                opened.infos[tensor].dtype,
                cast(Any, item.layout),
                item.has_bias,
                item.role,
                tensor,
            )
        )
    return tuple(table)


def _calibrate(
    writer: WeightFileWriter,
    opened: Checkpoint,
    tokens: int,
    text: str | None,
    token_ids: npt.NDArray[Any] | None,
    seed: int,
    progress: Progress | None,
) -> None:
    preview = writer.preview()
    model = load_digital(preview)
    length = min(
        SEQUENCE_LENGTH, int(getattr(model.config, "max_position_embeddings", SEQUENCE_LENGTH)), tokens or 2
    )
    if token_ids is not None:
        ids, source = _given_ids(token_ids, model.config), "token ids given to export"
    elif text is not None:
        ids, source = _tokenize(text, opened, tokens, length), "text given to export"
    else:
        ids = sample_tokens(
            model, sequences=-(-tokens // length), length=length, seed=seed, progress=progress
        )
        source = f"sampled from the model itself, temperature 1, seed {seed}"
    release_layers(model, preview)
    moments = collect_moments(model, ids, [item.name for item in opened.candidates], progress=progress)
    writer.add_calibration(Calibration(ids, source))
    for name, item in moments.items():
        writer.add_moments(name, item)


def _given_ids(token_ids: npt.NDArray[Any], config: Any) -> npt.NDArray[np.int32]:
    ids = np.asarray(token_ids)
    limit = getattr(config, "max_position_embeddings", None) or ids.shape[-1]
    if ids.ndim != 2 or ids.size == 0 or ids.dtype.kind not in "iu" or ids.shape[1] > limit:
        raise BadInput(
            "token_ids",
            got=(ids.shape, str(ids.dtype)),
            why=f"calibration takes (S, L) integers, at most {limit} a row",
            do="cut the text into rows of equal length",
        )
    if ids.min() < 0 or ids.max() >= config.vocab_size:
        raise BadInput(
            "token_ids",
            got=(int(ids.min()), int(ids.max())),
            why=f"the vocabulary has {config.vocab_size} tokens",
            do="use the model's own tokenizer",
        )
    return ids.astype(np.int32)


def _tokenize(text: str, opened: Checkpoint, tokens: int, length: int) -> npt.NDArray[np.int32]:
    """Return whole rows of a text, each beginning with BOS where the model has one: (S, length) int32."""
    tokenizer = load_tokenizer(opened.tokenizer_files, opened.config)
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    words = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    body = length - len(begin)
    rows = min(-(-tokens // length), len(words) // body)
    if rows == 0:
        raise BadInput(
            "calibration text",
            got=f"{len(words)} tokens",
            why=f"one row takes {body} tokens",
            do="give a longer text",
        )
    return np.array([begin + words[row * body : (row + 1) * body] for row in range(rows)], np.int32)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
