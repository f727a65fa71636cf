"""log, exp and sincos: compiled against NumPy bit for bit, and NumPy against float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.kernels import elementary as e
from aimc_sim.kernels._jit import njit
from aimc_sim.testing import assert_bits


@njit
def _apply_log(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = e.log(x[i])


@njit
def _apply_exp(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = e.exp(x[i])


@njit
def _apply_uniform(w: Any, log: Any, sin: Any, cos: Any) -> None:
    for i in range(w.size):
        log[i] = e.log_uniform(w[i])
        sin[i], cos[i] = e.sincos_turn(w[i])


def test_log() -> None:
    x = np.concatenate([np.geomspace(1e-37, 1e37, 200_000), np.linspace(0.5, 2, 200_001)]).astype(np.float32)
    out = np.empty_like(x)
    _apply_log(x, out)
    assert_bits(out, e.log_reference(x))
    truth = np.log(x.astype(np.float64))
    assert np.abs(out - truth).max() <= 1.2e-7 * np.abs(truth).max()
    assert (np.abs(out - truth) <= 2e-7 * np.maximum(np.abs(truth), 1e-3)).all()


def test_exp() -> None:
    x = np.linspace(-86, 88, 500_001).astype(np.float32)
    out = np.empty_like(x)
    _apply_exp(x, out)
    assert_bits(out, e.exp_reference(x))
    assert np.abs(out / np.exp(x.astype(np.float64)) - 1).max() <= 2e-7
    assert e.exp_reference(np.zeros(1, np.float32))[0] == 1


def test_log_of_uniform_and_sincos_compile_to_the_same_bits() -> None:
    edges = [0, 1, 2**29, 2**30, 2**31 - 1, 2**31, 3 * 2**29, 2**32 - 1, 1257966796, 1257966797]
    w = np.concatenate([np.arange(0, 2**32, 40_009), edges]).astype(np.uint32)
    log, sin, cos = (np.empty(w.size, np.float32) for _ in range(3))
    _apply_uniform(w, log, sin, cos)
    assert_bits(log, e.log_uniform_reference(w))
    reference = e.sincos_turn_reference(w)
    assert_bits(sin, reference[0])
    assert_bits(cos, reference[1])
    angle = 2 * np.pi * ((w.astype(np.float64) + 0.5) / 2**32)
    assert np.abs(sin - np.sin(angle)).max() <= 1.5e-7
    assert np.abs(cos - np.cos(angle)).max() <= 1.5e-7
