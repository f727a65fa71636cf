"""Hypothesis strategies for what the simulator takes: hardware, devices, weights, conductances, tiles, times, seeds.

    from hypothesis import given
    from aimc_sim.testing import strategies as some

    @given(some.hardware())
    def test_toml_keeps_everything(hardware): ...

Sizes are moderate (a millionth to a thousand, matrices of a few dozen cells), so that examples are quick and what they
find is about the code. Draw shapes, parameters and types; draw ``seeds`` only for properties that hold exactly, since
Hypothesis searches for the seed that breaks a statistical assertion and finds it. Needs the package hypothesis.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.strategies import DrawFn, SearchStrategy
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from aimc_sim import devices as library
from aimc_sim.aliases import F32
from aimc_sim.chip.mapping import tile_map
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.chip.temperature import kelvins
from aimc_sim.devices import AdditiveDrift, AgedLaw, Device, Flicker, Law, PowerDrift, Programming
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware, StaticRange
from aimc_sim.hardware.converters import OF_MODE
from aimc_sim.spec import Spec
from aimc_sim.tiles.matrix import TiledMatrix

SMALLEST, LARGEST = 1e-6, 1e3  # of numbers that a spec leaves unbounded
MOST = 24  # rows or columns of a drawn matrix
_NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.*", min_size=1, max_size=12)


def seeds() -> SearchStrategy[int]:
    """Draw seeds, 0 to 2^64 - 1. For exact properties only."""
    return st.integers(0, 2**64 - 1)


def times(device: Device) -> SearchStrategy[float]:
    """Draw times in seconds that the device covers, 0 among them."""
    last = 1e6 if device.t_max_s is None else device.t_max_s
    if last <= device.t_min_s or last == 0:
        return st.just(0.0)
    return st.just(0.0) | st.floats(device.t_min_s, last)


@st.composite
def laws(draw: DrawFn, largest: float = 1.0) -> Law:
    """Draw laws of conductance that are finite and not negative from 0 to g_max: 1 to 3 polynomials in g_rel."""
    ends = sorted(draw(st.sets(st.sampled_from([0.1, 0.25, 0.5, 0.75]), max_size=2)))
    pieces: list[dict[str, Any]] = []
    for end in [*ends, None]:
        found = draw(st.lists(st.floats(0, largest / 4), min_size=1, max_size=4))
        pieces.append({"coefficients": found} | ({} if end is None else {"up_to": end}))
    return Law.parse({"pieces": pieces}, "drawn law")


@st.composite
def devices(draw: DrawFn, own: bool = True) -> Device:
    """Draw devices: those that ship and, with ``own``, made-up ones with every kind of programming, drift and 1/f
    noise.
    """
    if not own or draw(st.booleans()):
        return library.get(draw(st.sampled_from(library.names())))
    g_max = draw(st.floats(1.0, 200.0))
    domain: Literal["conductance", "weight"] = draw(st.sampled_from(["conductance", "weight"]))
    if domain == "weight":
        programming = draw(st.none() | _programming(g_max, st.just(None), st.floats(0, 0.1 * g_max)))
        drift: PowerDrift | AdditiveDrift | None = draw(st.none() | _power())
    else:
        programming = draw(
            st.none() | _programming(g_max, st.none() | laws(0.1), st.just(0.0)) | _by_age(g_max)
        )
        aged = programming is not None and bool(programming.by_age)
        drift = None if aged else draw(st.none() | _power() | _additive(g_max))
    flicker = draw(st.none() | _flicker())
    last = programming.by_age[-1].age_s if programming and programming.by_age else draw(st.floats(1e3, 1e9))
    changes = drift or flicker or (programming and programming.by_age)
    return Device(
        name=draw(_NAMES), domain=domain, g_max_us=g_max,
        g_min_us=0.0 if domain == "weight" else draw(st.just(0.0) | st.floats(0, g_max / 2)),
        devices_per_polarity=draw(st.integers(1, 2)), programming=programming, drift=drift, flicker=flicker,
        t_min_s=1.0 if isinstance(drift, AdditiveDrift) or (programming and programming.by_age) else 0.0,
        t_max_s=last if changes else draw(st.none() | st.just(0.0)),
    )  # fmt: skip


@st.composite
def _programming(
    draw: DrawFn, g_max: float, shift: SearchStrategy[Law | None], dead_zone: SearchStrategy[float]
) -> Programming:
    sigma = draw(laws(0.1 * g_max))
    scale = draw(st.floats(0, 2))
    return Programming(sigma=sigma, shift=draw(shift), scale=scale, dead_zone=draw(dead_zone))


@st.composite
def _by_age(draw: DrawFn, g_max: float) -> Programming:
    ages = draw(st.sampled_from([(1.0, 86400.0), (1.0, 60.0, 3600.0)]))
    spread = st.lists(st.floats(0, 0.02 * g_max), min_size=3, max_size=3)
    table = [AgedLaw(age_s=age, sigma=Law.polynomial(*draw(spread))) for age in ages]
    return Programming(by_age=tuple(table), scale=draw(st.floats(0, 2)))


@st.composite
def _power(draw: DrawFn) -> PowerDrift:
    mean, std = draw(laws(0.1)), draw(laws(0.03))
    return PowerDrift(t0_s=draw(st.floats(1e-3, 1e3)), nu_mean=mean, nu_std=std)


@st.composite
def _additive(draw: DrawFn, g_max: float) -> AdditiveDrift:
    size = st.floats(0, 0.01 * g_max)
    return AdditiveDrift(
        kind="additive", mean_slope_us=-draw(size), std_slope_us=draw(size), std_offset_us=draw(size)
    )


@st.composite
def _flicker(draw: DrawFn) -> Flicker:
    return Flicker(
        t_read_s=draw(st.floats(1e-8, 1e-3)), t0_s=draw(st.floats(0, 1e3)), amplitude=draw(laws(0.05)),
        relative=draw(st.booleans()), scale=draw(st.floats(0, 2)),
    )  # fmt: skip


@st.composite
def hardware(draw: DrawFn, device: SearchStrategy[Device] | None = None) -> Hardware:
    """Draw hardware over all its fields: whatever the spec allows, present or absent.

    device: which devices (None: any). A field that the rest does not allow, such as read noise with a device on the
    weight, takes its default.
    """
    chosen = draw(devices() if device is None else device)
    tables = draw(tables_of(Hardware, leave=("device",)))
    _of_its_mode(tables.get("dac"))
    fields: dict[str, Any] = {"name": tables.pop("name", "plain"), "device": chosen}
    drawn = Hardware(**fields)
    for name, table in tables.items():  # one after the other: what the fields before allow
        with suppress(ValidationError):
            more = {**fields, name: _adapter(name).validate_json(json.dumps(table))}
            drawn, fields = Hardware(**more), more
    return drawn


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    field = Hardware.model_fields[name]
    annotated: Any = Annotated[field.annotation, field]
    return TypeAdapter(annotated)


def _of_its_mode(dac: dict[str, Any] | None) -> None:
    """Take out of a drawn DAC what belongs to another mode."""
    for mode, names in OF_MODE.items():
        if dac is not None and dac.get("mode", "amplitude") != mode:
            for name in names:
                dac.pop(name, None)


@st.composite
def tables_of(draw: DrawFn, spec: type[Spec], leave: tuple[str, ...] = ()) -> dict[str, Any]:
    """Draw a TOML-like table for a spec, made from the types and bounds of its fields; checks across fields are not
    known.

    leave: fields to leave out.
    """
    out: dict[str, Any] = {}
    for name, field in spec.model_fields.items():
        if name in leave or (not field.is_required() and draw(st.integers(0, 3)) == 0):
            continue  # absent: its default, which for an effect is None
        present = [option for option in get_args(field.annotation) if option is not type(None)]
        if get_origin(field.annotation) in (Union, types.UnionType):
            out[name] = draw(st.one_of(*(_values(option, field.metadata) for option in present)))
        else:
            out[name] = draw(_values(field.annotation, field.metadata))
    return out


def _values(annotation: Any, metadata: list[Any]) -> SearchStrategy[Any]:
    """Draw values of an annotation such as ``Literal["a", "b"]``, ``Dac | None`` or ``Annotated[float, Gt(0)]``."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(inner[0], [*metadata, *inner[1:]])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, types.UnionType):
        return st.one_of(*(_values(option, metadata) for option in inner))
    if origin is tuple:
        least = max(
            (item.min_length for item in metadata if isinstance(item, annotated_types.MinLen)), default=0
        )
        return st.lists(_values(inner[0], []), min_size=least, max_size=3)
    if annotation is type(None):
        return st.none()
    if annotation is bool:
        return st.booleans()
    if annotation is str:
        return _NAMES
    if annotation in (int, float):
        return _numbers(annotation, metadata)
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return tables_of(annotation)
    raise TypeError(f"no strategy is known for {annotation!r}: add it to aimc_sim.testing.strategies")


