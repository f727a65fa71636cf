"""A row for every table of a hardware: how it is switched, and what the physics says that this changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aimc_sim.hardware import Hardware
from helpers.bench import MAP, Tables, clash, laid

REFRESH_S = 50_000.0
ADC = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 16.0}}
BASE: Tables = {
    "device": {"base": "pcm-hermes-1"}, "tile": {"rows": 32, "cols": 24}, "dac": {}, "adc": ADC,
}  # fmt: skip
STUCK = {"stuck_low_rate": 0.05, "stuck_high_rate": 0.02}
VERIFY = {"iterations": [5, 20], "sigma_ratio": [1.3, 0.8], "source": "a test"}
# What can change: the inputs as the DACs give them, the cells, the currents that the ADCs see per code (what lies in
# the tiles, and what it is multiplied by), the ADCs, the digital factors behind them, the noise of a product, and the
# product without that noise.
PARTS = "inputs cells currents adc digital noise product"
# What a DAC's offset drives follows the currents of the cells, and is added before the ADC.
CURRENTS = "currents product; noise if read_noise; adc if DAC offsets; digital if affine"
CELLS = f"cells {CURRENTS}; digital if compensation"
FURTHER_COLUMNS = "currents adc digital product; noise if noisy"


@dataclass(frozen=True)
class Row:
    """A table, and what switching it changes: parts, with "if" and a property of the hardware where it depends.

    other: what is laid over `BASE` to switch it, on or (of the device) off. beside: what is there without it too.
    where: a property of the hardware without which it changes nothing.
    """

    table: str
    other: Tables
    changes: str
    where: str = ""
    beside: Tables | None = None


ROWS = {
    "without programming noise": Row("device.programming", {"device": {"programming": False}}, CELLS),
    "verified programming": Row(
        "device.programming.verify", {"device": {"programming": {"iterations": 10, "verify": VERIFY}}}, CELLS
    ),
    "without drift": Row("device.drift", {"device": {"drift": False}}, CELLS),
    # Frozen in a session: what is read out for a compensation is averaged over it.
    "without 1/f noise": Row(
        "device.flicker", {"device": {"flicker": False}},
        "cells currents product; noise if read_noise; adc if DAC offsets",
    ),
    "without thermal data": Row("device.thermal", {"device": {"thermal": False}}, ""),
    "weight codes": Row("weights", {"weights": {"bits": 4}}, CELLS),
    # Without an ADC slices are added where they are read, and nothing is behind each of them.
    "slices": Row(
        "weights", {"weights": {"bits": 8, "cell_bits": 4}},
        "cells currents product; adc digital if ADC; noise if noisy",
    ),
    "single columns": Row("weights", {"weights": {"subtract": "digital"}}, FURTHER_COLUMNS, where="ADC"),
    "offset column": Row("weights", {"weights": {"pair": "offset_column"}}, f"digital {CELLS}"),
    "two devices": Row("weights", {"weights": {"devices": 2}}, CELLS),
    "copies": Row("weights", {"weights": {"copies": 2}}, f"cells {FURTHER_COLUMNS}", where="not special"),
    "scale of a tile": Row("weights", {"weights": {"scale": "tile"}}, f"digital {CELLS}"),
    "DAC gains": Row(
        "dac.errors", {"dac": {"errors": {"gain_sigma": 0.05}}},
        "currents product; adc if DAC offsets; digital if affine",
    ),
    "DAC offsets": Row(
        "dac.errors", {"dac": {"errors": {"offset_sigma_lsb": 2.0}}}, "adc product; digital if affine"
    ),
    "no ADC": Row("adc", {"adc": False}, "currents adc digital product; noise if read_noise"),
    "ADC gains": Row(
        "adc.errors", {"adc": {"errors": {"gain_sigma": 0.05}}},
        "currents product; adc if DAC offsets; digital if affine",
    ),
    "ADC offsets": Row(
        "adc.errors", {"adc": {"errors": {"offset_sigma_lsb": 1.0}}}, "adc product; digital if affine"
    ),
    "ADC noise": Row("adc.errors", {"adc": {"errors": {"noise_lsb": 0.5}}}, "noise"),
    "read noise": Row("read_noise", {"read_noise": {"sigma": 0.05}}, "noise"),
    "factor a tile": Row("compensation", {"compensation": {"per": "tile"}}, "digital product", where="ages"),
    "factor a column": Row("compensation", {"compensation": {"per": "column"}}, "digital product", where="ages"),
    "affine compensation": Row(
        "compensation", {"compensation": {"per": "affine"}}, "digital product", where="ages"
    ),
    "refresh": Row("refresh", {"refresh": {"every_s": REFRESH_S}}, CELLS),
    "rotation": Row("transform", {"transform": {"rotate": "hadamard"}}, f"inputs digital {CELLS}"),
    # A rotation over all channels leaves them alike, and nothing to permute.
    "permutation": Row(
        "transform", {"transform": {"permute": "group"}}, f"inputs digital {CELLS}", where="not rotated"
    ),
    "wires": Row("wires", {"wires": {"r_row_ohm": 2.0, "r_col_ohm": 3.0}}, CELLS),
    "stuck cells": Row("faults", {"faults": STUCK}, CELLS),
    "dead columns": Row(
        "faults", {"faults": {"dead_column_rate": 0.1}}, "digital product; cells currents if repair"
    ),
    "dead rows": Row("faults", {"faults": {"dead_row_rate": 0.1}}, CURRENTS),
    "fault map": Row("faults.map", {"faults": {"map": MAP}}, CELLS),
    # A column that is moved takes the ADC of its new place.
    "repair": Row(
        "repair", {"repair": {"spare_columns": 3}}, f"{CELLS}; digital if dead columns; adc if ADC offsets",
        beside={"faults": STUCK},
    ),
    "temperature": Row("temperature", {"temperature": {"read_c": 60.0}}, CELLS),
    "die": Row("variation", {"variation": {"die_gain_sigma": 0.05}}, CURRENTS),
    "drift of a die": Row("variation", {"variation": {"nu_sigma": 0.02}}, CELLS, where="drift"),
    "spread of a die": Row("variation", {"variation": {"noise_scale_sigma": 0.2}}, CELLS, where="programming"),
    "supply": Row("variation", {"variation": {"supply_droop": 0.1}}, CURRENTS),
    "another matrix is digital": Row("placement", {"placement": {"digital": ["b"]}}, ""),
    "another matrix is special": Row(
        "placement.special", {"placement": {"special": [{"matrices": ["b"], "copies": 2}]}}, ""
    ),
    "this matrix is special": Row(
        "placement.special", {"placement": {"special": [{"matrices": ["a"], "copies": 2}]}},
        f"cells {FURTHER_COLUMNS}", where="once",
    ),
}  # fmt: skip
# What does not go together, and why: `Hardware.load` says it.
NOT_WITH = {
    "offset column": {"read noise", "wires", "two devices"},
    "repair": {"weight codes", "slices", "single columns", "offset column", "two devices", "copies",
               "another matrix is special", "this matrix is special"},
    "temperature": {"without thermal data"},
}  # fmt: skip
ALWAYS = {
    "device": "cells are always there; its parts have rows",
    "tile": "tiles are always there",
    "dac": "what most rows need",
}


def errors_of(hardware: Hardware, converter: str, field: str) -> bool:
    """Whether a converter has errors of this kind."""
    spec = getattr(hardware, converter)
    return spec is not None and spec.errors is not None and getattr(spec.errors, field) > 0


def ages(hardware: Hardware) -> bool:
    """Whether cells are read otherwise than they were programmed, 1/f noise aside."""
    warm = hardware.temperature is not None and hardware.device.thermal is not None
    return hardware.device.drift is not None or warm


PROPERTIES: dict[str, Callable[[Hardware], bool]] = {
    "": lambda hardware: True,
    "ADC": lambda hardware: hardware.adc is not None,
    "ADC offsets": lambda hardware: errors_of(hardware, "adc", "offset_sigma_lsb"),
    "DAC offsets": lambda hardware: errors_of(hardware, "dac", "offset_sigma_lsb"),
    "affine": lambda hardware: hardware.compensation is not None and hardware.compensation.per == "affine",
    "ages": ages,
    "compensation": lambda hardware: hardware.compensation is not None,
    "dead columns": lambda hardware: hardware.faults is not None and hardware.faults.dead_column_rate > 0,
    "drift": lambda hardware: hardware.device.drift is not None,
    "noisy": lambda hardware: hardware.read_noise is not None or errors_of(hardware, "adc", "noise_lsb"),
    "not special": lambda hardware: hardware.placement.special_of("a") is None,
    "not rotated": lambda hardware: not any(spec.rotate for spec in hardware.transform or ()),
    "once": lambda hardware: hardware.weights.copies is None,
    "programming": lambda hardware: hardware.device.programming is not None,
    "read_noise": lambda hardware: hardware.read_noise is not None,
    "repair": lambda hardware: hardware.repair is not None,
}


def expected(row: Row, hardware: Hardware) -> set[str]:
    """Return the parts that a row's words name for this hardware."""
    out: set[str] = set()
    for clause in filter(None, row.changes.split(";")):
        parts, _, condition = clause.partition(" if ")
        if PROPERTIES[row.where](hardware) and PROPERTIES[condition.strip()](hardware):
            out |= set(parts.split())
    return out


def pairs(row: Row) -> Iterator[tuple[str, Tables]]:
    """Yield what a row is switched beside: nothing, and every other row that gives none of its fields another value."""
    yield "nothing", laid(BASE, row.beside or {})
    mine = laid(row.beside or {}, row.other)
    for name, other in ROWS.items():
        beside = laid(other.beside or {}, other.other)
        if not clash(beside, mine) and laid(BASE, beside, mine) != laid(BASE, beside):
            yield name, laid(BASE, beside, row.beside or {})


def refuses(one: str, other: str) -> bool:
    """Return whether two rows cannot be in one hardware."""
    return other in NOT_WITH.get(one, ()) or one in NOT_WITH.get(other, ())
