"""A model on chips: which layer stands where, what crosses between dies, and what copies of slow steps buy."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Any, Literal

from aimc_sim.errors import BadInput
from aimc_sim.renames import renamed
from aimc_sim.sizing.cost.analog import Cost
from aimc_sim.sizing.cost.workload import Column

BYTES = 2  # of an activation that travels


@dataclass(frozen=True)
class Piece:
    """A piece is the tiles of one matrix on one chip; ``experts``: how many of a layer's experts these are, 0 for
    other matrices.
    """

    layer: int  # -1: the head
    name: str
    tiles: int
    experts: int = 0


@dataclass(frozen=True)
class Chips:
    """This says where everything stands; hops and bytes: a token's way between dies."""

    tiles_per_chip: int
    pieces: tuple[tuple[Piece, ...], ...]
    hops: float
    bytes: float
    layers_per_chip: tuple[int, ...]
    experts: tuple[SpreadExperts, ...]

    @property
    def count(self) -> int:
        """Chips."""
        return len(self.pieces)

    @property
    def free(self) -> tuple[int, ...]:
        """Tiles that each chip has left."""
        return tuple(self.tiles_per_chip - sum(piece.tiles for piece in chip) for chip in self.pieces)


@dataclass(frozen=True)
class SpreadExperts:
    """This says of the experts of one layer over how many chips, how many of those a token visits if it may choose any
    expert.
    """

    layer: int
    experts: int
    active: int
    chips: int
    visited: float


def floorplan(
    cost: Cost, point: int = 0, experts: Literal["packed", "spread"] = "packed", whole_layers: bool = True
) -> Chips:
    """Lay matrices in their order on chips of the profile's size; with ``whole_layers``, none that fits one is cut.

    experts: ``packed``, beside the rest of their layer; ``spread``, every layer's experts dealt in turn over chips of
    their own, so that dies are equally busy and each holds some experts of every layer.
    Traffic is what one token sends between dies: to a next matrix on another chip, and to its experts and back, any
    expert being as likely as any other.

    >>> from aimc_sim.sizing import Designs, Workload, evaluate, floorplan
    >>> floorplan(evaluate(Designs.of("hermes-256", "hermes-14nm"), Workload.of("SmolLM2-135M"))).count > 1
    True
    """
    filling = _Filling(int(cost.tiles_per_chip[point]))
    later: list[tuple[int, Column, int]] = []
    spread: list[tuple[SpreadExperts, Column]] = []
    hops = moved = 0.0
    at = 0
    for layer, columns in _by_layer(cost):
        tiled = [(column, round(float(cost.tiles_each[point, i]))) for i, column in columns if column.analog]
        if experts == "spread":
            later += [(layer, column, tiles) for column, tiles in tiled if column.count > 1]
            tiled = [(column, tiles) for column, tiles in tiled if column.count == 1]
        needed = sum(tiles for _, tiles in tiled)
        if whole_layers and filling.left < needed <= filling.room:
            filling.next_chip()
        for column, tiles in tiled:
            used = filling.put(layer, column, tiles)
            if column.count == 1:
                crossed = sum(1 for chip in used if chip != at)
                hops += 1 if crossed else 0
                moved += crossed * column.rows * BYTES
                at = used[-1]
            elif column.role in FIRST:
                counts = [sum(p.experts for p in filling.chips[chip] if (p.layer, p.name) == (layer, column.name))
                          for chip in used]  # fmt: skip
                spread.append((_count_visited(layer, column, counts), column))
    chips = filling.chips
    if later:
        dealt, of_layer = _deal(later, filling.room)
        chips = [*chips, *dealt]
        spread = [
            (_count_visited(layer, column, of_layer[layer]), column)
            for layer, column, _ in later
            if column.role in FIRST
        ]
    for dealt_out, column in spread:
        away = dealt_out.visited if experts == "spread" else dealt_out.visited * (1 - 1 / dealt_out.chips)
        hops += 2 if away else 0
        moved += 2 * away * column.rows * BYTES
    pieces = tuple(tuple(chip) for chip in chips if chip)
    layers = tuple(len({piece.layer for piece in chip}) for chip in pieces)
    return Chips(filling.room, pieces, hops, moved, layers, tuple(item for item, _ in spread))


place = renamed("place", floorplan)


FIRST = ("gate", "gate_up")  # of an expert: where a token enters it


class _Filling:
    """This fills chips one after the other."""

    def __init__(self, room: int) -> None:
        self.room = self.left = room
        self.chips: list[list[Piece]] = [[]]

    def next_chip(self) -> None:
        self.chips.append([])
        self.left = self.room

    def put(self, layer: int, column: Column, tiles: int) -> list[int]:
        """Return the chips that take a matrix with all of its copies; one copy is cut only if no chip holds it
        whole.
        """
        used: dict[int, None] = {}
        for _ in range(column.count):
            rest = tiles // column.count
            if self.left < rest <= self.room:
                self.next_chip()
            while rest:
                if not self.left:
                    self.next_chip()
                share = min(rest, self.left)
                _add(self.chips[-1], Piece(layer, column.name, share, 1 if column.count > 1 else 0))
                used[len(self.chips) - 1] = None
                self.left -= share
                rest -= share
        return list(used)


Experts = list[tuple[int, Column, int]]  # (layer, matrix, tiles of all copies)


