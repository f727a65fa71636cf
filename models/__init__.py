"""Language models: checkpoints in, named tensors out, and which of their matrices could be analog."""

from __future__ import annotations

from aimc_sim.models.checkpoint import Checkpoint, open_checkpoint
from aimc_sim.models.families import FAMILIES as FAMILIES
from aimc_sim.models.families import Candidate as Candidate
from aimc_sim.models.families import candidates as candidates
from aimc_sim.models.families import generation_defaults as generation_defaults
from aimc_sim.models.families import model_type as model_type
from aimc_sim.models.families import skeleton as skeleton
from aimc_sim.models.smollm2 import smollm2_path
from aimc_sim.models.tensors import SourceTensor as SourceTensor
from aimc_sim.models.tokenizer import load_tokenizer

__all__ = ["Checkpoint", "load_tokenizer", "open_checkpoint", "smollm2_path"]
