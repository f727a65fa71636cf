"""What a training run is asked for beside its numbers, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.finetuning.evaluation import NoisyLoss
from aimc_sim.finetuning.logs import read_log
from aimc_sim.report.shown import Shown

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class Options:
    """Options decide no numbers, beside the last bit: how often things are written, and how memory is used.

    micro: rows of one forward of one process; None: all of a step's at once. sharding: "none" (DDP where there are
    several processes) or "fsdp2". stop_after: leave after so many steps, as if interrupted.

    >>> from aimc_sim.finetuning import Options
    >>> Options(save_every=100).sharding
    'none'
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


@dataclass(repr=False)
class Outcome(Shown):
    """An outcome is what a run leaves behind: its folder, the last evaluation, and the losses of the steps that this
    call made.

    recipe, hardware: names of what it trained by and for; speaks: whether this is the process that says so.
    """

    folder: Path
    last: NoisyLoss | None
    losses: list[float] = field(default_factory=list)
    finished: bool = True
    speaks: bool = True
    recipe: str = ""
    hardware: str = ""

    @property
    def before(self) -> dict[str, float] | None:
        """Losses before the first step, by the log; None where it has none, or nothing later to compare with."""
        rows = [row for row in read_log(self.folder) if row.get("clean_loss")]
        if len(rows) < 2 or int(rows[0]["step"]) != 0:
            return None
        columns = {"clean": "clean_loss", "noisy": "noisy_loss", "noisy_std": "noisy_std"}
        return {name: float(rows[0][column]) for name, column in columns.items()}

    @property
    def summary(self) -> str:
        """Where the model is, what it was trained by and for, and its loss on chips."""
        loss = (
            ""
            if self.last is None
            else f"; {self.last.mean:.4f} nats per token on {len(self.last.chips)} chips"
        )
        return f"{self.folder}: {self.recipe} for {self.hardware}{loss}"

    def to_dict(self) -> dict[str, Any]:
        """Return names, and losses before and after."""
        last = self.last
        losses = None if last is None else {"clean": last.clean, "noisy": last.mean, "noisy_std": last.std}
        names = {"folder": str(self.folder), "recipe": self.recipe, "hardware": self.hardware}
        return {**names, "losses_before": self.before, "losses": losses}

    def print_on(self, console: Console) -> None:
        """Print names, and losses before and after."""
        last, before = self.last, self.before
        lines = [f"{self.folder}: {self.recipe} for {self.hardware}"]
        if last is not None:
            clean = f"{before['clean']:.4f} → " if before else ""
            noisy = f"{before['noisy']:.4f} ± {before['noisy_std']:.4f} → " if before else ""
            lines += [
                f"loss without noise   {clean}{last.clean:.4f} nats per token",
                f"loss on {len(last.chips)} chips      {noisy}{last.mean:.4f} ± {last.std:.4f}",
            ]
        console.print("\n".join(lines), soft_wrap=True)
