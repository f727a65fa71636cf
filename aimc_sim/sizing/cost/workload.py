"""What is asked of the tiles: a model's matrices, how many tokens, how long a context, which matrices stay digital."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from aimc_sim.errors import BadInput
from aimc_sim.hardware import Placement, Special
from aimc_sim.models.catalogue import config_shapes, model_shapes, named_shapes
from aimc_sim.models.catalogue_families import MatrixShape, ModelShapes
from aimc_sim.weightfile import WeightFile

Phase = Literal["decode", "prefill"]


@dataclass(frozen=True)
class Scenario:
    """A scenario says how the model is used. decode: one token after the other, the cache holding ``context``
    positions; prefill: all ``context`` tokens of a prompt at once. streams: sequences at the same time; head: whether
    logits are computed (for a prompt, of its last token); cache_bits: of a key or value; rate: tokens a second that are
    asked for (None: as many as there can be), between which tiles wait.

    >>> from aimc_sim.sizing import Scenario
    >>> Scenario(phase="prefill", context=512).streams
    1
    """

    phase: Phase = "decode"
    context: int = 1024
    streams: int = 1
    head: bool = True
    cache_bits: int = 16
    rate: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("context", 1), ("streams", 1), ("cache_bits", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 2**40:
                raise BadInput(name, got=value, why="it is a whole number", do=f"use at least {least}")
        if self.rate is not None and not 0 < self.rate < 1e15:
            raise BadInput("rate", got=self.rate, why="it counts tokens a second", do="use a positive number")
        if self.phase not in ("decode", "prefill"):
            raise BadInput("phase", got=self.phase, why="a model reads or writes", do="use decode or prefill")

    @classmethod
    def of(cls, scenario: Scenario | None = None, **fields: Any) -> Scenario:
        """Lay fields that are not None over a scenario, or over the usual one.

        >>> Scenario.of(rate=100.0, streams=None).rate
        100.0
        """
        return replace(
            scenario or cls(), **{name: value for name, value in fields.items() if value is not None}
        )


@dataclass(frozen=True)
class Group:
    """A group is layers that are alike: what they look like, and which they are."""

    matrices: tuple[MatrixShape, ...]
    analog: tuple[bool, ...]
    attention_macs: int
    kv_elements: int
    window: int | None
    router_macs: int
    attention_after: int
    layers: tuple[int, ...]  # -1: the head


@dataclass(frozen=True)
class Column:
    """A column is matrices that cost the same: one of a group's layers, ``layers`` times."""

    group: int
    name: str
    role: str
    rows: int
    cols: int
    stage: int
    count: int
    active: int
    layers: int
    analog: bool
    special: Special | None  # how it lies in tiles, where not as the others do
    names: tuple[str, ...]  # of all layers, for measured activities