def _deal(later: Experts, room: int) -> tuple[list[list[Piece]], dict[int, list[int]]]:
    """Deal experts over as few chips as hold them, and how many of a layer's each chip has.

    With more experts than chips all layers share the same chips; otherwise so many layers as fit do.
    """
    chips: list[list[Piece]] = []
    counts: dict[int, list[int]] = {}
    for block in _blocks(later, room):
        number = max(-(-sum(tiles for _, _, tiles in block) // room), 1)
        while _fullest(block, number) > room:
            number += 1
        dealt: list[list[Piece]] = [[] for _ in range(number)]
        for layer, column, tiles in block:
            counts[layer] = [len(range(chip, column.count, number)) for chip in range(number)]
            for chip, experts in enumerate(counts[layer]):
                if experts:
                    piece = Piece(layer, column.name, experts * (tiles // column.count), experts)
                    dealt[chip].append(piece)
        chips += dealt
    return chips, counts


def _fullest(block: Experts, chips: int) -> int:
    """Count the tiles on the fullest of so many chips."""
    return sum(-(-column.count // chips) * (tiles // column.count) for _, column, tiles in block)


def _blocks(later: Experts, room: int) -> list[Experts]:
    """Place as many layers at a time as fit, with an expert of each layer on a chip of its own."""
    blocks: list[Experts] = []
    for layer in sorted({layer for layer, _, _ in later}):
        experts = [item for item in later if item[0] == layer]
        most = max(column.count for _, column, _ in experts)
        if _fullest(experts, most) > room:
            raise BadInput(
                "experts", got="spread", do="use packed, which cuts it",
                why=f"one expert takes {_fullest(experts, most):,} tiles and a chip has {room:,}",
            )  # fmt: skip
        if blocks and _fullest([*blocks[-1], *experts], most) <= room:
            blocks[-1] += experts
        else:
            blocks.append(experts)
    return blocks


def _by_layer(cost: Cost) -> list[tuple[int, list[tuple[int, Column]]]]:
    """List (layer, its columns with their index), in the order of the model."""
    layers = []
    for index, group in enumerate(cost.groups):
        columns = [(i, column) for i, column in enumerate(cost.matrices) if column.group == index]
        layers += [(layer, columns) for layer in group.layers]
    return sorted(layers, key=lambda pair: math.inf if pair[0] < 0 else pair[0])


def _add(chip: list[Piece], piece: Piece) -> None:
    last = chip[-1] if chip else None
    if last is not None and (last.layer, last.name) == (piece.layer, piece.name):
        piece = Piece(piece.layer, piece.name, last.tiles + piece.tiles, last.experts + piece.experts)
        chip.pop()
    chip.append(piece)


def _count_visited(layer: int, column: Column, experts: list[int]) -> SpreadExperts:
    """Return the expected number of chips with at least one of the experts that a token takes. experts: of each
    chip.
    """
    choices = math.comb(column.count, column.active)
    visited = sum(1 - math.comb(column.count - own, column.active) / choices for own in experts)
    return SpreadExperts(layer, column.count, column.active, len(experts), visited)


@dataclass(frozen=True)
class Copies:
    """This counts the copies of every step, (group, step) → how many; what they take and what they give."""

    copies: dict[tuple[int, str], int]
    tiles: int
    slowest_s: float
    tokens_per_s: float
    bound_by: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; of the copies those above one."""
        more = [
            {"group": group, "step": name, "copies": count}
            for (group, name), count in self.copies.items()
            if count > 1
        ]
        return {"tiles": self.tiles, "slowest_s": self.slowest_s, "pipeline_tokens_per_s": self.tokens_per_s,
                "bound_by": self.bound_by, "copies": more}  # fmt: skip


def replicate(cost: Cost, tiles: int, point: int = 0, attention_units: int = 1) -> Copies:
    """Find the fastest pipeline that so many tiles allow: always another copy of the slowest step, which is optimal
    here.

    For many streams at once: a single stream waits for every step in turn, so copies do not help it. Attention has no
    tiles; ``attention_units`` says how many of its digital units a layer has. Raises BadInput below one copy of each.

    >>> from aimc_sim.sizing import Designs, Workload, evaluate, replicate
    >>> cost = evaluate(Designs.of("hermes-256"), Workload.of("SmolLM2-135M"))
    >>> replicate(cost, 2 * int(cost.tiles[0])).tiles <= 2 * int(cost.tiles[0])
    True
    """
    base = int(cost.tiles[point])
    if attention_units < 1:
        raise BadInput("attention units", got=attention_units, why="a layer has one", do="use 1 or more")
    if tiles < base:
        raise BadInput(
            "tiles", got=tiles, why=f"one copy of the model takes {base:,}", do=f"give at least {base:,}"
        )
    times = cost.step_ns[point]
    digital = cost.stage_ns["attention"][point] + cost.stage_ns["digital"][point]
    price: dict[int, float] = {}
    for at, (group, name) in enumerate(cost.stage_names):
        roles, layers = name.split("+"), len(cost.groups[group].layers)
        members = [
            i for i, c in enumerate(cost.matrices) if c.group == group and c.analog and c.role in roles
        ]
        if members and not digital[at]:
            price[at] = float(sum(cost.tiles_each[point, i] for i in members)) * layers
    copies = [1] * len(times)
    alone = [float(time) / (attention_units if digital[at] else 1) for at, time in enumerate(times)]
    heap = [(-time, at) for at, time in enumerate(alone)]
    heapq.heapify(heap)
    used = float(base)
    while True:
        slowest, at = heap[0]
        if at not in price or used + price[at] > tiles or not slowest:
            break
        copies[at] += 1
        used += price[at]
        heapq.heapreplace(heap, (-alone[at] / copies[at], at))
    slowest_s = -heap[0][0] * 1e-9
    return Copies(
        {cost.stage_names[at]: count for at, count in enumerate(copies)}, int(used), slowest_s,
        1 / slowest_s, cost.stage_names[heap[0][1]][1],
    )  # fmt: skip
