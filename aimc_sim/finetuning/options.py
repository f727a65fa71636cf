"""What a training run is asked for beside its numbers, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from aimc_sim.finetuning.evaluation import NoisyLoss


@dataclass
class Options:
    """What does not decide numbers, beside the last bit: how often things are written, and how memory is used.

    micro: rows of one forward of one process; None: all of a step's at once. sharding: "none" (DDP where there are
    several processes) or "fsdp2". stop_after: leave after so many steps, as if interrupted.
    """

    log_every: int = 10
    save_every: int = 0
    micro: int | None = None
    sharding: str = "none"
    compile: bool = False
    gradient_checkpointing: bool = False
    tensorboard: bool = True
    stop_after: int | None = None
    teacher_cache: Path | None = None


@dataclass
class Outcome:
    """What a run leaves behind: its folder, the last evaluation, and the losses of the steps that this call made."""

    folder: Path
    last: NoisyLoss | None
    losses: list[float] = field(default_factory=list)
    finished: bool = True
    speaks: bool = True  # whether this is the process that says so
