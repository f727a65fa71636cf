"""The training product on a CPU: blocks of columns through noise, product and ADC, with no noisy matrix ever whole.

Forward: the inputs' codes of one row tile, then block of columns by block of columns the weights with their noise (as
much as fits a thread's cache), their product and the ADC. Backward: the two products of an ordinary layer, with the
quantised inputs made again tile by tile; where gradients go through noisy weights, those are drawn again by their key.
Formulas: `kernels.training`, and in whole `training_reference`.
"""

from __future__ import annotations

from threading import local

import numpy as np
import numpy.typing as npt
import torch

from aimc_sim.kernels import training as kernel
from aimc_sim.kernels.parallel import run_blocks
from aimc_sim.torch_bridge.training_plan import Plan
from aimc_sim.torch_bridge.training_weights import Weights, as_float, scratch_of

F32 = npt.NDArray[np.float32]
Tensor = torch.Tensor
COLUMNS = 256  # weights of at most so many outputs are noisy at once in each thread; 64, 128 or 256
PART_ROWS = 1024  # inputs whose codes exist at once in the forward, at most, where the matrix is one tile
FEWEST_ROWS = 512  # inputs whose codes exist at once in the backward, at least …
CODES = 1 << 19  # … and as many as make so many codes: 2 MB
TOKENS, FILL = 32, 16  # tokens, and columns, that a thread takes at a time


def forward(
    x: Tensor, weight: Tensor, input_range: Tensor | None, full_scale: Tensor | None, key: Tensor, plan: Plan
) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, K), weight (N, K) → y (B, N) like x, saturation bits (tiles, B, bytes) uint8, how many (tiles,) int64."""
    tokens, count = x.shape[0], plan.tiles
    y = torch.empty((tokens, plan.cols), dtype=torch.float32)
    bits = torch.zeros((count, tokens, plan.mask_bytes), dtype=torch.uint8)
    saturated = torch.zeros(count, dtype=torch.int64)
    if tokens == 0:
        return y.to(x.dtype), bits, saturated
    source = Weights(weight, key, plan, full_scale)
    xs = x.detach().contiguous()
    inputs, beta = as_float(xs), ranges(xs, input_range, plan)
    scratch, kept = local(), local()
    y_array, bits_array, ends = y.numpy(), bits.numpy(), plan.bounds
    in_y = count == 1 and x.dtype == torch.float32 and plan.noise != "device"  # sums grow in y itself
    wide = _width(plan.cols)
    found = np.zeros((count, -(-plan.cols // wide)), np.int64)
    source.prepare()
    for a, b in _groups(plan, in_y):
        part = _codes(inputs, a, b, beta, plan, kept, values=False).to(x.dtype)

        def block(first: int, last: int) -> None:
            with torch.inference_mode():  # threads have a mode of their own; nothing here is differentiated
                held = source.rows(first, last, a, b, scratch).to(x.dtype)  # noqa: B023
                for t in range(count):
                    low, high = max(ends[t], a), min(ends[t + 1], b)  # noqa: B023
                    if low >= high:
                        continue
                    columns = slice(low - a, high - a)  # noqa: B023
                    if in_y:
                        into = torch.from_numpy(y_array)[:, first:last]
                        torch.addmm(into, part[:, columns], held[:, columns].t(), beta=float(a > 0), out=into)  # noqa: B023
                        continue
                    sums = scratch_of(scratch, "sums", (tokens, last - first))
                    if x.dtype == torch.float32:
                        torch.mm(part[:, columns], held[:, columns].t(), out=sums)  # noqa: B023
                    else:
                        sums.copy_(torch.mm(part[:, columns], held[:, columns].t()))  # noqa: B023
                    inverse, scale = source.converters(t, first, last)
                    found[t, first // wide] = kernel.adc(
                        sums.numpy(), inverse, scale, beta[t], plan.adc_levels, 0, tokens, first, t > 0, y_array,
                        bits_array[t])  # fmt: skip

        run_blocks(block, plan.cols, wide)
    if in_y:
        inverse, scale = source.converters(0, 0, plan.cols)
        late = np.zeros(-(-tokens // TOKENS), np.int64)

        def convert(first: int, last: int) -> None:
            late[first // TOKENS] = kernel.adc(
                y_array, inverse, scale, beta[0], plan.adc_levels, first, last, 0, False, y_array, bits_array[0],
            )  # fmt: skip

        run_blocks(convert, tokens, TOKENS)
        saturated[0] = int(late.sum())
    else:
        saturated.copy_(torch.from_numpy(found.sum(axis=1)))
    return y.to(x.dtype), bits, saturated


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, input_range: Tensor | None, key: Tensor, bits: Tensor, saturated: Tensor,
    plan: Plan, need_x: bool, need_w: bool, need_range: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients to x (B, K), weight (N, K) and input_range (tiles,), like them; empty where not needed."""
    g, xs = grad.detach().contiguous(), x.detach().contiguous()
    to_x, to_w = torch.empty(0, dtype=x.dtype), torch.empty(0, dtype=weight.dtype)
    to_range = torch.empty(0)
    source = Weights(weight, key, plan)
    beta = ranges(xs, input_range, plan)
    inputs = as_float(xs)
    hit = [bool(n) and bits.numel() > 0 for n in saturated.tolist()]
    if need_w:
        to_w = torch.empty(weight.shape, dtype=weight.dtype)
        kept = local()
        for a, b in _parts(plan, max(x.shape[0], 1), any(hit)):
            t = int(np.searchsorted(plan.ends, a, side="right")) - 1
            values = _codes(inputs, a, b, beta, plan, kept, values=True).to(x.dtype)
            for first, last in _blocks(plan.cols, COLUMNS) if hit[t] else [(0, plan.cols)]:
                _product(_masked(g, bits[t], first, last) if hit[t] else g, values, to_w[first:last, a:b])
    if need_x or need_range:
        to_x = _through_weights(g, weight, source, bits, hit, plan)
        if plan.range_kind == "static":
            assert input_range is not None
            to_x, to_range = _to_inputs(to_x, xs, inputs, input_range, plan)
    return to_x, to_w, to_range


