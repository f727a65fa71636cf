"""What a run writes down: ``log.csv`` always, TensorBoard events and plots where their packages are there."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Any

CSV_NAME, PLOT_NAME = "log.csv", "loss.png"
COLUMNS = (
    "step", "tokens", "loss", "learning_rate", "gradient_norm", "seconds", "tokens_per_second",
    "clean_loss", "noisy_loss", "noisy_std",
)  # fmt: skip


class Log:
    """A log has one row a logged step. A run that goes on cuts the rows behind its checkpoint away; one at step 0
    begins anew.
    """

    def __init__(self, folder: Path, *, step: int = 0, tensorboard: bool = True) -> None:
        self.path = folder / CSV_NAME
        rows = [row for row in read_log(folder) if int(row["step"]) <= step] if step else []
        with self.path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        self._events: Any = None
        if tensorboard and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else 0)

    def write(self, step: int, **values: float) -> None:
        """Append a row: any of COLUMNS, the others stay empty."""
        with self.path.open("a", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, COLUMNS).writerow(
                {"step": step, **{key: f"{value:.9g}" for key, value in values.items()}}
            )
        if self._events is not None:
            for key, value in values.items():
                self._events.add_scalar(key, value, step)

    def close(self) -> None:
        """Flush what TensorBoard holds back."""
        if self._events is not None:
            self._events.close()


def read_log(folder: Path) -> list[dict[str, str]]:
    """Read the rows of log.csv, empty where there is none."""
    path = folder / CSV_NAME
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def plot_losses(folder: Path) -> Path | None:
    """Draw log.csv into loss.png: training loss, and losses on text, clean and on chips. None without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    rows = read_log(folder)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    shown = (
        ("loss", "training loss"),
        ("clean_loss", "text, without noise"),
        ("noisy_loss", "text, on chips"),
    )
    for key, label in shown:
        points = [
            (float(row["tokens"]), float(row[key])) for row in rows if row.get(key) and row.get("tokens")
        ]
        if points:
            axes.plot(
                *zip(*points, strict=True), label=label, marker="" if key == "loss" else "o", lw=1.2, ms=3
            )
    axes.set_xlabel("tokens trained")
    axes.set_ylabel("nats per token")
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    axes.grid(alpha=0.3)
    path = folder / PLOT_NAME
    figure.savefig(path, dpi=130)
    return path
