"""Language models: checkpoints in, named tensors out, and which of their matrices could be analog."""

from __future__ import annotations

from aimc_sim.models.checkpoint import Checkpoint, open_checkpoint
from aimc_sim.models.families import (
    FAMILIES,
    Candidate,
    candidates,
    generation_defaults,
    model_type,
    skeleton,
)
from aimc_sim.models.smollm2 import smollm2_path
from aimc_sim.models.tensors import SourceTensor
from aimc_sim.models.tokenizer import load_tokenizer

__all__ = [
    "FAMILIES",
    "Candidate",
    "Checkpoint",
    "SourceTensor",
    "candidates",
    "generation_defaults",
    "load_tokenizer",
    "model_type",
    "open_checkpoint",
    "skeleton",
    "smollm2_path",
]
