"""Recovery experiments: a model samples its own text, is trained on it, and is scored on chips before and after.

Recovery is given in two senses: the published one, where the original has noise and no converters and the trained model
has noise and 8-bit converters on both sides, and the other one, with converters in both. Everything runs through the
commands `aimc-sim sample`, `train` and `export`, in processes of ``threads`` threads, and a second call goes on where
the first was interrupted. Experiments: `benchmarks.reproduce_small`, `benchmarks.reproduce_smollm2`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import start, torch_threads
from benchmarks.recovery import Recovery, recovery

CELLS = """name = "pcm-afm cells, no converters"
base = "afm-llama"
compensation = false
dac = false
adc = false
"""


@dataclass(frozen=True)
class Arm:
    """One training run: what it lays over the recipe, and its share of the full run's tokens. curve: whether it is a
    point of recovery against tokens, and not an ablation."""

    name: str
    says: str
    share: float
    changes: str = ""
    curve: bool = False


@dataclass(frozen=True)
class Experiment:
    """What differs between experiments. chip: `CELLS` with converters, hardware as TOML; recipe: TOML that
    every arm starts from; length: tokens of a sampled row, temperature: of the sampling; context: of a scored window;
    goal: a share."""

    title: str
    chip: str
    recipe: str
    arms: tuple[Arm, ...]
    tokens: int
    sampled: int
    length: int
    chips: int
    context: int
    goal: float
    temperature: float = 1.0
    threads: int = 1
    calibration: int = 8192
    train: tuple[str, ...] = ()
    limit_tokens: int | None = None


class Commands:
    """Runs `aimc-sim` commands, ``workers`` processes of ``threads`` threads at a time, and keeps their times."""

    def __init__(self, folder: Path, workers: int, threads: int) -> None:
        self._folder, self._workers = folder, workers
        self._environment = {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
        self.seconds: dict[str, float] = {}

    def run(self, commands: Sequence[tuple[str, list[str]]]) -> None:
        """Run (name, arguments) in this order, as many at once as there are workers. Stops where one fails."""
        waiting, running = list(commands), []
        while waiting or running:
            while waiting and len(running) < self._workers:
                running.append(self._start(*waiting.pop(0)))
            for job in list(running):
                name, process, log, started = job
                if process.poll() is None:
                    continue
                running.remove(job)
                self.seconds[name] = time.monotonic() - started
                log.close()
                if process.returncode:
                    for _, other, _, _ in running:
                        other.terminate()
                    sys.exit(f"{name} failed: see {log.name}")
                print(f"{name}: {self.seconds[name]:.0f} s", flush=True)
            time.sleep(0.2)

    def _start(self, name: str, arguments: list[str]) -> Any:
        log = (self._folder / f"{name}.log").open("w", encoding="utf-8")
        print(f"$ aimc-sim {shlex.join(arguments)}", flush=True)
        started = time.monotonic()
        process = start("aimc_sim.cli.app", arguments, log, self._environment)
        return name, process, log, started


def add_options(parser: argparse.ArgumentParser, experiment: Experiment, output: str) -> None:
    """Add the options that all experiments have."""
    parser.add_argument("--text", help="held-out text of the kind that the model knows")
    parser.add_argument("--tokens", type=int, default=experiment.tokens, help="tokens of the full run")
    parser.add_argument("--sampled", type=int, default=experiment.sampled, help="tokens sampled to train on")
    parser.add_argument("--arms", default="", help="only these, separated by commas")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) // experiment.threads))
    parser.add_argument("-o", "--output", type=Path, default=Path(output))


def smallest(experiment: Experiment) -> Experiment:
    """An experiment at its smallest size: its first arm, a few steps, on a few chips."""
    return replace(
        experiment, arms=experiment.arms[:1], tokens=64, sampled=1024, length=32, chips=5, context=32,
        calibration=64, limit_tokens=1536, recipe=f"length = 32\nsequences = 2\n{experiment.recipe}",
    )  # fmt: skip


def own_model(folder: Path, smoke: bool = False) -> tuple[str, str]:
    """Train a small model on a grammar's stories, unless an earlier run has → (model, held-out text)."""
    model, text = folder / "model", folder / "held-out.txt"
    if not text.exists():
        from benchmarks.small_model import make

        folder.mkdir(parents=True, exist_ok=True)
        size = {"steps": 40, "sequences": 4, "count": 200} if smoke else {}
        make(folder, **size, progress=say)
    return str(model), str(text)


