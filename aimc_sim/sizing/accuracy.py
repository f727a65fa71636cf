"""What a design does to a model, by the simulator: noise of every product, and loss on text.

Products: y = x·W on the inputs that the digital model gives each matrix at 64 tokens of the calibration text, against
the same product through tiles; noise-to-signal ratio = mean over tokens of ‖error‖²/‖y‖². Loss: negative
log-likelihood of the calibration text, or of a text file, in nats per token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F32, F64
from aimc_sim.calibrate import cache
from aimc_sim.calibrate.moments import keep_last_position
from aimc_sim.calibrate.ranges import RangeFinder, needs_text, ranges_for
from aimc_sim.chip import Chip
from aimc_sim.chip.ranges import MatrixRange, Ranges, needs_ranges
from aimc_sim.evaluate.metrics import score
from aimc_sim.evaluate.text import windows_of_file
from aimc_sim.evaluate.windows import Windows
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware import Hardware, LambdaRule
from aimc_sim.programming import program
from aimc_sim.randomness import row_ids
from aimc_sim.torch_bridge.model import build_model, load_digital, mount
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.analog import analog_matrices

PROBED = 64  # tokens that products are compared on, spread evenly over the calibration text
OnStep = Callable[[int, int], None]


def decibels(ratio: npt.ArrayLike) -> F64:
    """Signal-to-noise ratio in dB of noise-to-signal ratios; infinite without noise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(-10 * np.log10(np.asarray(ratio, np.float64)))