@dataclass(frozen=True)
class Workload:
    """A workload is a model on tiles. Layers that are alike are one group, so that a model of 94 layers costs no more
    than one of 16.

    source: what the shapes come from; file: the weight file, where they come from one.

    >>> from aimc_sim.sizing import Workload
    >>> Workload.of("SmolLM2-135M").source
    'catalogue'
    """

    model: ModelShapes
    placement: Placement = field(default_factory=Placement)
    source: str = "shapes"
    file: WeightFile | None = None
    merged: bool = (
        True  # layers that are alike are one group; False: each its own, as measured activities differ
    )

    @classmethod
    def of(cls, model: str | Path | WeightFile | ModelShapes, placement: Placement | None = None) -> Workload:
        """Take a name of the catalogue, a weight file, a config.json or a folder with one, or shapes.

        Raises BadInput for anything else, and for a placement pattern that names no matrix.
        """
        path = Path(model) if isinstance(model, (str, Path)) else None
        stored = path is not None and path.suffix in (".h5", ".hdf5")
        if path is not None and stored and path.is_file():
            model = WeightFile(path)
        if isinstance(model, WeightFile):
            work = cls(_of_file(model), source=f"weight file {model.path.name}", file=model)
        elif isinstance(model, ModelShapes):
            work = cls(model)
        elif path is not None and (path.exists() or path.suffix == ".json"):
            work = cls(config_shapes(path), source=f"configuration {path}")
        elif stored:
            raise BadInput("weight file", got=str(path), why="it is not there", do="check the path")
        else:
            work = cls(named_shapes(str(model)), source="catalogue")
        return work.placed(placement or Placement())

    def placed(self, placement: Placement) -> Workload:
        """Return the same model with other matrices in tiles. Raises BadInput for a pattern that names no matrix."""
        placement.check([(matrix.name, matrix.role) for matrix in self.model.matrices()])
        return replace(self, placement=placement)

    def is_analog(self, matrix: MatrixShape) -> bool:
        """Say whether the placement puts this matrix into tiles."""
        return self.placement.is_analog(matrix.name, matrix.role)

    def _special(self, matrix: MatrixShape) -> Special | None:
        return self.placement.special_of(matrix.name) if self.is_analog(matrix) else None

    def groups(self, head: bool = True) -> tuple[Group, ...]:
        """Group layers that are alike, in order of their first; the head, if wanted, is a group of its own at
        the end.
        """
        return self._alike if head else self._alike[:-1]

    @cached_property
    def _alike(self) -> tuple[Group, ...]:
        alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for index, layer in enumerate(self.model.layers):
            shapes = tuple(
                (replace(matrix, name=""), self.is_analog(matrix), self._special(matrix))
                for matrix in layer.matrices
            )
            key = (shapes, layer.attention_macs, layer.kv_elements, layer.window, layer.router_macs)
            alike[key if self.merged else (index,)].append(index)
        groups = []
        for members in alike.values():
            layer = self.model.layers[members[0]]
            groups.append(Group(
                layer.matrices, tuple(self.is_analog(m) for m in layer.matrices), layer.attention_macs,
                layer.kv_elements, layer.window, layer.router_macs, layer.attention_after, tuple(members),
            ))  # fmt: skip
        last = self.model.head
        groups.append(Group((last,), (self.is_analog(last),), 0, 0, None, 0, -1, (-1,)))
        return tuple(groups)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The matrices of all groups, the head's last; groups are numbered as in ``groups``."""
        columns = []
        for index, group in enumerate(self._alike):
            for shape, analog in zip(group.matrices, group.analog, strict=True):
                names = tuple(name_in_layer(shape.name, group.layers[0], layer) for layer in group.layers)
                columns.append(Column(
                    index, shape.name, shape.role, shape.rows, shape.cols, shape.stage, shape.count, shape.active,
                    len(group.layers), analog, self._special(shape), names,
                ))  # fmt: skip
        return tuple(columns)


def name_in_layer(name: str, first: int, layer: int) -> str:
    """Name the same matrix in another layer of its group; the head (layer -1) has no other.

    >>> name_in_layer("model.layers.0.mlp.up_proj", 0, 7)
    'model.layers.7.mlp.up_proj'
    """
    return name if layer < 0 else name.replace(f".{first}.", f".{layer}.", 1)


def _of_file(weights: WeightFile) -> ModelShapes:
    """Read the shapes of a weight file, from its configuration, checked against the matrices that it holds. With
    adapters.
    """
    shapes = model_shapes(weights.config, weights.path.stem)
    expected = {(m.name, m.rows, m.cols) for m in shapes.matrices()}
    stored = {(m.name, m.rows, m.cols) for m in weights.matrices}
    if stored != expected:
        odd = sorted(stored ^ expected)[0]
        raise BadInput(
            "weight file", got=odd[0], why="its matrices are not those that its configuration describes",
            do="export the checkpoint again",
        )  # fmt: skip
    ranks = weights.adapter_ranks

    def adapted(matrix: MatrixShape) -> MatrixShape:
        return replace(matrix, adapter=ranks.get(matrix.name, 0))

    layers = tuple(replace(layer, matrices=tuple(map(adapted, layer.matrices))) for layer in shapes.layers)
    return replace(shapes, layers=layers, head=adapted(shapes.head))
