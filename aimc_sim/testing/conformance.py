"""Does an implementation do what its device declares? One call, for a device of this project or for anyone's code.

assert_device_conforms("mine.toml", alpha=1e-9)              # a device of yours, simulated here
assert_device_conforms("pcm-hermes-2", MySampler())          # your code, against a declaration
print(check_device("cells.csv"))                             # everything that was tested, with its power
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aimc_sim import devices
from aimc_sim.devices import Device
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.randomness import key_of
from aimc_sim.testing.bench import LEVELS, Bench, cells_needed, levels_of
from aimc_sim.testing.check_exact import check_chain, check_exact, check_sums
from aimc_sim.testing.check_independence import check_cells, check_coordinates, check_streams
from aimc_sim.testing.check_programming import check_programming, check_range
from aimc_sim.testing.check_time import check_time
from aimc_sim.testing.declared import Declared
from aimc_sim.testing.ledger import charge
from aimc_sim.testing.report import SHARES, Findings, NonConformance, Report
from aimc_sim.testing.samplers import DeviceSampler, Sampler

AnyDevice = Device | Hardware | str | Path | Mapping[str, Any]
BLOCK = 512  # rows and columns of the block that is followed through time


def assert_device_conforms(
    device: AnyDevice,
    sampler: Sampler | None = None,
    *,
    alpha: float = 1e-9,
    seed: int = 0,
    sigma_error: float = 0.02,
    levels: Sequence[float] = LEVELS,
) -> Report:
    """Assert that an implementation is what its device declares: `check_device`, and NonConformance (an AssertionError
    that carries the report) where a property fails.

    >>> from aimc_sim.testing import assert_device_conforms
    >>> assert_device_conforms("pcm-afm", sigma_error=0.2, levels=(0.5,)).passed
    True
    """
    report = check_device(device, sampler, alpha=alpha, seed=seed, sigma_error=sigma_error, levels=levels)
    if not report.passed:
        raise NonConformance(report)
    return report


def check_device(
    device: AnyDevice,
    sampler: Sampler | None = None,
    *,
    alpha: float = 1e-9,
    seed: int = 0,
    sigma_error: float = 0.02,
    levels: Sequence[float] = LEVELS,
) -> Report:
    """Test an implementation against a device's declaration, property by property.

    device: a Device, a Hardware, a name of the catalogue, a [device] table, a hardware file (.toml) or a table of
    measurements (.csv). sampler: the implementation, see `aimc_sim.testing.samplers`; None: this project's own.
    alpha: the probability that a right implementation fails the report, all properties together. seed: the first chip.
    sigma_error: the relative error of the programming σ that must show at every level with probability 0.99; it decides
    how many cells are programmed (2 %: about a million). levels: targets as parts of the way from g_min to g_max.
    Raises BadInput for a device, seed, level or sampler that cannot be used.

    >>> from aimc_sim.testing import check_device
    >>> report = check_device("pcm-afm", sigma_error=0.2, levels=(0.5,))
    >>> report.passed, len(report.findings) > 10
    (True, True)
    """
    alpha = charge(alpha)
    chosen = device_of(device)
    key_of(seed)
    if sampler is not None and not callable(getattr(sampler, "program", None)):
        raise BadInput(
            "sampler",
            got=type(sampler).__name__,
            why="it has no method program(targets, *, seed)",
            do="give it one that returns cells, see aimc_sim.testing.samplers",
        )
    if not levels or len(levels) > 20 or not all(0 <= f <= 1 for f in levels):
        raise BadInput(
            "levels",
            got=tuple(levels),
            why="they are targets as parts of the way from g_min to g_max, 1 to 20 of them",
            do="give numbers from 0 to 1",
        )
    planned = levels_of(chosen, levels)
    cells = cells_needed(planned, sigma_error, alpha / SHARES)
    bench = Bench(Declared(chosen), sampler or DeviceSampler(chosen), seed, planned, cells)
    findings = Findings(alpha)
    _run(bench, findings)
    found, skipped = tuple(findings.found), tuple(findings.not_tested)
    return Report(chosen.name, alpha, seed, cells, found, skipped)


def _run(bench: Bench, findings: Findings) -> None:
    """Check in order: numbers that can be used at all, programming, time, independence, what is exact."""
    field = bench.program(bench.shape)
    programmed = bench.get(field, "programmed", bench.shape)
    if not check_range(bench, findings, "programmed", {"programmed": programmed}):
        findings.skip("everything else", "there are cells that are not finite")
        return
    z = check_programming(bench, findings, programmed)
    noisy = any(level.kind == "normal" for level in bench.levels)
    if noisy:
        check_cells(findings, "programming", z)
    else:
        findings.skip("independence, programming", "no level has programming noise that float32 resolves")
    block = bench.block(BLOCK, BLOCK)
    cells = bench.program(block)
    over_time = check_time(bench, findings, cells, block)
    if not all(np.isfinite(field).all() for field in over_time.fields.values()):
        return
    for stream, draws in over_time.draws.items():
        check_cells(findings, stream, draws)
    draws, _ = bench.programming_draws(over_time.fields["programmed"], tag=4)
    check_streams(findings, ({"programming": draws} if noisy else {}) | over_time.draws)
    check_coordinates(bench, findings)
    check_exact(bench, findings)
    if isinstance(bench.sampler, DeviceSampler):
        check_chain(bench, findings)
    else:
        check_sums(bench, findings, cells, block)


def device_of(source: AnyDevice) -> Device:
    """Find the device behind a name, a table, a hardware description or a file. Raises BadInput."""
    if isinstance(source, Device):
        return source
    if isinstance(source, Hardware):
        return source.device
    if isinstance(source, Mapping):
        return devices.from_table(source, "device")
    path = Path(source)
    if path.suffix == ".csv":
        return devices.from_csv(path)
    if path.suffix == ".toml":
        return Hardware.load(path).device
    return devices.get(str(source))
