"""How many worker processes a machine has room for."""

from __future__ import annotations

from aimc_sim.kernels.parallel import processors

IMPORTS_BYTES = 600 << 20  # torch and transformers in a process


def that_fit(bytes_each: int, threads: int = 1) -> int:
    """Processes of ``threads`` threads that processors and free memory are there for, each with its imports and
    ``bytes_each``; may be 0."""
    return min(processors() // threads, free_bytes() // (IMPORTS_BYTES + bytes_each))


def free_bytes() -> int:
    """Memory that can be had without swapping; 4 GiB where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return 4 << 30
