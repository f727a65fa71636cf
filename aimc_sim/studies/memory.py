"""How many worker processes a machine has room for."""

from __future__ import annotations

from aimc_sim.kernels.parallel import processors

IMPORTS_BYTES = 600 << 20  # torch and transformers in a process


def default_workers(bytes_each: int, tasks: int, threads: int = 1) -> int:
    """Return how many processes of ``threads`` threads pay off: as processors, free memory and tasks allow, 1 or more.

    bytes_each: what a process holds beside its imports.
    """
    room = free_bytes() // (IMPORTS_BYTES + bytes_each)
    return max(1, min(processors() // threads, room, tasks))


def free_bytes() -> int:
    """Return the memory that can be had without swapping; 4 GiB where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return 4 << 30
