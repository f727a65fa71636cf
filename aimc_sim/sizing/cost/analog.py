"""From points and a model to energy, latency and area: closed forms in NumPy, all points at once.

t_token = Σ layers (Σ steps (slowest product + sums over row tiles + hop) + attention) + head
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64
from aimc_sim.hardware import Special
from aimc_sim.sizing.cost.activity import Activity
from aimc_sim.sizing.cost.components import TILE_PARTS, Array, Component, Use, components
from aimc_sim.sizing.cost.designs import Designs
from aimc_sim.sizing.cost.digital import attention, digital, transform_macs
from aimc_sim.sizing.cost.workload import Column, Group, Scenario, Workload

COMPONENTS = (*TILE_PARTS, "attention", "digital", "links", "static")
TIMED = ("array", "adc", "periphery")
OPERATIONS = 2  # a multiply-accumulate counts as two


class Way(NamedTuple):
    """members: matrices, by their index, that lie in tiles of the same kind; what one such tile takes, (P,) each."""

    members: tuple[int, ...]
    tile_area_um2: Mapping[str, F64]


@dataclass(frozen=True)
class Cost:
    """What P points cost for a model in a scenario. Arrays are (P,) or (P, M), M the columns of ``matrices``.

    Energies and latencies are of one token: in decoding of each new one, in a prefill of each of the prompt.
    """

    designs: Designs
    workload: Workload
    scenario: Scenario
    matrices: tuple[Column, ...]
    groups: tuple[Group, ...]
    tiles_each: F64  # (P, M) of one layer's matrix with all of its copies
    conversions_each: F64  # (P, M) for one token, in one layer
    energy_pj_each: Mapping[str, F64]  # component → (P, M), for one token, in one layer
    cells_each: F64  # (P, M) that hold weights, of one layer's matrix
    tile_area_um2: Mapping[str, F64]  # component → (P,), one tile
    ways: tuple[Way, ...]  # in which matrices lie in tiles, the hardware's own and special ones
    stage_ns: Mapping[str, F64]  # component → (P, S): times of the steps of all groups, and attention
    stage_names: tuple[tuple[int, str], ...]  # (group, step) of each
    attention_pj: F64  # (G,) of one layer and token
    digital_pj: F64  # (G,)

    # -- counts -----------------------------------------------------------------------------------------------

    @cached_property
    def layers(self) -> F64:
        """(M,) how many layers have the matrix."""
        return np.array([column.layers for column in self.matrices], np.float64)

    @cached_property
    def tiles(self) -> F64:
        """(P,) tiles of the whole model."""
        return np.asarray(self.tiles_each @ self.layers)

    @cached_property
    def utilisation(self) -> F64:
        """(P,) share of their cells that holds weights."""
        d = self.designs
        return np.asarray(self.cells_each @ self.layers / np.maximum(self.tiles * d.rows * d.cols, 1))

    @cached_property
    def conversions(self) -> F64:
        """(P,) conversions of one token."""
        return np.asarray(self.conversions_each @ self.layers)

    @cached_property
    def macs(self) -> float:
        """Multiply-accumulates with static analog weights, one token."""
        return float(sum(c.rows * c.cols * c.active * c.layers for c in self.matrices if c.analog))

    # -- energy -----------------------------------------------------------------------------------------------

    @cached_property
    def energy_j(self) -> dict[str, F64]:
        """Component → (P,) energy of one token in J."""
        repeats = np.array([len(group.layers) for group in self.groups], np.float64)
        found = {name: value @ self.layers * 1e-12 for name, value in self.energy_pj_each.items()}
        size = len(self.designs)
        found["attention"] = np.full(size, float(self.attention_pj @ repeats) * 1e-12)
        found["digital"] = np.full(size, float(self.digital_pj @ repeats) * 1e-12)
        chip = self.designs.profile.chip
        found["links"] = self.link_bytes * chip.of("energy_link_byte") * 1e-12
        watts = sum((getattr(self.designs.profile, name).of("power_idle") for name in TILE_PARTS), 0.0) * 1e-3
        waiting = self.tiles * watts + self.chips * chip.of("power_fixed") * 1e-3
        found["static"] = waiting / self.tokens_per_s
        return found

    @cached_property
    def energy_per_token_j(self) -> F64:
        """(P,) energy of one token in J."""
        return np.asarray(sum(self.energy_j.values()))

    # -- area -------------------------------------------------------------------------------------------------

    @cached_property
    def tile_mm2(self) -> F64:
        """(P,) area of one tile, the largest that is used."""
        return np.asarray(
            np.max([np.asarray(sum(way.tile_area_um2.values())) for way in self.ways], axis=0) * 1e-6
        )

    @cached_property
    def area_mm2(self) -> dict[str, F64]:
        """Component → (P,) area of all tiles; "static" is what chips have beside them."""
        found = {name: np.zeros(len(self.designs)) for name in self.tile_area_um2}
        for way in self.ways:
            tiles = self.tiles_each[:, way.members] @ self.layers[list(way.members)]
            for name, area in way.tile_area_um2.items():
                found[name] = found[name] + area * tiles * 1e-6
        found["static"] = self.chips * self.designs.profile.chip.of("area_fixed") * 1e-6
        return found

    @cached_property
    def area_total_mm2(self) -> F64:
        """(P,) area of all tiles and of what their chips share. Attention and its memory are not in it."""
        return np.asarray(sum(self.area_mm2.values()))

    @cached_property
    def tiles_per_chip(self) -> F64:
        """(P,) as the profile's chip has, or as its area holds."""
        chip = self.designs.profile.chip
        if chip.tiles is not None:
            return np.full(len(self.designs), float(chip.tiles))
        room = (chip.of("area_limit") - chip.of("area_fixed")) * 1e-6
        return np.maximum(np.floor(room / self.tile_mm2), 1)

    @cached_property
    def chips(self) -> F64:
        """(P,) chips that hold the model once."""
        return np.ceil(self.tiles / self.tiles_per_chip)

    @cached_property
    def link_bytes(self) -> F64:
        """(P,) bytes that a token sends from die to die: its vector, once to every die that works for it but the first.

        A closed form for sweeps; `dies.place` counts what a placement really moves.
        """
        counts = np.array([c.active / c.count for c in self.matrices]) * self.layers
        working = np.ceil(self.tiles_each @ counts / self.tiles_per_chip)
        return np.asarray(np.maximum(np.minimum(working, self.chips) - 1, 0) * self.workload.model.hidden * 2)

    def area_um2_of(self, i: int) -> dict[str, F64]:
        """Component → (P,) area of the tiles of one layer's matrix i."""
        (way,) = (way for way in self.ways if i in way.members)
        return {name: area * self.tiles_each[:, i] for name, area in way.tile_area_um2.items()}

    # -- time -------------------------------------------------------------------------------------------------

    @cached_property
    def _repeats(self) -> F64:
        return np.array([len(self.groups[group].layers) for group, _ in self.stage_names], np.float64)

    @cached_property
    def path_s(self) -> dict[str, F64]:
        """Component → (P,) time of one token through the whole model, in s."""
        found = {name: value @ self._repeats * 1e-9 for name, value in self.stage_ns.items()}
        chip = self.designs.profile.chip
        hop = chip.of("delay_link") + self.workload.model.hidden * 2 / max(chip.of("bandwidth_link"), 1e-9)
        tiled = sum(1 for group, name in self.stage_names if name not in ("attention", "router")
                    for _ in self.groups[group].layers)  # fmt: skip
        found["links"] = np.minimum(self.chips - 1, tiled).clip(min=0) * hop * 1e-9
        return found

    @cached_property
    def token_path_s(self) -> F64:
        """(P,) time of one token from the embedding to its end."""
        return np.asarray(sum(self.path_s.values()))

    @cached_property
    def step_ns(self) -> F64:
        """(P, S) time of every step of ``stage_names``."""
        return np.asarray(sum(self.stage_ns.values()))

    @cached_property
    def slowest_stage_s(self) -> F64:
        """(P,) the step that a pipeline waits for."""
        return np.asarray(self.step_ns.max(axis=1) * 1e-9)

    @cached_property
    def stages(self) -> int:
        """Steps of the pipeline, one behind the other."""
        return int(self._repeats.sum())

    @cached_property
    def latency_per_token_s(self) -> F64:
        """(P,) until a token is there: decoding, its way through the model; prefill, its share of the prompt's time."""
        if self.scenario.phase == "prefill":
            return self.prompt_s / self.scenario.context
        return self.token_path_s

    @cached_property
    def prompt_s(self) -> F64:
        """(P,) time of a prompt: the first token's way, the others one slowest step apart (they are all known)."""
        return np.asarray(self.token_path_s + (self.scenario.context - 1) * self.slowest_stage_s)

    @cached_property
    def tokens_per_s(self) -> F64:
        """(P,) as many as are asked for and can be."""
        rate = self.scenario.rate
        return self.fastest_tokens_per_s if rate is None else np.minimum(rate, self.fastest_tokens_per_s)

    @cached_property
    def fastest_tokens_per_s(self) -> F64:
        """(P,) of all streams: decoding, one waits for every step, many share them: up to one token a slowest step."""
        if self.scenario.phase == "prefill":
            return np.asarray(1 / self.latency_per_token_s)
        return np.minimum(self.scenario.streams / self.token_path_s, 1 / self.slowest_stage_s)

    # -- figures of merit -------------------------------------------------------------------------------------

    @property
    def power_w(self) -> F64:
        """(P,) energy of a token times tokens a second."""
        return np.asarray(self.energy_per_token_j * self.tokens_per_s)

    @property
    def tokens_per_s_per_w(self) -> F64:
        """(P,) = tokens a joule."""
        return np.asarray(1 / self.energy_per_token_j)

    @property
    def tokens_per_s_per_mm2(self) -> F64:
        """(P,)."""
        return np.asarray(self.tokens_per_s / self.area_total_mm2)


