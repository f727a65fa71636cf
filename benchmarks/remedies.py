"""What do spare columns, remapping and compensation win, of what faults, drift and heat lose?

    python -m benchmarks.remedies [--chips N] [--json]

Signal-to-noise ratio in dB of the products of one matrix, 768 outputs × 1024 inputs of normal weights, for 64 normal
inputs, in 256 × 256 tiles of `pcm-hermes-2` behind 8-bit converters; the mean of N chips (5). Repair: a day after
programming, with tile compensation, and in ideal cells, where nothing but faults and converters errs. Compensation: at
three ages, with offsets of 1 LSB in the ADCs, and after a day in chips that are read warm. Seconds: of programming one
chip with a repair over without. Rival: the same chip without the remedy. Explained in docs/how-to/faults-and-repair.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim import Hardware
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.execute import tile_matmul
from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of
from benchmarks.harness import command_line, machine

F32 = npt.NDArray[np.float32]
DAY_S = 86_400.0
OUTPUTS, INPUTS, TOKENS = 768, 1024, 64
CHIPS, TIMED = 5, 5
SMALLEST = {"OUTPUTS": 64, "INPUTS": 128, "TOKENS": 4, "CHIPS": 1, "TIMED": 1}
ADC = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 12.0}}
PLAIN: dict[str, Any] = {
    "device": "pcm-hermes-2", "tile": {"rows": 256, "cols": 256}, "dac": {}, "adc": ADC, "compensation": {},
}  # fmt: skip
RATES = {
    "none": {},
    "0.1 % low, 0.02 % high": {"stuck_low_rate": 1e-3, "stuck_high_rate": 2e-4},
    "the same, 0.5 % of columns dead": {
        "stuck_low_rate": 1e-3,
        "stuck_high_rate": 2e-4,
        "dead_column_rate": 5e-3,
    },
    "1 % low, 0.2 % high": {"stuck_low_rate": 1e-2, "stuck_high_rate": 2e-3},
}
REMEDIES: dict[str, dict[str, Any] | None] = {
    "nothing": None,
    "4 spares, worst moved": {"spare_columns": 4},
    "remapped": {"remap": "assign"},
    "remapped, 4 spares": {"remap": "assign", "spare_columns": 4},
}
AGES = {"a minute": 60.0, "a day": DAY_S, "a year": 365.25 * DAY_S}


def gaussian(rows: int, columns: int, salt: int) -> F32:
    """(rows, columns) standard normals, the same in every run."""
    counter = np.zeros((rows * columns // 4, 4), np.uint32)
    counter[:, 0], counter[:, 1] = np.arange(len(counter)), salt
    return normals(counter, key_of(2024)).reshape(rows, columns)


def snr_db(chips: int, t_s: float, **tables: Any) -> float:
    """Mean over chips of the signal-to-noise ratio of the products."""
    w, x = gaussian(OUTPUTS, INPUTS, 0), gaussian(TOKENS, INPUTS, 1)
    exact, hardware = x @ w.T, Hardware.load({**PLAIN, **tables})
    found = []
    for seed in range(chips):
        y = tile_matmul(x, CellMatrix(w, hardware, seed, t_s).tiles())
        found.append(10 * np.log10(np.square(exact).sum() / np.square(y - exact).sum()))
    return float(np.mean(found))


def repair_table(chips: int, device: str) -> dict[str, dict[str, float]]:
    """{faults: {remedy: dB}}."""
    table: dict[str, dict[str, float]] = {}
    for name, faults in RATES.items():
        table[name] = {}
        for remedy, repair in REMEDIES.items():
            tables: dict[str, Any] = {"device": device, "faults": faults}
            if repair is not None:
                tables["repair"] = repair
            table[name][remedy] = snr_db(chips, DAY_S, **tables)
    return table


def compensation_table(chips: int) -> dict[str, dict[str, float]]:
    """{conditions: {policy: dB}}."""
    policies: dict[str, Any] = {
        "nothing": None,
        **{per: {"per": per} for per in ("tile", "column", "affine")},
    }
    cases: dict[str, tuple[float, dict[str, Any]]] = {age: (t_s, {}) for age, t_s in AGES.items()}
    offsets = {**ADC, "errors": {"offset_sigma_lsb": 1.0}}
    cases |= {f"{age}, ADC offsets": (AGES[age], {"adc": offsets}) for age in ("a day", "a year")}
    cases |= {f"a day, read at {c} °C": (DAY_S, {"temperature": {"read_c": float(c)}}) for c in (45, 65, 85)}
    return {
        case: {name: snr_db(chips, t_s, **tables, compensation=policy) for name, policy in policies.items()}
        for case, (t_s, tables) in cases.items()
    }


def seconds(repair: Mapping[str, Any] | None) -> float:
    """Median time of programming the matrix, of 5."""
    tables: dict[str, Any] = {"faults": RATES["1 % low, 0.2 % high"]}
    if repair is not None:
        tables["repair"] = repair
    hardware, w, taken = Hardware.load({**PLAIN, **tables}), gaussian(OUTPUTS, INPUTS, 0), []
    for seed in range(TIMED + 1):
        start = time.perf_counter()
        CellMatrix(w, hardware, seed, DAY_S).tiles()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:]))


def printed(title: str, table: Mapping[str, Mapping[str, float]]) -> None:
    """A table of dB in Markdown."""
    columns = list(next(iter(table.values())))
    print(f"| {title} | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}")
    for name, row in table.items():
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in row.values())} |")
    print()


def main() -> None:
    """Measure and print."""
    parser = command_line((__doc__ or "").splitlines()[0], globals())
    parser.add_argument("--chips", type=int, default=CHIPS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tables = {
        "faults, pcm-hermes-2": repair_table(options.chips, "pcm-hermes-2"),
        "faults, ideal cells": repair_table(options.chips, "ideal"),
        "compensation": compensation_table(options.chips),
    }
    plain = seconds(None)
    cost = {name: seconds(repair) / plain for name, repair in REMEDIES.items() if repair is not None}
    if options.json:
        print(json.dumps({"machine": machine(), "snr_db": tables, "programming_time_ratio": cost}, indent=1))
        return
    for title, table in tables.items():
        printed(title, table)
    print(
        "programming takes "
        + ", ".join(f"{ratio:.1f} times as long ({name})" for name, ratio in cost.items())
    )


if __name__ == "__main__":
    main()
