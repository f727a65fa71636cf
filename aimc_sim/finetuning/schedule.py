"""The learning rate as a function of the step alone: nothing to save, nothing to restore."""

from __future__ import annotations

from aimc_sim.finetuning.recipe import AdamW


def learning_rate_factor(step: int, steps: int, optimizer: AdamW) -> float:
    """Return the multiplier of the learning rate in step 0 … steps − 1: linear warm-up, then polynomial decay to
    ``final``.

    The first step already learns; the last one is one step before the end of the decay.
    """
    warm = max(1, round(optimizer.warmup * steps)) if optimizer.warmup > 0 else 0
    if step < warm:
        return (step + 1) / warm
    left = (steps - step) / max(1, steps - warm)
    return float(optimizer.final + (1 - optimizer.final) * min(1.0, left) ** optimizer.power)
