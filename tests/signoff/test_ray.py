"""The Ray engine on a real cluster of processes, in a process of its own: Ray leaves threads and files behind it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

STUDY = """
import json, os, signal, sys, time
from types import SimpleNamespace
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import SelfText
from aimc_sim.signoff import engine_ray
from aimc_sim.signoff.plan import make_plan
from aimc_sim.signoff.report import document_of
from aimc_sim.signoff.run import run_plan
from aimc_sim.weightfile import WeightFile

weights = WeightFile(sys.argv[1])
plan = make_plan(weights=weights.id, hardware=weights.hardware, chips=3, times_s=(60.0, 86400.0), margin_nats=5.0,
                 text=SelfText(sequences=3, length=12))
submit, given, killed = engine_ray.RayPool.submit, [], []

def submit_and_kill(self, worker, cell):
    pid = self._ray.get(self._actors[worker].pid.remote()) if len(given) in (2, 5) else None
    submit(self, worker, cell)
    given.append(cell.name)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

engine_ray.RayPool.submit = submit_and_kill

def text_of(**options):
    document = document_of(run_plan(plan, weights, **options).only, weight_file=weights)
    del document["timings"]
    return json.dumps(document)

shared = text_of(engine="ray", workers=2)
try:
    engine_ray.RayPool(SimpleNamespace(plan=SimpleNamespace(threads=100_000)))
    refused = False
except BadInput as error:
    refused = "no machine of the cluster has so many processors" in str(error)
print(json.dumps({"same": shared == text_of(), "given": len(given), "killed": len(killed), "refused": refused}))
"""


def test_a_cluster_gives_the_same_bytes_also_when_workers_are_killed_twice(tiny_weights: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUDY, str(tiny_weights)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "same": True,
        "given": 8 + 2,
        "killed": 2,
        "refused": True,
    }
