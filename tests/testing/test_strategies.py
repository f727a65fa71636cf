"""The strategies draw what they promise: valid, varied, and over every field."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aimc_sim import devices
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.devices import Device
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware import Hardware
from aimc_sim.randomness import row_ids
from aimc_sim.testing import assert_bits
from aimc_sim.testing import strategies as some
from aimc_sim.tiles.matrix import TiledMatrix

few = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@given(some.hardware())
@settings(max_examples=60)
def test_hardware_survives_toml(tmp_path_factory: pytest.TempPathFactory, hardware: Hardware) -> None:
    path = tmp_path_factory.mktemp("drawn") / "drawn.toml"
    path.write_text(hardware.to_toml(), encoding="utf-8")
    assert Hardware.load(path) == hardware
    assert Hardware.load(path).id == hardware.id


def test_every_field_is_drawn_present_and_absent() -> None:
    seen: dict[str, set[bool]] = {name: set() for name in Hardware.model_fields}

    @given(some.hardware())
    @settings(max_examples=200)
    def look(hardware: Hardware) -> None:
        for name, field in Hardware.model_fields.items():
            seen[name].add(not field.is_required() and getattr(hardware, name) == field.get_default())

    look()
    optional = {name for name, field in Hardware.model_fields.items() if not field.is_required()}
    assert {name for name in optional if seen[name] != {True, False}} == set()


@given(some.devices())
@settings(max_examples=100)
def test_devices_are_whole(device: Device) -> None:
    assert Device.parse(device.model_dump(mode="json"), "copy") == device
    device.tables(0.0)


@given(st.data())
@settings(max_examples=60)
def test_conductances_and_times_lie_within_the_device(data: st.DataObject) -> None:
    device = data.draw(some.devices())
    device.check_time(data.draw(some.times(device)))
    g = data.draw(some.conductances(device))
    assert g.dtype == np.float32
    if device.domain == "conductance":
        assert (device.programming_sigma_us(g) >= 0).all()
    else:
        assert (device.programming_sigma(np.abs(g)) >= 0).all()


@given(some.cell_matrices())
@few
def test_the_fused_cells_are_those_of_the_formula(matrix: CellMatrix) -> None:
    """The readable formula has one pair of devices a weight, in one copy, before wires and without repair."""
    tables = {**matrix.hardware.model_dump(mode="json"), "wires": None, "repair": None}
    tables["weights"] |= {"devices": 1, "pair": "differential", "cell_bits": None, "copies": None}
    unwired = replace(matrix, hardware=Hardware.parse(tables, "drawn"))
    assert_bits(unwired.effective_weights(), unwired.cells().effective)


@given(some.tiles(some.hardware(device=st.sampled_from([devices.get("ideal"), devices.get("pcm-ibm2019")]))))
@few
def test_tiles_multiply_one_row_like_many(tiles: TiledMatrix) -> None:
    x = np.linspace(-1, 1, 3 * tiles.rows, dtype=np.float32).reshape(3, tiles.rows)
    names = row_ids(1, np.arange(3))
    together = tile_matmul(x, tiles, names)
    assert together.shape == (3, tiles.cols)
    if tiles.weights is None:  # the float path's products are those of its BLAS
        assert_bits(tile_matmul(x[1:2], tiles, names[1:2]), together[1:2])
