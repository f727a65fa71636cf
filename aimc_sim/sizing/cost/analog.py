"""From points and a model to energy, latency and area: closed forms in NumPy, all points at once.

t_token = Σ layers (Σ steps (slowest product + sums over row tiles + hop) + attention) + head
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aimc_sim.aliases import F64
from aimc_sim.hardware import Special
from aimc_sim.sizing.cost.activity import Activity
from aimc_sim.sizing.cost.components import TILE_PARTS, TIMED, Component, Use, components
from aimc_sim.sizing.cost.designs import Designs
from aimc_sim.sizing.cost.digital import attention, digital, transform_macs
from aimc_sim.sizing.cost.workload import Column, Group, Scenario, Workload

COMPONENTS = (*TILE_PARTS, "attention", "digital", "links", "static")
OPERATIONS = 2  # a multiply-accumulate counts as two


@dataclass(frozen=True)
class TileMapping:
    """A mapping is of the matrices that lie in tiles of one kind: the hardware's own, or a special one.

    members: their indices among the matrices; use: of these, (P, members).
    """

    members: list[int]
    use: Use
    parts: Mapping[str, Component]

    @classmethod
    def of(
        cls, designs: Designs, special: Special | None, members: list[int], matrices: tuple[Column, ...],
        activity: Activity,
    ) -> TileMapping:  # fmt: skip
        """Lay matrices into tiles as ``special`` says, or as the hardware does."""
        points, columns = designs.held_by(special), [matrices[i] for i in members]
        k, n = [column.rows for column in columns], [column.cols for column in columns]
        activities = None
        if designs.profile.array.voltage_read is not None:
            tiled = [column.names if column.analog else () for column in columns]  # no cells, no activity
            activities = activity.of(points, tiled, k)
        return cls(members, Use.of(points, k, n, activities), components(points))

    @cached_property
    def tile_area_um2(self) -> dict[str, F64]:
        """Component → (P,) of one tile."""
        return {name: part.area_um2() for name, part in self.parts.items()}

    @cached_property
    def product_ns(self) -> dict[str, F64]:
        """Component → (P,) time of one product."""
        return {name: self.parts[name].delay_ns() for name in TIMED}


@dataclass(frozen=True)
class Cost:
    """A cost says what P points cost for a model in a scenario. Arrays are (P,) or (P, M), M the columns of
    ``matrices``.

    Energies and latencies are of one token: in decoding of each new one, in a prefill of each of the prompt.

    >>> from aimc_sim.sizing import Designs, Workload, evaluate
    >>> evaluate(Designs.of("hermes-256"), Workload.of("SmolLM2-135M")).tiles.shape
    (1,)
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
    mappings: tuple[TileMapping, ...]  # of the matrices to tiles, the hardware's own and special ones
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
        energies = {name: value @ self.layers * 1e-12 for name, value in self.energy_pj_each.items()}
        size = len(self.designs)
        energies["attention"] = np.full(size, float(self.attention_pj @ repeats) * 1e-12)
        energies["digital"] = np.full(size, float(self.digital_pj @ repeats) * 1e-12)
        chip = self.designs.profile.chip
        energies["links"] = self.link_bytes * chip.of("energy_link_byte") * 1e-12
        watts = sum((getattr(self.designs.profile, name).of("power_idle") for name in TILE_PARTS), 0.0) * 1e-3
        waiting = self.tiles * watts + self.chips * chip.of("power_fixed") * 1e-3
        energies["static"] = waiting / self.tokens_per_s
        return energies

    @cached_property
    def energy_per_token_j(self) -> F64:
        """(P,) energy of one token in J."""
        return np.asarray(sum(self.energy_j.values()))

    # -- area -------------------------------------------------------------------------------------------------

    @cached_property
    def tile_mm2(self) -> F64:
        """(P,) area of one tile, the largest that is used."""
        return np.asarray(
            np.max([np.asarray(sum(at.tile_area_um2.values())) for at in self.mappings], axis=0) * 1e-6
        )

    @cached_property
    def area_mm2(self) -> dict[str, F64]:
        """Component → (P,) area of all tiles; "static" is what chips have beside them."""
        areas = {name: np.zeros(len(self.designs)) for name in TILE_PARTS}
        for mapping in self.mappings:
            tiles = self.tiles_each[:, mapping.members] @ self.layers[mapping.members]
            for name, area in mapping.tile_area_um2.items():
                areas[name] = areas[name] + area * tiles * 1e-6
        areas["static"] = self.chips * self.designs.profile.chip.of("area_fixed") * 1e-6
        return areas

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

        A closed form for sweeps; `dies.floorplan` counts what really moves.
        """
        counts = np.array([c.active / c.count for c in self.matrices]) * self.layers
        working = np.ceil(self.tiles_each @ counts / self.tiles_per_chip)
        return np.asarray(np.maximum(np.minimum(working, self.chips) - 1, 0) * self.workload.model.hidden * 2)

    def mapping_of(self, i: int) -> TileMapping:
        """Return how matrix i lies in tiles."""
        return next(mapping for mapping in self.mappings if i in mapping.members)

    # -- time -------------------------------------------------------------------------------------------------

    @cached_property
    def _repeats(self) -> F64:
        return np.array([len(self.groups[group].layers) for group, _ in self.stage_names], np.float64)

    @cached_property
    def path_s(self) -> dict[str, F64]:
        """Component → (P,) time of one token through the whole model, in s."""
        times = {name: value @ self._repeats * 1e-9 for name, value in self.stage_ns.items()}
        chip = self.designs.profile.chip
        hop = chip.of("delay_link") + self.workload.model.hidden * 2 / max(chip.of("bandwidth_link"), 1e-9)
        tiled = sum(1 for group, name in self.stage_names if name not in ("attention", "router")
                    for _ in self.groups[group].layers)  # fmt: skip
        times["links"] = np.minimum(self.chips - 1, tiled).clip(min=0) * hop * 1e-9
        return times

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
    """Evaluate the cost of every point of ``designs`` for a workload. About 0.5 ms for one point, 50 µs each for
    thousands.

    >>> from aimc_sim.sizing import Designs, Workload, evaluate
    >>> cost = evaluate(Designs.of("hermes-256", rows=[128, 256]), Workload.of("SmolLM2-135M"))
    >>> bool(cost.tiles[0] > cost.tiles[1])
    True
    """
    asked, busy = scenario or Scenario(), activity or Activity()
    groups = workload.groups(asked.head)
    matrices = tuple(column for column in workload.columns if column.group < len(groups))
    analog = np.array([c.analog for c in matrices], np.float64)
    active = np.array([c.active for c in matrices], np.float64) * analog
    once = 1 / asked.context if asked.phase == "prefill" else 1.0  # the head, of a prompt's last token
    share = np.array([once if c.role == "head" else 1.0 for c in matrices]) * active
    counts = np.array([c.count for c in matrices], np.float64) * analog
    kinds: dict[Special | None, list[int]] = {}
    for i, column in enumerate(matrices):
        kinds.setdefault(column.special, []).append(i)
    mappings = tuple(TileMapping.of(designs, special, at, matrices, busy) for special, at in kinds.items())

    def each(of_mapping: Callable[[TileMapping], F64]) -> F64:
        """Return (P, M) of all matrices."""
        table = np.zeros((len(designs), len(matrices)))
        for mapping in mappings:
            table[:, mapping.members] = of_mapping(mapping)
        return table

    attention_ns, attention_pj = attention(designs, groups, asked)
    digital_pj = np.array([digital(designs, group, asked)[0] for group in groups])
    transforms = np.array([transform_macs(designs, column) for column in matrices])
    for i, column in enumerate(matrices):
        digital_pj[column.group] += transforms[i] * share[i] * designs.profile.digital.of("energy_mac")
    stage_ns, names = _stages(designs, groups, matrices, mappings, transforms, attention_ns, asked)
    return Cost(
        designs, workload, asked, matrices, groups,
        tiles_each=each(lambda at: at.use.tiles) * counts,
        conversions_each=each(lambda at: at.use.conversions) * share,
        energy_pj_each={
            name: each(lambda at: at.parts[name].energy_pj(at.use)) * share for name in TILE_PARTS  # noqa: B023
        },
        cells_each=each(lambda at: at.use.cells) * counts,
        mappings=mappings, stage_ns=stage_ns, stage_names=names, attention_pj=attention_pj, digital_pj=digital_pj,
    )  # fmt: skip


def _stages(
    designs: Designs, groups: tuple[Group, ...], matrices: tuple[Column, ...], mappings: tuple[TileMapping, ...],
    transforms: F64, attention_ns: F64, scenario: Scenario,
) -> tuple[dict[str, F64], tuple[tuple[int, str], ...]]:  # fmt: skip
    """Return component → (P, S) ns of every step, and (group, step) of each."""
    add, hop = designs.profile.periphery.of("delay_add"), designs.profile.interconnect.of("delay_hop")
    extra = np.zeros((len(designs), len(matrices)))  # sums behind the product
    for mapping in mappings:
        extra[:, mapping.members] = mapping.use.additions * add
    names: list[tuple[int, str]] = []
    steps: list[dict[str, F64 | float]] = []
    for index, group in enumerate(groups):
        members = [(i, column) for i, column in enumerate(matrices) if column.group == index]
        _, digital_ns, router_ns = digital(designs, group, scenario)
        slow = dict(zip([i for i, _ in members], digital_ns, strict=True))
        for stage in sorted({column.stage for _, column in members}):
            beside = [(i, column) for i, column in members if column.stage == stage]
            if router_ns and any(column.count > 1 for _, column in beside):
                names.append((index, "router"))
                steps.append({"digital": router_ns})
                router_ns = 0.0  # chosen once, for all steps of the experts
            tiled = [i for i, column in beside if column.analog]
            times: dict[str, F64 | float] = {"interconnect": 0.0 if group.layers == (-1,) else hop}
            taken: F64 | float = 0.0
            if tiled:
                slowest = _slowest(mappings, extra, tiled)
                times |= slowest
                taken = np.asarray(sum(slowest.values()))
            ahead = max((transforms[i] for i in tiled), default=0.0) / designs.profile.digital.of("rate_macs")
            if ahead:
                times["digital"] = ahead
                taken = taken + ahead
            # digital matrices and adapters compute while the tiles work
            if longest := max(slow[i] for i, _ in beside):
                times["digital"] = ahead + np.maximum(longest - taken, 0.0)
            names.append((index, "+".join(column.role for _, column in beside)))
            steps.append(times)
            if stage == group.attention_after and group.attention_macs:
                names.append((index, "attention"))
                steps.append({"attention": float(attention_ns[index])})
    table = {
        name: np.zeros((len(designs), len(steps)))
        for name in (*TIMED, "interconnect", "attention", "digital")
    }
    for at, step in enumerate(steps):
        for name, value in step.items():
            table[name][:, at] = value
    return table, tuple(names)


def _slowest(mappings: tuple[TileMapping, ...], extra: F64, members: list[int]) -> dict[str, F64]:
    """Return component → (P,) ns of the slowest product among matrices that work side by side, its sums in the
    periphery.
    """
    products = []
    for mapping in mappings:
        if side_by_side := [i for i in members if i in mapping.members]:
            own = mapping.product_ns
            products.append({**own, "periphery": own["periphery"] + extra[:, side_by_side].max(axis=1)})
    if len(products) == 1:
        return products[0]
    last = np.argmax([sum(product.values()) for product in products], axis=0)
    return {name: np.choose(last, [product[name] for product in products]) for name in TIMED}