def run(experiment: Experiment, model: str, text: str, options: Any, started: float) -> dict[str, Any]:
    """Sample, train, score; writes result.json and recovery.png and prints the table."""
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    commands = Commands(folder, options.workers, experiment.threads)
    names = set(options.arms.split(",")) if options.arms else {arm.name for arm in experiment.arms}
    arms = [arm for arm in experiment.arms if arm.name in names]
    chip = written(folder / "chip.toml", experiment.chip)
    cells = written(folder / "cells.toml", CELLS)
    sampled = experiment.length * -(-options.sampled // experiment.length // options.workers)
    tokens_folder, text_options = str(folder / "tokens"), ["--length", str(experiment.length), "--top-k", "0"]
    text_options += ["--temperature", str(experiment.temperature), "--tokens", str(sampled * options.workers)]
    commands.run([
        (
            f"sample-{index}",
            ["sample", model, *text_options, "--part", f"{index}/{options.workers}", "-o", tokens_folder],
        )
        for index in range(options.workers)
    ])  # fmt: skip
    common = ["--hardware", str(chip), "--data", tokens_folder, "--teacher-cache", str(folder / "teacher")]
    common += ["--log-every", "50", "--no-tensorboard", *experiment.train]
    jobs = []
    for arm in arms:
        recipe = written(
            folder / f"{arm.name}.toml", f'name = "{arm.name}"\n{experiment.recipe}{arm.changes}'
        )
        tokens, output = max(1, round(arm.share * options.tokens)), str(folder / arm.name)
        words = ["train", model, "--recipe", str(recipe), "--tokens", str(tokens), *common, "-o", output]
        jobs.append((arm.name, words))
    commands.run(jobs)
    document = {
        "question": experiment.title,
        "tokens": options.tokens,
        "sampled": options.sampled,
        "goal": experiment.goal,
        "seconds": commands.seconds,
        **evaluate(experiment, arms, (model, text), (chip, cells), options),
        "minutes": (time.monotonic() - started) / 60,
    }
    (folder / "result.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    show(document)
    plot(document, folder)
    return document


def evaluate(
    experiment: Experiment,
    arms: Sequence[Arm],
    model_and_text: tuple[str, str],
    hardware: tuple[Path, Path],
    options: Any,
) -> dict[str, Any]:
    """Losses on the chips of the original and of every arm, and recoveries in both senses."""
    from aimc_sim.evaluate.bench import Bench
    from aimc_sim.evaluate.metrics import score
    from aimc_sim.evaluate.text import windows_of_file
    from aimc_sim.exporting import export
    from aimc_sim.hardware import Hardware
    from aimc_sim.torch_bridge import load_digital

    torch_threads(os.cpu_count() or 1)
    (model, text), folder = model_and_text, options.output
    chip, cells = (Hardware.load(path) for path in hardware)

    def losses(weights: Any, design: Hardware, name: str) -> Any:
        """(chips, windows) nats per token."""
        found, bench = [], Bench(weights)
        for seed in range(experiment.chips):
            bench.mount(design, seed)
            scores = bench.score(windows, 4)
            found.append(scores.nll / scores.tokens)
            say(f"chips of {name}", seed + 1, experiment.chips)
        return np.stack(found)

    original = export(model, folder / "original.h5", chip, calibration_tokens=experiment.calibration)
    windows = windows_of_file(original, text, experiment.context, experiment.limit_tokens)
    digital = score(load_digital(original), windows, 4)
    tokens, clean = digital.tokens.astype(np.float64), digital.nll / digital.tokens
    bare, converted = (
        losses(original, cells, "the original"),
        losses(original, chip, "the original, converters"),
    )
    rows: list[dict[str, Any]] = []
    for arm in arms:
        weights = export(
            folder / arm.name,
            folder / f"{arm.name}.h5",
            chip,
            calibration_tokens=min(1024, experiment.calibration),
        )
        trained = losses(weights, chip, arm.name)
        rows.append({
            "arm": arm.name,
            "says": arm.says,
            "curve": arm.curve,
            "tokens": round(arm.share * options.tokens),
            "digital": score(load_digital(weights), windows, 4).loss,
            "noisy": _mean(trained, tokens),
            "noisy_std": float((trained * tokens).sum(1).std(ddof=1) / tokens.sum()),
            "published": asdict(recovery(bare, clean, trained, tokens)),
            "converters_in_both": asdict(recovery(converted, clean, trained, tokens)),
        })  # fmt: skip
    return {
        "chips": experiment.chips,
        "windows": len(windows),
        "scored_tokens": windows.scored_tokens,
        "clean": digital.loss,
        "noisy_original": _mean(bare, tokens),
        "noisy_original_converters": _mean(converted, tokens),
        "arms": rows,
    }


def show(document: dict[str, Any]) -> None:
    """The table."""
    print(
        f"\noriginal: {document['clean']:.4f} nats without noise, {document['noisy_original']:.4f} on "
        f"{document['chips']} chips, {document['noisy_original_converters']:.4f} with 8-bit converters too"
    )
    print(f"{'arm':<12}{'tokens':>10}{'digital':>9}{'noisy':>9}   recovery (published)   converters in both")
    for row in document["arms"]:
        cells = []
        for sense in ("published", "converters_in_both"):
            found = Recovery(**row[sense])
            low, high = found.interval
            cells.append(f"{100 * found.value:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]")
        print(
            f"{row['arm']:<12}{row['tokens']:>10,}{row['digital']:>9.4f}{row['noisy']:>9.4f}   "
            f"{cells[0]:<22} {cells[1]}   {row['says']}"
        )
    best = max((row["published"]["value"] for row in document["arms"]), default=0.0)
    verdict = "reached" if best >= document["goal"] else "not reached"
    print(f"goal: at least {100 * document['goal']:.0f} %, {verdict}; {document['minutes']:.1f} minutes")
    curve = trend(document)
    if curve is not None:
        slope, reach = curve
        print(
            f"recovery rises by {100 * slope:.1f} points a doubling of the tokens"
            + (f"; a straight line in their logarithm meets the goal at {reach:,.0f} tokens" if reach else "")
        )


def trend(document: dict[str, Any]) -> tuple[float, float | None] | None:
    """(points a doubling, tokens at which a straight line in log tokens meets the goal) of the curve's points, least
    squares; None with fewer than two. The line is a guess: the curve bends at its ends."""
    points = [(row["tokens"], row["published"]["value"]) for row in document["arms"] if row["curve"]]
    if len(points) < 2:
        return None
    doublings = np.log2([count for count, _ in points])
    slope, start = np.polyfit(doublings, [value for _, value in points], 1)
    reach = 2.0 ** ((document["goal"] - start) / slope) if slope > 0 else None
    return float(slope), None if reach is None else float(reach)


def plot(document: dict[str, Any], folder: Path) -> Path:
    """Recovery against tokens, and the ablation beside it."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    marks, aside = iter("sD^vPX"), 1.0
    for rows, label in [
        ([row for row in document["arms"] if row["curve"]], "the recipe"),
        *(([row], row["says"]) for row in document["arms"] if not row["curve"]),
    ]:
        values = np.array([row["published"]["value"] for row in rows])
        ends = np.array([row["published"]["interval"] for row in rows]).reshape(-1, 2).T
        line = {"marker": "o", "ls": "-"} if label == "the recipe" else {"marker": next(marks), "ls": "none"}
        aside *= (
            1.0 if label == "the recipe" else 1.05
        )  # ablations have the same tokens; side by side they are seen
        axes.errorbar(
            [aside * row["tokens"] for row in rows], 100 * values, yerr=100 * np.abs(ends - values), capsize=3,
            label=label, **line,
        )  # fmt: skip
    axes.axhline(100 * document["goal"], color="gray", lw=0.8, ls="--")
    axes.text(
        0.01, 100 * document["goal"], " goal", va="bottom", color="gray", transform=axes.get_yaxis_transform()
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({row["tokens"] for row in document["arms"]}))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda count, _: f"{count / 1e6:g} M" if count >= 1e6 else f"{count / 1e3:g} k")
    )
    axes.set_xlabel("tokens trained")
    axes.set_ylabel("recovery, % (published sense, 95 % intervals)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    path = folder / "recovery.png"
    figure.savefig(path, dpi=130)
    return path


def written(path: Path, text: str) -> Path:
    """The path, with that text in it."""
    path.write_text(text, encoding="utf-8")
    return path


def say(stage: str, done: int, total: int) -> None:
    """A line of progress."""
    if sys.stderr.isatty() or done == total:
        print(
            f"\r{stage}: {done:,}/{total:,}", end="\n" if done == total else "", file=sys.stderr, flush=True
        )


def _mean(table: Any, tokens: Any) -> float:
    return float((table * tokens).sum(1).mean() / tokens.sum())
