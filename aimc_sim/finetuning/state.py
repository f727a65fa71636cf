"""A training run's state on disk: safetensors and JSON, whole or not at all, from which training goes on to the bit.

Parameters and optimizer moments are gathered whole on the first process (one process, DDP and FSDP2 alike) and named by
the module path, so that a run may go on with another number of processes. What else decides the next step (learning
rate, rows, noise) is a function of the step's number.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aimc_sim.errors import BadInput
from aimc_sim.files import reading_tensors, replace
from aimc_sim.finetuning.settings import Run
from aimc_sim.identity import canonical, differences_of, listed

FILE_WEIGHTS, FILE_MOMENTS, FILE_STATE = "parameters.safetensors", "optimizer.safetensors", "state.json"
AGAIN = "remove this folder; training goes on from the one before"
KEPT = 2  # the newest, and one before it


@dataclass(frozen=True)
class State:
    """A state is what a checkpoint says beside its tensors: steps done, tokens seen, and the run that it belongs to."""

    step: int
    tokens: int
    run: Run


def save_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: State, average: Any = None
) -> Path | None:
    """Write ``step-NNNNNNNN`` below folder → its path on the first process, None on the others. All must call it."""
    weights, moments = _gather(model, optimizer)
    if not _first_process():
        return None
    from safetensors.torch import save_file

    name = f"step-{state.step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".step-*"):  # of a run that was killed while it wrote
        shutil.rmtree(left, ignore_errors=True)
    draft = folder / f".{name}"
    draft.mkdir()
    tensors = dict(weights)
    if average is not None:
        tensors |= {f"average:{key}": value for key, value in average.items()}
    save_file(_own(tensors), draft / FILE_WEIGHTS)
    flat, numbers = _flatten(moments)
    save_file(_own(flat), draft / FILE_MOMENTS)
    document = {"step": state.step, "tokens": state.tokens, "run": state.run.id, "settings": canonical(state.run),
                "optimizer": numbers}  # fmt: skip
    (draft / FILE_STATE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    final = folder / name
    shutil.rmtree(final, ignore_errors=True)
    replace(draft, final)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def newest_state(folder: Path) -> Path | None:
    """Find the newest checkpoint below folder, if any: folders appear under their names only when they are whole."""
    found = sorted(path for path in folder.glob("step-*") if (path / FILE_STATE).is_file())
    return found[-1] if found else None


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: Run
) -> tuple[State, dict[str, torch.Tensor]]:
    """Put a checkpoint into model and optimizer → what it says, and the averaged weights by name (empty without).

    Raises BadInput for a damaged checkpoint or one of another run.
    """
    from safetensors.torch import load_file

    document = check_run(path, run)
    with reading_tensors(path, "checkpoint of training", AGAIN):
        tensors = load_file(path / FILE_WEIGHTS)
        moments = load_file(path / FILE_MOMENTS)
    average = {k.removeprefix("average:"): v for k, v in tensors.items() if k.startswith("average:")}
    weights = {k: v for k, v in tensors.items() if not k.startswith("average:")}
    _scatter(model, optimizer, weights, _unflatten(moments, document["optimizer"]))
    return State(int(document["step"]), int(document["tokens"]), run), average


def check_run(path: Path, run: Run) -> dict[str, Any]:
    """Read what a checkpoint says beside its tensors. Raises BadInput for a damaged one, and for one of another run."""
    with reading_tensors(path, "checkpoint of training", AGAIN):
        document: dict[str, Any] = json.loads((path / FILE_STATE).read_text(encoding="utf-8"))
        begun = document["run"]
    if begun != run.id:
        why = "another checkpoint, recipe, hardware, data, length, seed, precision or evaluation"
        if "settings" in document:  # which version 0.1 did not write
            why = "other settings: " + listed(differences_of(document["settings"], canonical(run)))
        raise BadInput(
            "output",
            got=str(path.parent.parent),
            why=f"it holds a run of {why}",
            do="give another folder, or the options that the run was begun with",
        )
    return document


def gather_weights(model: nn.Module) -> dict[str, Any]:
    """Gather the whole state dict on the first process (empty on the others), on the CPU. All processes must
    call it.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return dict(get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)))


def _gather(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights, moments = get_state_dict(model, optimizer, options=options)
    return dict(weights), dict(moments)


def _scatter(
    model: nn.Module, optimizer: torch.optim.Optimizer, weights: dict[str, Any], moments: dict[str, Any]
) -> None:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=options)


def _flatten(moments: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors by ``parameter|kind``, and what is no tensor: the groups."""
    flat = {
        f"{name}|{kind}": value if isinstance(value, torch.Tensor) else torch.tensor(value)
        for name, kinds in moments["state"].items()
        for kind, value in kinds.items()
    }
    return flat, {"param_groups": moments["param_groups"]}


def _unflatten(flat: dict[str, torch.Tensor], numbers: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in flat.items():
        name, _, kind = key.rpartition("|")
        state.setdefault(name, {})[kind] = value
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items()}
        for group in numbers["param_groups"]
    ]
    return {"state": state, "param_groups": groups}


def _own(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Make copies that share no memory and are contiguous, as safetensors wants them."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def _first_process() -> bool:
    import torch.distributed as dist

    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