def evaluate(
    designs: Designs, workload: Workload, scenario: Scenario | None = None, activity: Activity | None = None
) -> Cost:
    """The cost of every point of ``designs`` for a workload. About 0.5 ms for one point, 50 µs each for thousands."""
    asked, busy = scenario or Scenario(), activity or Activity()
    groups = workload.groups(asked.head)
    matrices = tuple(column for column in workload.columns if column.group < len(groups))
    k = np.array([column.rows for column in matrices], np.float64)
    analog = np.array([c.analog for c in matrices], np.float64)
    active = np.array([c.active for c in matrices], np.float64) * analog
    once = 1 / asked.context if asked.phase == "prefill" else 1.0  # the head, of a prompt's last token
    share = np.array([once if c.role == "head" else 1.0 for c in matrices]) * active
    counts = np.array([c.count for c in matrices], np.float64) * analog
    variants = _variants(designs, matrices)
    size = (len(designs), len(matrices))
    energy = {name: np.zeros(size) for name in TILE_PARTS}
    tiles, cells, conversions = np.zeros(size), np.zeros(size), np.zeros(size)
    for held in variants:
        at, points = held.members, held.designs
        tiles[:, at], cells[:, at], conversions[:, at] = held.use.tiles, held.use.cells, held.use.conversions
        needed = designs.profile.array.voltage_read is not None
        tiled = [matrices[i].names if matrices[i].analog else () for i in at]  # no cells, no activity
        activities = busy.of(points, tiled, k[at]) if needed else None
        for name, part in held.parts.items():
            energy[name][:, at] = (
                part.energy_pj(held.use, activities) if isinstance(part, Array) else part.energy_pj(held.use)
            )
    attention_ns, attention_pj = attention(designs, groups, asked)
    digital_pj = np.array([digital(designs, group, asked)[0] for group in groups])
    transforms = np.array([transform_macs(designs, column) for column in matrices])
    for i, column in enumerate(matrices):
        digital_pj[column.group] += transforms[i] * share[i] * designs.profile.digital.of("energy_mac")
    stage_ns, names = _stages(designs, groups, matrices, variants, transforms, attention_ns, asked)
    return Cost(
        designs, workload, asked, matrices, groups,
        tiles_each=tiles * counts, conversions_each=conversions * share,
        energy_pj_each={name: value * share for name, value in energy.items()},
        cells_each=cells * counts,
        tile_area_um2={name: part.area_um2() for name, part in components(designs).items()},
        ways=tuple(Way(tuple(held.members), held.tile_area_um2) for held in variants),
        stage_ns=stage_ns, stage_names=names, attention_pj=attention_pj, digital_pj=digital_pj,
    )  # fmt: skip


