"""What can be done to a matrix that hurts, and the hardware and its file that come of it.

Digital; rotated inputs (a Hadamard transform after scaling channels alike, `tiles.channel_transform`), which spread
outliers over all rows; copies; two devices a polarity; more converter bits; and rotation with copies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware, Special, StaticRange, Transform, preset_names
from aimc_sim.sizing.partition.choice import DIGITAL
from aimc_sim.spec import nearest, write_toml

KINDS = ("digital", "rotate", "copies", "devices", "adc-bits")
_STEPS = {"copies": (2, 3, 4), "devices": (2,), "adc-bits": (1, 2)}  # bits: more than the hardware's
_ROTATED = {"rescale_lambda": 0.5, "rotate": "hadamard"}
_ROTATED_COPIES = (2, 4)
_EVERY = ("*",)


@dataclass(frozen=True)
class Move:
    """A move is one way to hold a matrix: in tiles of another kind (special), with transformed inputs, or digital."""

    label: str
    special: Special | None = None
    transform: Transform | None = None

    @property
    def digital(self) -> bool:
        """Whether the matrix leaves the tiles."""
        return self.special is None and self.transform is None

    def every(self, hardware: Hardware) -> Hardware:
        """Return the hardware with all of its matrices held so, checked like any other. Raises BadInput where it
        cannot be.
        """
        return applied(hardware, {_EVERY[0]: self.label}, {self.label: self})


def moves_of(hardware: Hardware, kinds: Sequence[str] = KINDS) -> dict[str, Move]:
    """List what can be done to a matrix of this hardware, by its label. Raises BadInput for unknown kinds.

    What it does not allow, two devices a polarity of a fit that describes two already, say, is left out.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise BadInput("moves", got=kind, why="it is no way to hold a matrix", do=nearest(kind, KINDS))
    wanted = [Move(DIGITAL)] if "digital" in kinds else []
    rotated = Transform.parse({**_ROTATED, "matrices": list(_EVERY)}, "rotation")
    static = hardware.dac is not None and isinstance(
        hardware.dac.range, StaticRange
    )  # perhaps learned unrotated
    if "rotate" in kinds and not static and hardware.transform is None:
        wanted.append(Move("rotated", transform=rotated))
        if "copies" in kinds:
            wanted += [
                Move(f"rotated, {n} copies", Special(matrices=_EVERY, copies=n), rotated)
                for n in _ROTATED_COPIES
            ]
    for kind in (kind for kind in _STEPS if kind in kinds):
        specials = [_special(hardware, kind, step) for step in _STEPS[kind]]
        wanted += [Move(_label(special), special) for special in specials if special is not None]
    allowed = {move.label: move for move in wanted if move.digital or _possible(hardware, move)}
    if not allowed:
        raise BadInput(
            "moves", got=",".join(kinds), why="this hardware allows none of them",
            do=f"allow others: {', '.join(KINDS)}",
        )  # fmt: skip
    return allowed


def _special(hardware: Hardware, kind: str, step: int) -> Special | None:
    weights, bits = hardware.weights, 0 if hardware.adc is None else hardware.adc.bits
    if kind == "adc-bits":
        return Special(matrices=_EVERY, adc_bits=bits + step) if 0 < bits <= 16 - step else None
    if step <= (weights.devices if kind == "devices" else weights.copies or 1):
        return None
    changes: dict[str, Any] = {kind: step}
    return Special(matrices=_EVERY, **changes)


def _label(special: Special) -> str:
    if special.adc_bits is not None:
        return f"{special.adc_bits}-bit ADC"
    return f"{special.copies} copies" if special.copies is not None else f"{special.devices} devices"


def _possible(hardware: Hardware, move: Move) -> bool:
    try:
        move.every(hardware)
    except BadInput:
        return False
    return True


def applied(hardware: Hardware, taken: Mapping[str, str], moves: Mapping[str, Move]) -> Hardware:
    """Return the hardware with what is done to these matrices, matrix → move, checked like any other.

    The new tables come first, because the first that names a matrix counts.
    """
    digital = [name for name, label in taken.items() if moves[label].digital]
    tables: dict[str, list[Any]] = {"special": [], "transform": []}
    members: dict[tuple[str, Special | Transform], list[str]] = {}
    for label, move in moves.items():
        for kind, part in (("special", move.special), ("transform", move.transform)):
            names = [name for name, chosen in taken.items() if chosen == label]
            if part is not None and names:
                members.setdefault((kind, part), []).extend(names)
    for (kind, part), names in members.items():
        tables[kind].append({**part.model_dump(mode="json"), "matrices": names})
    document = hardware.model_dump(mode="json")
    placement = document["placement"]
    placement["digital"] = [*placement["digital"], *digital]
    placement["special"] = [*tables["special"], *(placement["special"] or ())] or None
    document["transform"] = [*tables["transform"], *(document["transform"] or ())] or None
    return Hardware.parse(document, hardware.name)


def placement_file(hardware: Hardware, placed: Hardware, note: str = "") -> str:
    """Write a hardware file of ``placed``: laid over the preset that ``hardware`` is, else everything in full."""
    lines = [f"# {line}" for line in note.splitlines()]
    preset = next((name for name in preset_names() if Hardware.load(name).id == hardware.id), None)
    if preset is None:
        chosen = placed.model_copy(update={"name": f"{hardware.name}, placed"})
        return "\n".join([*lines, chosen.to_toml()])
    changed: dict[str, Any] = {"base": preset, "name": f"{preset}, placed"}
    if placed.transform is not None:
        changed["transform"] = [
            table.model_dump(mode="json", exclude_defaults=True) for table in placed.transform
        ]
    changed["placement"] = placed.placement.model_dump(mode="json")
    text = write_toml(changed)
    listed = {table.matrices for table in placed.transform or ()} | {placed.placement.digital}
    listed |= {table.matrices for table in placed.placement.special or ()}
    for names in listed - {()}:
        text = text.replace(
            f"[{_listed(names, ', ')}]", f"[\n    {_listed(names, ',' + chr(10) + '    ')},\n]"
        )
    return "\n".join([*lines, text])


def _listed(names: Sequence[str], between: str) -> str:
    return between.join(json.dumps(name, ensure_ascii=False) for name in names)
