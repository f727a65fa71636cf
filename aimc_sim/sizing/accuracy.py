"""What a design does to a model, by the simulator: noise of every product (`evaluate.snr`), and loss on text.

Loss: negative log-likelihood of the calibration text, or of a text file, in nats per token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimc_sim.aliases import F64
from aimc_sim.evaluate.bench import Bench
from aimc_sim.evaluate.metrics import score
from aimc_sim.evaluate.snr import product_noise
from aimc_sim.evaluate.text import windows_of_calibration, windows_of_file
from aimc_sim.evaluate.windows import Windows
from aimc_sim.hardware import Hardware
from aimc_sim.weightfile import WeightFile


@dataclass(frozen=True)
class Text:
    """A text names what is scored: ``tokens`` tokens of the calibration text, or of a text file in windows of
    ``context``.
    """

    tokens: int = 1024
    path: Path | None = None
    context: int = 256

    def windows(self, weight_file: WeightFile) -> Windows:
        """Return the windows; the first token of each is context only."""
        if self.path is None:
            return windows_of_calibration(weight_file, self.tokens)
        return windows_of_file(weight_file, self.path, self.context, self.tokens)


def measuring(
    path: Path, hardware: Mapping[str, Hardware], seed: int, time: float, windows: Windows
) -> Callable[[list[str]], dict[str, Any]]:
    """Make what one process of a sweep does: names of measurements in, measurements out.

    hardware: by label. noise/LABEL: `product_noise` of the chip ``seed`` at that time since programming;
    loss/LABEL/CHIP/WINDOWS: summed nats of the first windows; digital: those of the digital model.
    """
    bench = Bench(path)

    def work(names: list[str]) -> dict[str, Any]:
        if names[0].startswith("noise/"):
            designs = {name: hardware[name.removeprefix("noise/")] for name in names}
            return dict(product_noise(bench.weight_file, designs, seed=seed, time=time))
        return {name: loss(name).tolist() for name in names}

    def loss(name: str) -> F64:
        if name == "digital":
            return score(bench.load_digital(), windows).nll
        _, label, chip, count = name.split("/")
        bench.mount(hardware[label], int(chip), time)
        return bench.score(Windows(windows.rows[: int(count)])).nll

    return work