def product_noise(
    weight_file: WeightFile,
    designs: Mapping[str, Hardware],
    *,
    seed: int = 0,
    time_s: float = 0.0,
    session: int = 0,
    tokens: int = PROBED,
    on_step: OnStep | None = None,
) -> dict[str, dict[str, float]]:
    """Noise-to-signal ratio of every analog matrix of every design: {design: {matrix: ratio}}.

    One pass of the digital model for all designs together; matrix by matrix, so that nothing of the text is kept.
    Every design is the same chip, ``seed``, read time_s seconds after programming. Converter ranges that the pass
    derives are kept in the user's cache folder, where every other command finds them. on_step(done, total) counts
    matrices. Raises BadInput for a file without calibration text.
    """

    text = weight_file.calibration.token_ids
    ranges = {label: _Ranges(weight_file, hardware) for label, hardware in designs.items()}
    held = {label: {m.name for m in analog_matrices(weight_file, hw)} for label, hw in designs.items()}
    wanted = [matrix.name for matrix in weight_file.matrices if any(matrix.name in h for h in held.values())]
    found: dict[str, dict[str, float]] = {label: {} for label in designs}
    length, done = text.shape[1], 0

    def see(name: str, x: F32) -> None:
        nonlocal done
        picked = np.unique(np.linspace(0, len(x) - 1, min(tokens, len(x))).astype(np.int64))
        inputs = np.ascontiguousarray(x[picked])
        whole = len(x) == text.size  # of the head's, only the last position of each sequence is there
        rows = (
            row_ids(picked // length, picked % length) if whole else row_ids(picked, length - 1 + 0 * picked)
        )
        exact = inputs @ weight_file.weight(name).T
        signal = np.einsum("ij,ij->i", exact, exact, dtype=np.float64)
        heard = signal > 0
        for label, hardware in designs.items():
            if name not in held[label]:
                continue
            at = {name: ranges[label].of(name, x)}
            tiles = Chip(weight_file, hardware, seed, at).at(time_s, session).tiles(name)
            noisy = any(part.noise is not None for part in (tiles, *tiles.parts))
            error = tile_matmul(inputs, tiles, rows if noisy else None)
            error -= exact
            lost = np.einsum("ij,ij->i", error, error, dtype=np.float64)
            found[label][name] = float((lost[heard] / signal[heard]).mean()) if heard.any() else 0.0
        weight_file.release(name)
        done += 1
        if on_step is not None:
            on_step(done, len(wanted))

    _watch(weight_file, wanted, text, see)
    for item in ranges.values():
        item.keep()
    return found


class _Ranges:
    """Converter ranges of one design: from the cache, or derived matrix by matrix as the model runs."""

    def __init__(self, weight_file: WeightFile, hardware: Hardware) -> None:
        self._known: Ranges | None = None
        self._needed = needs_ranges(hardware)
        if not self._needed:
            return
        self._path = cache.cache_folder() / cache.name_of(weight_file, hardware)
        known = cache.read(self._path)
        if known is not None and cache.fits(known, weight_file, hardware):
            self._known = known
            return
        rule = None if hardware.adc is None else hardware.adc.full_scale
        if isinstance(rule, LambdaRule) and rule.derive == "model":  # needs every matrix before the first
            self._known = ranges_for(weight_file, hardware)
            return
        self._text = needs_text(hardware)
        self._finder = RangeFinder(weight_file, hardware, None)

    def of(self, name: str, x: F32) -> MatrixRange:
        """The ranges of a matrix whose inputs on the whole text are x (tokens, K)."""
        if not self._needed:
            return MatrixRange()
        if self._known is None:
            self._finder.see(name, x if self._text else x[:0])
            return self._finder.ranges[name]
        return self._known[name]

    def keep(self) -> None:
        """Write what was derived into the cache."""
        if self._needed and self._known is None:
            cache.write(self._path, self._finder.ranges)


def _watch(
    weight_file: WeightFile,
    names: Sequence[str],
    text: npt.NDArray[np.int32],
    see: Callable[[str, F32], None],
) -> None:
    """see(name, inputs (tokens, K)) for every product of one pass of the digital model, once each."""
    import torch

    def hook(name: str) -> Callable[[Any, Any], None]:
        return lambda module, args: see(name, args[0].detach().reshape(-1, args[0].shape[-1]).float().numpy())

    model = load_digital(weight_file)
    for name in names:
        model.get_submodule(name).register_forward_pre_hook(hook(name))
    keep_last_position(model)
    with torch.no_grad():
        model(input_ids=torch.from_numpy(text.astype(np.int64)), use_cache=False)


@dataclass(frozen=True)
class Text:
    """What is scored: ``tokens`` tokens of the calibration text, or of a text file in windows of ``context``."""

    tokens: int = 1024
    path: Path | None = None
    context: int = 256

    def windows(self, weight_file: WeightFile) -> Windows:
        """The windows; the first token of each is context only."""
        if self.path is not None:
            return windows_of_file(weight_file, self.path, self.context, self.tokens)
        rows, left = [], self.tokens
        for row in weight_file.calibration.token_ids:
            if left < 2:
                break
            rows.append(row[:left])
            left -= len(rows[-1])
        return Windows(tuple(rows))


class LossBench:
    """Scores chips on text in this process: one model skeleton a placement, re-mounted for every chip."""

    def __init__(self, weight_file: WeightFile, windows: Windows) -> None:
        self._weights, self.windows = weight_file, windows
        self._batch = max(1, 1024 // max(len(row) for row in windows.rows))
        self._model: tuple[tuple[str, ...], Any] | None = None

    def digital(self) -> F64:
        """(windows,) summed negative log-likelihood of the digital model, nats."""
        return self._score(load_digital(self._weights), self.windows)

    def chip(self, hardware: Hardware, seed: int, time_s: float, windows: int | None = None) -> F64:
        """(windows,) the same of one chip, on the first ``windows`` windows."""
        names = tuple(matrix.name for matrix in analog_matrices(self._weights, hardware))
        if self._model is None or self._model[0] != names:
            self._model = None
            self._model = (names, build_model(self._weights, hardware))
        mount(self._model[1], program(self._weights, seed, hardware).at(time_s))
        return self._score(self._model[1], Windows(self.windows.rows[:windows]))

    def _score(self, model: Any, windows: Windows) -> F64:
        return score(model, windows, self._batch).nll


def measuring(
    path: Path, hardware: Mapping[str, Hardware], seed: int, time_s: float, windows: Windows
) -> Callable[[list[str]], dict[str, Any]]:
    """Make what one process of a sweep does: names of measurements in, measurements out.

    hardware: by label. noise/LABEL: `product_noise` of the chip ``seed``, time_s seconds after programming;
    loss/LABEL/CHIP/WINDOWS: summed nats of the first windows; digital: those of the digital model.
    """
    weight_file = WeightFile(path)
    bench: LossBench | None = None

    def work(names: list[str]) -> dict[str, Any]:
        nonlocal bench
        if names[0].startswith("noise/"):
            designs = {name: hardware[name.removeprefix("noise/")] for name in names}
            return dict(product_noise(weight_file, designs, seed=seed, time_s=time_s))
        bench = bench or LossBench(weight_file, windows)
        found = {}
        for name in names:
            if name == "digital":
                found[name] = bench.digital().tolist()
                continue
            _, label, chip, count = name.split("/")
            found[name] = bench.chip(hardware[label], int(chip), time_s, int(count)).tolist()
        return found

    return work
