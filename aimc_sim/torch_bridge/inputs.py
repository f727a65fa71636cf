"""What the matrices of a model are given, and what they give: hooks that are gone when their context ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from aimc_sim.aliases import F32, I32, I64
from aimc_sim.torch_bridge.rows import head_rows

See = Callable[[str, F32], None]


@contextmanager
def matrix_inputs(model: Any, names: Iterable[str], see: See) -> Iterator[None]:
    """Call see(name, x) before every product of a named matrix inside this context. x: its inputs (tokens, K)."""

    def hook(name: str) -> Callable[[Any, Any], None]:
        return lambda module, args: see(name, _rows(args[0]))

    with ExitStack() as stack:
        for name in names:
            handle = model.get_submodule(name).register_forward_pre_hook(hook(name))
            stack.callback(handle.remove)
        yield


@contextmanager
def matrix_products(model: Any, names: Iterable[str], see: Callable[[str, F32, F32], None]) -> Iterator[None]:
    """Call see(name, x, y) after every product of a named matrix inside this context.

    x: its inputs (tokens, K); y: the product (tokens, N) alone, without a bias and without what an adapter adds.
    """

    def hook(name: str) -> Callable[[Any, Any, Any], None]:
        def after(module: Any, args: Any, out: Any) -> None:
            y = out if module.bias is None else out - module.bias
            see(name, _rows(args[0]), _rows(y))

        return after

    with ExitStack() as stack:
        for name in names:
            # Ahead of an adapter's own hook, which adds to what it is given.
            handle = model.get_submodule(name).register_forward_hook(hook(name), prepend=True)
            stack.callback(handle.remove)
        yield


def read_inputs(model: Any, token_ids: I32, names: Iterable[str], see: See) -> None:
    """Run the model once over token_ids (S, L), and call see(name, x) with what each named matrix is given, (S·L, K).

    The head is given every position too, and computes one row of logits: nobody reads them, and all of them would take
    a fifth of a small model's time, and half a gigabyte for a thousand tokens of a large vocabulary.
    """
    ids = torch.from_numpy(token_ids.astype(np.int64)).to(model.device)
    with torch.no_grad(), matrix_inputs(model, names, see), head_rows(model, [0], [0]):
        model(input_ids=ids, use_cache=False)


def spread(count: int, among: int) -> I64:
    """Return the places of at most ``count`` of ``among`` rows, from the first to the last, evenly spread."""
    return np.unique(np.linspace(0, among - 1, min(count, among)).astype(np.int64))


def _rows(x: torch.Tensor) -> F32:
    """Flatten (…, width) of any dtype and device → (tokens, width) float32."""
    rows: F32 = x.detach().reshape(-1, x.shape[-1]).float().cpu().numpy()
    return rows