def _numbers(kind: type, metadata: list[Any]) -> SearchStrategy[Any]:
    flat: list[Any] = []
    for item in metadata:
        flat += item.metadata if isinstance(item, FieldInfo) else [item]
    bounds: Mapping[str, Any] = {}
    for item in flat:
        for name in ("ge", "gt", "le", "lt"):
            if isinstance(item, getattr(annotated_types, name.capitalize())):
                bounds = {**bounds, name: getattr(item, name)}
    if kind is int:
        low = bounds.get("ge", bounds.get("gt", -1) + 1)
        high = bounds.get("le", bounds.get("lt", max(low, 512) + 1) - 1)
        return st.integers(low, high)
    low = bounds.get("ge", bounds["gt"] + SMALLEST if "gt" in bounds else -LARGEST)
    high = bounds.get("le", bounds["lt"] - SMALLEST if "lt" in bounds else LARGEST)
    numbers = st.floats(low, high)
    ends = st.sampled_from([low, high])
    return numbers.filter(lambda x: x == 0 or abs(x) >= SMALLEST) | ends


def weights(rows: int | None = None, cols: int | None = None, largest: float = 1e3) -> SearchStrategy[F32]:
    """Draw weight matrices (cols, rows) = (outputs, inputs) float32, finite, zeros and whole columns of zeros among
    them.
    """
    k = st.integers(1, MOST) if rows is None else st.just(rows)
    n = st.integers(1, MOST) if cols is None else st.just(cols)
    numbers = st.floats(-largest, largest, width=32)
    return st.tuples(n, k).flatmap(
        lambda shape: hnp.arrays(np.float32, shape, elements=numbers, fill=st.just(0.0))
    )