@dataclass(frozen=True)
class _Variant:
    """Matrices that lie in tiles in one way. members: their indices."""

    designs: Designs
    members: list[int]
    use: Use
    parts: dict[str, Component]

    @property
    def tile_area_um2(self) -> dict[str, F64]:
        """Component → (P,) of one tile."""
        return {name: part.area_um2() for name, part in self.parts.items()}


def _variants(designs: Designs, matrices: tuple[Column, ...]) -> list[_Variant]:
    members: dict[Special | None, list[int]] = {}
    for i, column in enumerate(matrices):
        members.setdefault(column.special, []).append(i)
    found = []
    for special, at in members.items():
        points = designs.held_by(special)
        use = Use.of(points, [matrices[i].rows for i in at], [matrices[i].cols for i in at])
        found.append(_Variant(points, at, use, components(points)))
    return found


def _stages(
    designs: Designs, groups: tuple[Group, ...], matrices: tuple[Column, ...], variants: list[_Variant],
    transforms: F64, attention_ns: F64, scenario: Scenario,
) -> tuple[dict[str, F64], tuple[tuple[int, str], ...]]:  # fmt: skip
    """Component → (P, S) ns of every step, and (group, step) of each."""
    add, hop = designs.profile.periphery.of("delay_add"), designs.profile.interconnect.of("delay_hop")
    own = [{name: held.parts[name].delay_ns() for name in TIMED} for held in variants]
    extra = np.zeros((len(designs), len(matrices)))  # sums behind the product
    variant_of = np.zeros(len(matrices), np.int64)
    for index, held in enumerate(variants):
        extra[:, held.members], variant_of[held.members] = held.use.additions * add, index
    names: list[tuple[int, str]] = []
    steps: list[dict[str, F64 | float]] = []
    for index, group in enumerate(groups):
        members = [(i, column) for i, column in enumerate(matrices) if column.group == index]
        _, digital_ns, router_ns = digital(designs, group, scenario)
        slow = dict(zip([i for i, _ in members], digital_ns, strict=True))
        for stage in sorted({column.stage for _, column in members}):
            here = [(i, column) for i, column in members if column.stage == stage]
            if router_ns and any(column.count > 1 for _, column in here):
                names.append((index, "router"))
                steps.append({"digital": router_ns})
                router_ns = 0.0  # chosen once, for all steps of the experts
            tiled = [i for i, column in here if column.analog]
            times: dict[str, F64 | float] = {"interconnect": 0.0 if group.layers == (-1,) else hop}
            taken: F64 | float = 0.0
            if tiled:
                slowest = _slowest(own, variant_of, extra, tiled)
                times |= slowest
                taken = np.asarray(sum(slowest.values()))
            ahead = max((transforms[i] for i in tiled), default=0.0) / designs.profile.digital.of("rate_macs")
            if ahead:
                times["digital"] = ahead
                taken = taken + ahead
            beside = max(slow[i] for i, _ in here)  # digital matrices and adapters, while the tiles work
            if beside:
                times["digital"] = ahead + np.maximum(beside - taken, 0.0)
            names.append((index, "+".join(column.role for _, column in here)))
            steps.append(times)
            if stage == group.attention_after and group.attention_macs:
                names.append((index, "attention"))
                steps.append({"attention": float(attention_ns[index])})
    table = {
        name: np.zeros((len(designs), len(steps)))
        for name in (*TIMED, "interconnect", "attention", "digital")
    }
    for at, found in enumerate(steps):
        for name, value in found.items():
            table[name][:, at] = value
    return table, tuple(names)


def _slowest(
    own: list[dict[str, F64]], variant_of: npt.NDArray[np.int64], extra: F64, members: list[int]
) -> dict[str, F64]:
    """Component → (P,) ns of the slowest product among matrices that work side by side, its sums in the periphery."""
    ways = []
    for variant in sorted(set(variant_of[members].tolist())):
        adds = extra[:, [i for i in members if variant_of[i] == variant]].max(axis=1)
        ways.append({**own[variant], "periphery": own[variant]["periphery"] + adds})
    if len(ways) == 1:
        return ways[0]
    last = np.argmax([sum(way.values()) for way in ways], axis=0)
    return {name: np.choose(last, [way[name] for way in ways]) for name in TIMED}
