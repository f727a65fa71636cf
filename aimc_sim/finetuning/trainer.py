"""Trains a checkpoint for a chip by a recipe: one process, DDP or FSDP2, on `accelerate`, and goes on where it stopped.

Everything that a step does is a function of its number: rows, noise and learning rate. A checkpoint therefore holds
weights and moments and nothing else, and a run that goes on gives the losses that it would have given, to the last bit,
on one machine with the same threads.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.windows import Windows
from aimc_sim.finetuning import models as folders
from aimc_sim.finetuning.averaging import Average
from aimc_sim.finetuning.calibration import calibrated_ranges
from aimc_sim.finetuning.evaluation import HELD_OUT_ROWS, NoisyLoss, held_out, noisy_loss
from aimc_sim.finetuning.interruption import held_interrupts
from aimc_sim.finetuning.logs import Log, plot_losses
from aimc_sim.finetuning.losses import cross_entropy, distillation, distillation_top_k
from aimc_sim.finetuning.options import Options, Outcome
from aimc_sim.finetuning.rows import TokenRows
from aimc_sim.finetuning.schedule import learning_rate_factor
from aimc_sim.finetuning.settings import Run, chip_of
from aimc_sim.finetuning.state import State, check_run, gather_weights, load_state, newest_state, save_state
from aimc_sim.finetuning.student import begin_ranges, build_student, save_trained
from aimc_sim.finetuning.teacher import CachedTeacher
from aimc_sim.models import Checkpoint
from aimc_sim.torch_bridge.training.clipping import clip_weights
from aimc_sim.torch_bridge.training.steps import parameter_groups, set_step, shard

if TYPE_CHECKING:
    from accelerate import Accelerator

STATES = "checkpoints"


class Trainer:
    """A trainer makes one run in one process of however many. ``train()`` begins or goes on, and returns when the
    folder is whole.
    """

    def __init__(
        self,
        run: Run,
        opened: Checkpoint,
        rows: TokenRows,
        output: Path,
        *,
        windows: Windows | None = None,
        options: Options | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.run, self.opened, self.rows, self.output = run, opened, rows, output
        self.options, self.progress = options or Options(), progress
        self.recipe = run.recipe
        if rows.length < self.recipe.length:
            raise BadInput(
                "data",
                got=f"rows of {rows.length} tokens",
                why=f"the recipe trains on rows of {self.recipe.length}",
                do="sample longer rows, or use a recipe with a smaller length",
            )
        self.windows = held_out(rows) if windows is None else windows
        self._train_rows = len(rows) - (HELD_OUT_ROWS if windows is None else 0)
        accelerate = folders.require("accelerate", "training")
        self.accelerator: Accelerator = accelerate.Accelerator(
            mixed_precision=run.precision, cpu=not torch.cuda.is_available()
        )
        self.device = self.accelerator.device
        self.world, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        self._micros = self._split()
        self._check_options()
        if self.options.sharding == "fsdp2" and run.evaluate_every:
            raise BadInput(
                "evaluate_every",
                got=run.evaluate_every,
                why="no process has the whole model where weights are sharded",
                do="leave it out, export the result and use `aimc-sim eval`",
            )

    # -- the run ----------------------------------------------------------------------------------------------

    def train(self) -> Outcome:
        """Begin the run, or go on from the newest checkpoint in the output folder."""
        newest = newest_state(self.output / STATES)
        if newest is not None:
            check_run(newest, self.run)  # before anything is written beside it
        self._build(fresh=newest is None)
        self.output.mkdir(parents=True, exist_ok=True)
        state = State(0, 0, self.run) if newest is None else self._resume(newest)
        log = Log(self.output, step=state.step, tensorboard=self.options.tensorboard) if self._first else None
        recipe, chip = self.recipe.name, self.run.hardware.name
        outcome = Outcome(self.output, None, speaks=self._first, recipe=recipe, hardware=chip)
        try:
            if state.step == 0:
                outcome.last = self._evaluate(0, 0, log)
            # Of several processes none knows at which step the others were stopped.
            with held_interrupts(self.world == 1) as interrupted:
                self._steps(state, log, outcome, interrupted)
        finally:
            if log is not None:
                log.close()
        if outcome.finished:
            if self._first:
                plot_losses(self.output)
            self.save(self.output)
        return outcome

    def _steps(
        self, state: State, log: Log | None, outcome: Outcome, interrupted: Callable[[], bool]
    ) -> None:
        run, options = self.run, self.options
        last = run.steps if self.recipe.trains != "nothing" else 0
        started, tokens = time.monotonic(), 0
        step = saved_step = state.step
        while step < last:
            loss, norm = self._step(step)
            step += 1
            tokens += run.step_tokens
            self.average.update(step)
            outcome.losses.append(loss)
            final, stopped = step == last, len(outcome.losses) == options.stop_after
            evaluates = final or (run.evaluate_every and step % run.evaluate_every == 0)
            seconds = time.monotonic() - started
            if log is not None and (step % options.log_every == 0 or evaluates):
                log.write(
                    step,
                    tokens=step * run.step_tokens,
                    loss=loss,
                    learning_rate=self.optimizer.param_groups[0]["lr"],
                    gradient_norm=norm,
                    seconds=seconds,
                    tokens_per_second=tokens / seconds,
                )
            if self.progress is not None and self._first:
                self.progress("training", step * run.step_tokens, last * run.step_tokens)
            if evaluates:
                outcome.last = self._evaluate(step, step * run.step_tokens, log)
            if final or stopped or (options.save_every and step % options.save_every == 0):
                self._save_state(step)
                saved_step = step
            if interrupted() and not final:
                if saved_step != step:
                    self._save_state(step)
                raise KeyboardInterrupt
            if stopped and not final:
                outcome.finished = False
                return

    def _step(self, step: int) -> tuple[float, float]:
        """Make one update → (loss in nats per token, gradient norm before clipping), both over all processes."""
        factor = learning_rate_factor(step, self.run.steps, self.recipe.optimizer)
        for group, base in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = base * factor
        total = torch.zeros((), device=self.device)
        share = self.recipe.sequences // self.world
        micro = share // self._micros
        first = step * self.recipe.sequences + self.rank * share
        self.model.train()
        for part in range(self._micros):
            indices = self.rows.indices(first + part * micro, micro, self.run.seed, self._train_rows)
            ids = self.rows.take(indices, self.recipe.length).to(self.device)
            # Named by its first row, so that no forward draws another's noise.
            set_step(self._inner, 1 + first + part * micro, seed=self.run.seed)
            last = part == self._micros - 1
            with contextlib.nullcontext() if last else self._defer_exchange():
                loss = self._loss(ids, indices) / self._micros
                self.accelerator.backward(loss)
            total += loss.detach()
        limit = self.recipe.optimizer.gradient_norm
        norm = nn.utils.clip_grad_norm_(self._trained, float("inf") if limit is None else limit)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        value, length = float(self.accelerator.reduce(total, reduction="mean")), float(norm)
        if not (
            math.isfinite(value) and math.isfinite(length)
        ):  # before the update: no checkpoint may hold it
            raise BadInput(
                "training",
                got=f"loss {value}, gradient norm {length} in step {step + 1}",
                why="from here on every weight would be NaN",
                do="lower the learning rate in the recipe",
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value, length

    def _loss(self, ids: torch.Tensor, indices: list[int]) -> torch.Tensor:
        wanted = self.recipe.loss
        with self.accelerator.autocast():
            logits = self.model(input_ids=ids, use_cache=False).logits
        if self._cached is not None:
            values, best = self._cached.take(indices, self.recipe.length)
            loss = distillation_top_k(
                logits, values.to(self.device), best.to(self.device), wanted.temperature
            )
        else:
            assert self.teacher is not None
            with torch.no_grad():
                target = self.teacher(input_ids=ids, use_cache=False).logits
            loss = distillation(logits, target, wanted.temperature)
        if wanted.cross_entropy:
            loss = (1 - wanted.cross_entropy) * loss + wanted.cross_entropy * cross_entropy(logits, ids)
        return loss

    # -- building ---------------------------------------------------------------------------------------------

    def _build(self, *, fresh: bool) -> None:
        recipe = self.recipe
        self.hardware = chip_of(recipe, self.run.hardware)
        self._ranges = calibrated_ranges(self.opened, self.hardware, self.rows)
        model = build_student(self.run, self.opened, self.device, self._ranges, self._micros)
        if self.options.gradient_checkpointing:
            folders.recompute_activations(model)
        if fresh:
            begin_ranges(model, self._range_batches(), self.run.seed)
        self._inner: Any = model
        self.model: Any = model
        if self.options.sharding == "fsdp2":
            self.model = shard(model, layers=_decoder_layers(model))
        groups = parameter_groups(model, weight_decay=recipe.optimizer.weight_decay)
        scales = (1.0, recipe.optimizer.range_rate)
        self._rates = [recipe.optimizer.learning_rate * scale for scale in scales[: len(groups)]]
        self._trained = [value for group in groups for value in group["params"]]
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=recipe.optimizer.learning_rate,
            betas=recipe.optimizer.betas,
            eps=recipe.optimizer.eps,
        )
        if recipe.average is not None and self.options.sharding == "fsdp2":
            raise BadInput(
                "recipe.average", why="averaged weights are not sharded", do="leave it out, or do not shard"
            )
        self.average = Average(model, recipe.average)
        if self.options.sharding == "none" and self.world > 1:
            # Not accelerate's prepare_model: its autocast would stay in the module, and evaluations would have it too.
            devices = [self.device] if self.device.type == "cuda" else None
            self.model = nn.parallel.DistributedDataParallel(model, device_ids=devices)
        elif self.options.compile:
            self.model = torch.compile(self.model)
        self._build_teacher()

    def _build_teacher(self) -> None:
        wanted, self.teacher, self._cached = self.recipe.loss, None, None
        if self.recipe.trains == "nothing":
            return
        dtype = torch.bfloat16 if wanted.teacher_dtype == "bfloat16" else torch.float32
        teacher = folders.load_plain(self.opened, dtype).to(self.device).eval().requires_grad_(False)
        if wanted.top_k is None:
            self.teacher = teacher
            return
        where = self.options.teacher_cache or self.output / "teacher"
        with self.accelerator.main_process_first():
            self._cached = CachedTeacher.of(
                teacher, self.rows, where, wanted.top_k, wanted.temperature, progress=self.progress
            )

    def _range_batches(self) -> Iterator[torch.Tensor]:
        """Yield the first rows of the run, one a forward, so that memory does not depend on how many make a step."""
        count = self.recipe.training.range_forwards
        for index, row in enumerate(self.rows.indices(0, count, self.run.seed, self._train_rows)):
            if self.progress is not None and self._first:
                self.progress("ranges", index + 1, count)
            yield self.rows.take([row], self.recipe.length).to(self.device)

    def _split(self) -> int:
        """Split one step into forwards in one process."""
        share, rest = divmod(self.recipe.sequences, self.world)
        micro = max(share, 1) if self.options.micro is None else self.options.micro
        if rest or share == 0 or micro < 1 or share % micro:
            raise BadInput(
                "sequences of the recipe",
                got=self.recipe.sequences,
                why=f"{self.world} processes share them, {micro} in one forward",
                do="choose a multiple of both",
            )
        return int(share // micro)

    def _check_options(self) -> None:
        options = self.options
        for name, least in (("log_every", 1), ("save_every", 0)):
            if getattr(options, name) < least:
                raise BadInput(
                    name, got=getattr(options, name), why="it counts steps", do=f"use {least} or more"
                )
        if options.compile and options.sharding == "none" and self.world > 1:
            raise BadInput(
                "--compile",
                got=f"{self.world} processes",
                why="a compiled model is not trained by several processes here",
                do="leave --compile out, or train in one process",
            )
        if options.sharding == "fsdp2" and self.recipe.trains == "adapter":
            raise BadInput(
                "sharding",
                got=options.sharding,
                why="an adapter is saved by one process, which has only a part of it",
                do="train adapters in one process or with DDP",
            )

    @contextlib.contextmanager
    def _defer_exchange(self) -> Iterator[None]:
        """Keep gradients from being exchanged until the last forward of a step."""
        if self.options.sharding == "fsdp2":
            self.model.set_requires_gradient_sync(False)
            try:
                yield
            finally:
                self.model.set_requires_gradient_sync(True)
        else:
            with self.accelerator.no_sync(self.model):
                yield

    @property
    def _first(self) -> bool:
        return bool(self.accelerator.is_main_process)

    # -- state ------------------------------------------------------------------------------------------------

    def _resume(self, path: Path) -> State:
        state, average = load_state(path, self._inner, self.optimizer, self.run)
        self.average.put(average)
        return state

    def _save_state(self, step: int) -> None:
        state = State(step, step * self.run.step_tokens, self.run)
        save_state(self.output / STATES, self._inner, self.optimizer, state, self.average.tensors or None)
        self.accelerator.wait_for_everyone()

    def _evaluate(self, step: int, tokens: int, log: Log | None) -> NoisyLoss | None:
        """Measure the loss on the text, by the first process; None with sharded weights, which no process has whole."""
        if self.options.sharding == "fsdp2":
            return None

        self.accelerator.wait_for_everyone()
        losses = None
        if self._first:
            with self.average.mounted():
                if self.average.tensors and self.recipe.training.clip_sigma is not None:
                    clip_weights(self._inner)  # as `save_trained` does: what is saved is what was scored
                losses = noisy_loss(self._inner, self.windows, self.run.chips, first_seed=self.run.chip_seed)
            if log is not None:
                log.write(
                    step, tokens=tokens, clean_loss=losses.clean, noisy_loss=losses.mean, noisy_std=losses.std
                )
        self.accelerator.wait_for_everyone()
        return losses

    def save(self, folder: Path) -> None:
        """Write the trained model as a plain Hugging Face folder with ranges and specs beside it. All must call it."""
        weights = gather_weights(self._inner)
        if self._first:
            averaged = {key: value.cpu() for key, value in self.average.tensors.items()}
            save_trained(folder, self.run, self.opened, self._inner, {**weights, **averaged}, self._ranges)
        self.accelerator.wait_for_everyone()


def _decoder_layers(model: Any) -> list[nn.Module]:
    """Return the blocks that FSDP2 gathers one at a time: the model's longest list of modules."""
    lists = [list(module) for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=[])