def conductances(device: Device, rows: int | None = None, cols: int | None = None) -> SearchStrategy[F32]:
    """Draw target conductances (rows, cols) float32 µS that the device covers (weight domain: signed weights)."""
    high = float(np.nextafter(np.float32(device.g_max_us), np.float32(0)))
    low = (
        -high
        if device.domain == "weight"
        else float(np.nextafter(np.float32(device.g_min_us), np.float32(high)))
    )
    if device.domain == "conductance" and device.g_min_us == 0:
        low = 0.0
    r = st.integers(1, MOST) if rows is None else st.just(rows)
    c = st.integers(1, MOST) if cols is None else st.just(cols)
    return st.tuples(r, c).flatmap(
        lambda shape: hnp.arrays(np.float32, shape, elements=st.floats(low, high, width=32))
    )


@st.composite
def cell_matrices(
    draw: DrawFn, hardware: SearchStrategy[Hardware] | None = None, w: SearchStrategy[F32] | None = None
) -> CellMatrix:
    """Draw a matrix in the cells of a chip at a time: any seed, ordinal, programming cycle and session; with ranges."""
    chosen = draw(globals()["hardware"]() if hardware is None else hardware)
    array = draw(weights() if w is None else w)
    if chosen.weights.scale == "grid":  # of a quantised checkpoint
        array = np.clip(np.rint(array), -chosen.weights.max_code, chosen.weights.max_code)
    tiles_map = tile_map(array.shape[1], array.shape[0], chosen.tile)
    row_tiles, col_tiles = tiles_map.row_bounds.size - 1, tiles_map.col_bounds.size - 1
    size = st.floats(2.0**-6, 64.0, width=32)
    beta = full = None
    if chosen.dac is not None and isinstance(chosen.dac.range, StaticRange):
        beta = draw(hnp.arrays(np.float32, row_tiles, elements=size))
    if chosen.adc is not None and chosen.adc.full_scale.calibrated:
        full = draw(hnp.arrays(np.float32, (row_tiles, col_tiles), elements=size))
    t_s = draw(times(chosen.device))
    try:  # programmed again, cells may be younger than the device's first data
        chosen.check_time(t_s)
    except BadInput:
        t_s = 0.0
    seed = draw(seeds())
    try:  # dies differ in temperature, and one may lie beyond the device's data
        kelvins(chosen.device, chosen.temperature, chosen.variation, seed)
    except BadInput:
        tables = chosen.model_dump(mode="json")
        tables["variation"] |= {"die_temperature_sigma_c": None}
        chosen = Hardware.parse(tables, "drawn hardware")
    return CellMatrix(
        array,
        chosen,
        seed=seed,
        t_s=t_s,
        ordinal=draw(st.integers(0, 2**20 - 1)),
        programming_cycle=draw(st.integers(0, 2**31)),  # reprogramming counts on from there
        session=draw(st.integers(0, 2**32 - 1)),
        ranges=MatrixRange(input_range=beta, full_scale=full),
    )


def tiles(hardware: SearchStrategy[Hardware] | None = None) -> SearchStrategy[TiledMatrix]:
    """Draw programmed matrices as `aimc_sim.execute.tile_matmul` reads them."""
    return cell_matrices(hardware).map(lambda matrix: matrix.tiles())