def _through_weights(
    g: Tensor, weight: Tensor, source: Weights, bits: Tensor, hit: list[bool], plan: Plan
) -> Tensor:
    """(B, K): g·W, with the weights of the plan's backward, and without what saturated."""
    noisy = plan.noisy_backward and plan.noise != "none"
    plain = weight.detach()
    made = noisy or plan.weight_levels > 0
    if not made and not any(hit):
        return torch.mm(g, plain.to(g.dtype))
    out = torch.zeros((g.shape[0], plan.rows), dtype=g.dtype)
    whole, scratch = plan.bounds[-1], local()
    if noisy:
        source.prepare()
    for first, last in _blocks(plan.cols, COLUMNS // 2 if made else COLUMNS):
        held = plain[first:last]
        if made:
            held = scratch_of(scratch, "rows", (last - first, whole))
            array = held.numpy()

            def fill(start: int, stop: int) -> None:
                source.fill(first + start, first + stop, 0, whole, array[start:stop], noisy)  # noqa: B023

            run_blocks(fill, last - first, FILL)
        held = held.to(g.dtype)
        if not any(hit):
            out.addmm_(g[:, first:last], held)
            continue
        for t, (a, b) in enumerate(zip(plan.bounds[:-1], plan.bounds[1:], strict=True)):
            part = _masked(g, bits[t], first, last) if hit[t] else g[:, first:last]
            out[:, a:b].addmm_(part, held[:, a:b])
    return out


def _to_inputs(
    to_x: Tensor, x: Tensor, inputs: F32, input_range: Tensor, plan: Plan
) -> tuple[Tensor, Tensor]:
    """Gradients behind the clamp: to x, zero where it was clipped, and to the ranges (tiles,) float32."""
    tokens, beta = x.shape[0], as_float(input_range.detach())
    g = as_float(to_x)
    pull = np.empty((plan.tiles, tokens), np.float64)
    clipped = np.empty((plan.tiles, tokens), np.int32)
    run_blocks(
        lambda first, last: kernel.input_gradient(inputs, plan.ends, beta, first, last, g, pull, clipped),
        tokens,
        TOKENS,
    )
    share = 1.0 - clipped.sum(axis=1) / np.maximum(np.diff(plan.ends) * tokens, 1)
    wide = beta.astype(np.float64)
    slope = wide * pull.sum(axis=1) + np.where(share > plan.unclipped, plan.decay * wide, 0.0)
    return torch.from_numpy(g).to(x.dtype), torch.from_numpy(slope.astype(np.float32))


def ranges(x: Tensor, input_range: Tensor | None, plan: Plan) -> F32:
    """β (tiles, B): static, the largest |x| of a token, or 1 without a DAC."""
    out = np.ones((plan.tiles, x.shape[0]), np.float32)
    if plan.range_kind == "static":
        assert input_range is not None
        out[:] = as_float(input_range.detach())[:, None]
    elif plan.range_kind != "none":
        inputs, per_tile = as_float(x.detach()), plan.range_kind == "token_tile"
        run_blocks(
            lambda i, j: kernel.token_ranges(inputs, plan.ends, per_tile, i, j, out), x.shape[0], TOKENS
        )
    return out


def _codes(inputs: F32, a: int, b: int, beta: F32, plan: Plan, kept: local, *, values: bool) -> Tensor:
    """Codes of the inputs a … b-1, or the values they stand for, (B, b-a) float32; the inputs where there is no DAC."""
    if not plan.dac_levels:
        return torch.from_numpy(inputs)[:, a:b]
    out = scratch_of(kept, "codes", (inputs.shape[0], b - a))
    array = out.numpy()

    def some(first: int, last: int) -> None:
        for t in range(plan.tiles):
            low, high = max(plan.bounds[t], a), min(plan.bounds[t + 1], b)
            if low < high:
                kernel.dac(inputs, low, high, beta[t], plan.dac_levels, values, first, last, array, low - a)

    run_blocks(some, inputs.shape[0], TOKENS)
    return out


def _product(g: Tensor, values: Tensor, out: Tensor) -> None:
    """out (n, rows) = gᵀ·values, in the dtype of ``values``."""
    if out.dtype == values.dtype:
        torch.mm(g.t(), values, out=out)
    else:
        out.copy_(torch.mm(g.t(), values))


def _masked(g: Tensor, bits: Tensor, first: int, last: int) -> Tensor:
    """(B, last-first): columns of g, zero where their conversion saturated."""
    out = torch.empty((g.shape[0], last - first))
    kernel.mask_saturated(as_float(g), bits.numpy(), first, last, out.numpy())
    return out.to(g.dtype)


def _width(cols: int) -> int:
    """Columns of a block: few for a narrow layer, so that every thread has some; not a matter of the threads, though,
    because a product's rounding depends on it."""
    return max(64, min(COLUMNS, cols // 4 // 64 * 64))


def _blocks(total: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def _parts(plan: Plan, tokens: int, within_tiles: bool) -> list[tuple[int, int]]:
    """Rows whose inputs are quantised at once in the backward; in pieces of tiles, where one of them saturated."""
    if not within_tiles:
        return _blocks(plan.rows, max(FEWEST_ROWS, CODES // tokens))
    ends = zip(plan.bounds[:-1], plan.bounds[1:], strict=True)
    return [(a + i, a + j) for a, b in ends for i, j in _blocks(b - a, FEWEST_ROWS)]


def _groups(plan: Plan, in_y: bool) -> list[tuple[int, int]]:
    """Rows whose codes exist at once in the forward: pieces of the only tile, whole tiles, or everything."""
    if in_y:
        return _blocks(plan.rows, PART_ROWS)
    if plan.noise == "device":
        return [(0, plan.rows)]
    return list(zip(plan.bounds[:-1], plan.bounds[1:], strict=True))
