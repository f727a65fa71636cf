"""Hardware and errors reach other processes and come back equal."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import operator
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest
from golden import inputs

from aimc_sim import BadInput, Hardware

NAMES = [path.stem for path in inputs.hardware_files()]
BAD: list[dict[str, Any]] = [
    {"device": "pcm-hermes"},
    {},
    {"device": "ideal", "dac": {"bits": 17}},
]


def refusal(tables: dict[str, Any]) -> BadInput:
    """The error that these tables raise here."""
    with pytest.raises(BadInput) as found:
        Hardware.load(tables)
    return found.value


def same(new: BadInput, old: BadInput) -> bool:
    """Whether two errors say the same, part by part."""
    return (
        type(new) is type(old)
        and str(new) == str(old)
        and (new.what, new.why, new.do) == (old.what, old.why, old.do)
    )


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_hardware_and_errors_survive_pickling(protocol: int) -> None:
    for name in NAMES:
        chip = inputs.hardware(name)
        again = pickle.loads(pickle.dumps(chip, protocol))
        assert again == chip
        assert again.id == chip.id
    for tables in BAD:
        old = refusal(tables)
        assert same(pickle.loads(pickle.dumps(old, protocol)), old)


@pytest.mark.under_load
def test_hardware_and_errors_come_back_from_a_spawned_process(expected: dict[str, Any]) -> None:
    chips = [inputs.hardware(name) for name in NAMES]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.map(operator.attrgetter("id"), chips)
        assert dict(zip(NAMES, there, strict=True)) == expected["ids"]["hardware"]
        assert pool.map(Hardware.load, chips) == chips
        loaded = pool.map(Hardware.load, [inputs.HARDWARE / f"{name}.toml" for name in NAMES])
        assert loaded == chips
        for tables in BAD:
            with pytest.raises(BadInput) as found:
                pool.apply(Hardware.load, (tables,))
            assert same(found.value, refusal(tables))
        pool.close()
        pool.join()


IN_RAY = """
import json, sys
from pathlib import Path
from ray import cloudpickle
from aimc_sim import BadInput, Hardware
ids = {}
for path in map(Path, sys.argv[1:]):
    chip = cloudpickle.loads(cloudpickle.dumps(Hardware.load(path)))
    assert chip == Hardware.load(path)
    ids[path.stem] = chip.id
try:
    Hardware.load({"device": "pcm-hermes"})
except BadInput as error:
    said = str(cloudpickle.loads(cloudpickle.dumps(error)))
print(json.dumps([ids, said]))
"""


@pytest.mark.parametrize("library", [name for name in ("ray",) if importlib.util.find_spec(name)])
def test_hardware_and_errors_survive_what_ray_pickles_with(library: str, expected: dict[str, Any]) -> None:
    """In a process of its own: Ray leaves threads behind it. No cluster is started."""
    paths = [str(inputs.HARDWARE / f"{name}.toml") for name in NAMES]
    done = subprocess.run(
        [sys.executable, "-c", IN_RAY, *paths], capture_output=True, text=True, timeout=300, env=os.environ
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ids, said = json.loads(done.stdout.splitlines()[-1])
    assert ids == expected["ids"]["hardware"]
    assert said == str(refusal(BAD[0]))
