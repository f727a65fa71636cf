"""``aimc-sim signoff FILE``: chips × times against the digital model, a report, and a verdict as exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from aimc_sim.cli.console import print_shown, progress_bars


def command(
    invoked: typer.Context,
    file: Path = typer.Argument(help="A weight file, or a plan (TOML) that names one."),
    margin: float | None = typer.Option(
        None,
        "--margin",
        help="Largest acceptable loss: nats per token of a text, of questions a share, such as 0.02.",
    ),
    output: Path = typer.Option(..., "-o", "--output", help="Folder for the report and the journal."),
    chips: int | None = typer.Option(None, "--chips", help="How many chips are simulated; 5 unless told."),
    times: str | None = typer.Option(
        None, "--times", help="Times since programming; 1m,1h,1d,1y unless told."
    ),
    hardware: str | None = typer.Option(None, help="A preset or TOML file instead of the file's default."),
    device: str | None = typer.Option(
        None, "--device", help="Other cells: a device, several with commas, or a family such as all-pcm."
    ),
    tasks: str | None = typer.Option(
        None, "--tasks", help="Tasks of lm-evaluation-harness, such as arc_easy,piqa; not a text then."
    ),
    tasks_dir: Path | None = typer.Option(None, "--tasks-dir", help="A folder of YAML files with own tasks."),
    rows: Path | None = typer.Option(None, "--rows", help="A folder of local rows, for the tasks afm_…"),
    limit: int | None = typer.Option(None, "--limit", help="Only the first questions of each task."),
    num_fewshot: int | None = typer.Option(
        None,
        "--num-fewshot",
        help="Worked examples in front of each question; the task's own number unless told.",
    ),
    metric: str | None = typer.Option(
        None,
        help="Of texts, kl: divergence from the digital model, or loss: increase of its loss. Of tasks, such as acc.",
    ),
    text: Path | None = typer.Option(
        None, "--text", help="Score this text, not samples of the model itself."
    ),
    sequences: int | None = typer.Option(None, help="Samples of the model itself; 16 unless told."),
    length: int | None = typer.Option(None, help="Tokens a sample; 128 unless told."),
    text_seed: int | None = typer.Option(None, help="Seed of the samples; 1 unless told."),
    context: int | None = typer.Option(None, help="Tokens a window of --text; 1,024 unless told."),
    limit_tokens: int | None = typer.Option(None, help="Only the first tokens of --text."),
    seed: int | None = typer.Option(None, help="Seed of the first chip; the others count on from it."),
    session: int | None = typer.Option(None, help="Which draw of the frozen 1/f noise."),
    batch: int | None = typer.Option(
        None, help="Windows a forward, of questions tokens; by default about 1,024 tokens."
    ),
    alpha: float | None = typer.Option(None, help="One-sided error of the verdict; 0.025 unless told."),
    looks: str | None = typer.Option(
        None, "--looks", help="Stop as soon as it is clear after so many chips, such as 3,5,8,12,20."
    ),
    engine: str = typer.Option("local", "--engine", help="local: processes here. ray: a cluster."),
    workers: int | None = typer.Option(None, "--workers", help="Processes; as many as pay off unless told."),
    threads: int | None = typer.Option(None, "--threads", help="Threads of each process; 1 unless told."),
    address: str | None = typer.Option(None, "--address", help="Of a Ray cluster; none: one is started."),
    stream: str = typer.Option(
        "auto", "--stream", help="auto: go layer by layer where a model does not fit memory. always, never."
    ),
    previous: Path | None = typer.Option(
        None, "--previous", help="Folder of an earlier sign-off: the report shows the paired difference."
    ),
    restart: bool = typer.Option(False, "--restart", help="Put an old journal aside and begin again."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Check the plan, show it and the study that the margin needs, and stop."
    ),
    as_json: bool = typer.Option(False, "--json", help="Write the report's JSON to stdout too."),
) -> None:
    """Decide over chips and times whether the model survives."""
    from aimc_sim.signoff.proposal import OF_THE_RUN, propose

    options = {name: value for name, value in invoked.params.items() if name not in ("dry_run", "as_json")}
    of_the_run = {name: options.pop(name) for name in OF_THE_RUN if name in options}
    proposal = propose(options.pop("file"), **options)
    for note in proposal.notes:
        sys.stderr.write(f"note: {note}\n")
    if dry_run:
        print_shown(proposal, as_json)
        return
    with progress_bars(quiet=as_json) as report:
        verdict = proposal.run(**of_the_run, progress=report)
    print_shown(verdict, as_json)
    if not verdict.passed:
        raise typer.Exit(1)
