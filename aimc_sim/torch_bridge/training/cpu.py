"""The training product on a CPU: blocks of columns through noise, product and ADC, with no noisy matrix ever whole.

Forward: the inputs' codes of some row tiles, then block of columns by block of columns the weights with their noise (as
much as fits a thread's cache), their product and the ADC. Backward: the two products of an ordinary layer; quantised
inputs lie where their gradient will, and where gradients go through noisy weights, those are drawn again by their key.
Threads meet as rarely as they can: on a machine that others use too, every meeting costs.
Formulas: `kernels.training`, and in whole `reference`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local

import numpy as np
import torch

from aimc_sim.aliases import F32
from aimc_sim.kernels import training as kernel
from aimc_sim.kernels.parallel import run_blocks
from aimc_sim.torch_bridge.training import reference as formula
from aimc_sim.torch_bridge.training.plan import Plan
from aimc_sim.torch_bridge.training.weights import Weights, as_float, scratch_of

Tensor = torch.Tensor
COLUMNS = 128  # weights of at most so many outputs are noisy at once in each thread; 64, 128 or 256
PIECE = 512  # … and so many rows: a quarter of a megabyte
SLICE = 256  # in the backward of so many rows, a multiple of the 64 that normals are drawn by
FEWEST_ROWS = 512  # inputs whose codes exist at once, at least …
CODES = 1 << 18  # … and as many as make so many codes: 1 MB
TOKENS, FILL = 32, 16  # tokens, and columns, that a thread takes at a time, at least …
# … and as many tokens as have so many values: a call from Python costs as much as a thousand
VALUES = 1 << 15


def forward(
    x: Tensor, weight: Tensor, input_range: Tensor | None, full_scale: Tensor | None, key: Tensor, plan: Plan
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute x (B, K), weight (N, K) → y (B, N) like x, saturation bits (tiles, B, bytes) uint8,
    how many (tiles,) int64.
    """
    tokens, count = x.shape[0], plan.tiles
    y = torch.empty((tokens, plan.cols), dtype=torch.float32)
    bits = torch.zeros((count, tokens, plan.mask_bytes), dtype=torch.uint8)
    saturated = torch.zeros(count, dtype=torch.int64)
    if tokens == 0:
        return y.to(x.dtype), bits, saturated
    source = Weights(weight, key, plan, full_scale)
    xs = x.detach().contiguous()
    inputs, beta = as_float(xs), ranges(xs, input_range, plan)
    scratch, codes_scratch = local(), local()
    y_array, bits_array, ends = y.numpy(), bits.numpy(), plan.bounds
    groups = _groups(plan, tokens, x.dtype)
    in_y = groups[0][1] < ends[1]  # a tile in pieces: its sums grow in y itself
    wide = _width(plan.cols)
    saturated_counts = np.zeros((count, -(-plan.cols // wide)), np.int64)
    piece = PIECE if x.dtype == torch.float32 else plan.rows  # sums of half precision are not put together
    source.begin()
    for a, b in groups:
        part = _codes(inputs, a, b, beta, plan, codes_scratch).to(x.dtype)

        def block(first: int, last: int) -> None:
            with torch.inference_mode():  # threads have a mode of their own; nothing here is differentiated
                if a == 0:  # noqa: B023
                    source.measure(first, last)
                cells = source.rows(first, last, a, b, scratch) if plan.noise == "device" else None  # noqa: B023
                sums = torch.from_numpy(y_array)[:, first:last]
                for t, low, high in plan.tiles_within(a, b):  # noqa: B023
                    if not in_y:
                        sums = scratch_of(scratch, "sums", (tokens, last - first))
                    for i, j in _blocks(high - low, piece):
                        p, q = low + i, low + j
                        own = slice(p - a, q - a)  # noqa: B023
                        weights = source.rows(first, last, p, q, scratch) if cells is None else cells[:, own]
                        _add_product(sums, part[:, own], weights, p > ends[t])  # noqa: B023
                    if in_y:
                        continue
                    inverse, scale = source.converters(t, first, last)
                    saturated_counts[t, first // wide] = kernel.adc(
                        sums.numpy(), inverse, scale, beta[t], plan.adc_max_code, 0, tokens, first, t > 0, y_array,
                        bits_array[t])  # fmt: skip

        run_blocks(block, plan.cols, wide)
    if in_y:
        inverse, scale = source.converters(0, 0, plan.cols)
        size = _tokens(plan.cols)
        late = np.zeros(-(-tokens // size), np.int64)

        def convert(first: int, last: int) -> None:
            late[first // size] = kernel.adc(
                y_array, inverse, scale, beta[0], plan.adc_max_code, first, last, 0, False, y_array, bits_array[0],
            )  # fmt: skip

        run_blocks(convert, tokens, size)
        saturated[0] = int(late.sum())
    else:
        saturated.copy_(torch.from_numpy(saturated_counts.sum(axis=1)))
    return y.to(x.dtype), bits, saturated


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, input_range: Tensor | None, key: Tensor, bits: Tensor, saturated: Tensor,
    plan: Plan, need_x: bool, need_w: bool, need_range: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Compute gradients to x (B, K), weight (N, K) and input_range (tiles,), like them; empty where not needed."""
    g, xs = grad.detach().contiguous(), x.detach().contiguous()
    to_w, to_range = torch.empty(0, dtype=weight.dtype), torch.empty(0)
    through = need_x or (need_range and plan.range_kind == "static")
    to_x = torch.empty(xs.shape if through else 0, dtype=x.dtype)
    source = Weights(weight, key, plan)
    beta = ranges(xs, input_range, plan)
    inputs = as_float(xs)
    lost = [int(n) if bits.numel() else 0 for n in saturated.tolist()]
    if need_w:
        to_w = torch.empty(weight.shape, dtype=weight.dtype)
        for a, b, values in _values(inputs, beta, to_x if through else None, x.dtype, plan, any(lost)):
            t = int(np.searchsorted(plan.ends, a, side="right")) - 1
            with _zero_saturated(g, bits[t], lost[t]):
                _product(g, values, to_w[:, a:b])
    if through:
        _through_weights(g, weight, source, bits, lost, plan, to_x)
        if plan.range_kind == "static":
            assert input_range is not None
            to_x, to_range = _to_inputs(to_x, xs, inputs, input_range, plan)
    # Outputs of one operator must not be one tensor, so each that is not needed is an empty one of its own.
    none_x, none_range = torch.empty(0, dtype=x.dtype), torch.empty(0)
    return to_x if need_x else none_x, to_w, to_range if need_range else none_range


def _values(
    inputs: F32, beta: F32, room: Tensor | None, dtype: torch.dtype, plan: Plan, by_tile: bool
) -> Iterator[tuple[int, int, Tensor]]:
    """Rows a … b-1 and the values that their inputs were quantised to, (B, b-a): all of them in ``room`` (B, K) where
    there is some, else part by part. by_tile: no part crosses a tile's end."""
    scratch, whole = local(), plan.rows
    ends = [(a, b) for _, a, b in plan.row_tiles] if by_tile else [(0, whole)]
    size = _rows_at_once(inputs.shape[0])
    if room is None or not plan.dac_max_code:
        for a, b in ((low + i, low + j) for low, high in ends for i, j in _blocks(high - low, size)):
            yield a, b, _codes(inputs, a, b, beta, plan, scratch, values=True).to(dtype)
        return
    if dtype == torch.float32:
        _codes(inputs, 0, whole, beta, plan, scratch, values=True, into=room)
    else:
        for a, b in _blocks(whole, size):
            room[:, a:b] = _codes(inputs, a, b, beta, plan, scratch, values=True)
    yield from ((a, b, room[:, a:b]) for a, b in ends)


def _through_weights(
    g: Tensor, weight: Tensor, source: Weights, bits: Tensor, lost: list[int], plan: Plan, out: Tensor
) -> None:
    """out (B, K) = g·W, with the weights of the plan's backward, and without what saturated."""
    noisy = plan.noisy_backward and plan.noise != "none"
    made = noisy or plan.weight_max_code > 0
    plain = weight.detach()
    if not made and not any(lost):
        torch.mm(g, plain.to(g.dtype), out=out)
        return
    if not made:
        _through_clean(g, plain, bits, lost, plan, out)
        return
    source.prepare()
    if noisy and plan.noise == "device":
        _through_cells(g, source, bits, lost, plan, out)
        return
    scratch = local()
    slices = [(t, a + i, a + j) for t, a, b in plan.row_tiles for i, j in _blocks(b - a, SLICE)]

    def some(begin: int, end: int) -> None:
        """Every slice of rows by itself: threads never wait for each other."""
        with torch.inference_mode():
            for t, a, b in slices[begin:end]:
                into = out[:, a:b]
                if out.dtype != torch.float32:  # sums of half precision would round at every block
                    into = scratch_of(scratch, "sums", (g.shape[0], b - a))
                for first, last in _blocks(plan.cols, COLUMNS):
                    weights = scratch_of(scratch, "rows", (last - first, b - a))
                    source.fill(first, last, a, b, weights.numpy(), noisy)
                    part = _mask_saturated(g, bits[t], first, last) if lost[t] else g[:, first:last]
                    if out.dtype == torch.float32:
                        torch.addmm(into, part, weights, beta=float(first > 0), out=into)
                    else:
                        product = torch.mm(part, weights.to(g.dtype))
                        into.copy_(product) if first == 0 else into.add_(product)
                if out.dtype != torch.float32:
                    out[:, a:b] = into

    run_blocks(some, len(slices), 1)


def _through_clean(g: Tensor, weight: Tensor, bits: Tensor, lost: list[int], plan: Plan, out: Tensor) -> None:
    """The same through the weights as they are, a tile at a time."""
    for t, a, b in plan.row_tiles:
        with _zero_saturated(g, bits[t], lost[t]):
            torch.mm(g, weight[:, a:b].to(g.dtype), out=out[:, a:b])


def _through_cells(
    g: Tensor, source: Weights, bits: Tensor, lost: list[int], plan: Plan, out: Tensor
) -> None:
    """The same through cells of a device, which are made a whole column at a time."""
    scratch, whole = local(), plan.rows
    sums = torch.zeros(out.shape) if out.dtype != torch.float32 else out.zero_()
    for first, last in _blocks(plan.cols, COLUMNS // 2):
        weights = scratch_of(scratch, "rows", (last - first, whole))
        array = weights.numpy()

        def fill(start: int, stop: int) -> None:
            source.fill(first + start, first + stop, 0, whole, array[start:stop])  # noqa: B023

        run_blocks(fill, last - first, FILL)
        weights = weights.to(g.dtype)
        for t, a, b in plan.row_tiles:
            part = _mask_saturated(g, bits[t], first, last) if lost[t] else g[:, first:last]
            if sums is out:
                out[:, a:b].addmm_(part, weights[:, a:b])
            else:
                sums[:, a:b] += torch.mm(part, weights[:, a:b])
    if sums is not out:
        out.copy_(sums)


def _to_inputs(
    to_x: Tensor, x: Tensor, inputs: F32, input_range: Tensor, plan: Plan
) -> tuple[Tensor, Tensor]:
    """Compute gradients behind the clamp: to x, zero where it was clipped, and to the ranges (tiles,) float32."""
    tokens, beta = x.shape[0], as_float(input_range.detach())
    g = as_float(to_x)
    pull = np.empty((plan.tiles, tokens), np.float64)
    clipped = np.empty((plan.tiles, tokens), np.int32)
    run_blocks(
        lambda first, last: kernel.input_gradient(inputs, plan.ends, beta, first, last, g, pull, clipped),
        tokens,
        _tokens(plan.rows),
    )
    pulls, counts = (torch.from_numpy(each.sum(axis=1).astype(np.float64)) for each in (pull, clipped))
    slopes = formula.range_slopes(torch.from_numpy(beta), pulls, counts, tokens, plan)
    return torch.from_numpy(g).to(x.dtype), slopes.float()


def ranges(x: Tensor, input_range: Tensor | None, plan: Plan) -> F32:
    """Return β (tiles, B): static, the largest |x| of a token, or 1 without a DAC."""
    out = np.ones((plan.tiles, x.shape[0]), np.float32)
    if plan.range_kind == "static":
        assert input_range is not None
        out[:] = as_float(input_range.detach())[:, None]
    elif plan.range_kind != "none":
        inputs, per_tile = as_float(x.detach()), plan.range_kind == "token_tile"
        run_blocks(
            lambda i, j: kernel.token_ranges(inputs, plan.ends, per_tile, i, j, out),
            x.shape[0],
            _tokens(plan.rows),
        )
    return out


def _tokens(width: int) -> int:
    return max(TOKENS, VALUES // width)


def _codes(
    inputs: F32, a: int, b: int, beta: F32, plan: Plan, scratch: local, *,
    values: bool = False, into: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Return the codes of the inputs a … b-1, or the values they stand for, (B, b-a) float32;
    the inputs where there is no DAC.
    """
    if not plan.dac_max_code:
        return torch.from_numpy(inputs)[:, a:b]
    out = scratch_of(scratch, "codes", (inputs.shape[0], b - a)) if into is None else into
    array = out.numpy()

    def some(first: int, last: int) -> None:
        for t, low, high in plan.tiles_within(a, b):
            kernel.dac(inputs, low, high, beta[t], plan.dac_max_code, values, first, last, array, low - a)

    run_blocks(some, inputs.shape[0], _tokens(b - a))
    return out


def _add_product(sums: Tensor, inner: Tensor, weights: Tensor, more: bool) -> None:
    """sums (B, n) float32 = (more: sums +) inner·heldᵀ, in the dtype of ``inner``; half precision comes all at once."""
    if inner.dtype == torch.float32:
        torch.addmm(sums, inner, weights.t(), beta=float(more), out=sums)
    else:
        sums.copy_(torch.mm(inner, weights.to(inner.dtype).t()))


def _product(g: Tensor, values: Tensor, out: Tensor) -> None:
    """out (n, rows) = gᵀ·values, in the dtype of ``values``."""
    if out.dtype == values.dtype:
        torch.mm(g.t(), values, out=out)
    else:
        out.copy_(torch.mm(g.t(), values))


@contextmanager
def _zero_saturated(g: Tensor, bits: Tensor, lost: int) -> Iterator[None]:
    """Within, g (B, N) is zero where one of ``lost`` conversions saturated; then it is again what it was.

    In place of a copy, which would be as large as the layer's output.
    """
    if not lost:
        yield
        return
    raw = g.view(torch.int16 if g.element_size() == 2 else torch.int32).numpy()  # to the last bit, NaN too
    gradients = np.zeros(lost, raw.dtype)
    kernel.swap_saturated(raw, bits.numpy(), gradients)
    try:
        yield
    finally:
        kernel.swap_saturated(raw, bits.numpy(), gradients)


def _mask_saturated(g: Tensor, bits: Tensor, first: int, last: int) -> Tensor:
    """Return (B, last-first): columns of g, zero where their conversion saturated."""
    # these columns alone become float32
    out = torch.empty((g.shape[0], last - first)).copy_(g[:, first:last])
    kernel.mask_saturated(out.numpy(), bits.numpy(), first, last)
    return out.to(g.dtype)


def _width(cols: int) -> int:
    """Columns of a block: few for a narrow layer, so that every thread has some; not a matter of the threads, though,
    because a product's rounding depends on it."""
    return max(64, min(COLUMNS, cols // 4 // 64 * 64))


def _blocks(total: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def _rows_at_once(tokens: int) -> int:
    """Return the rows whose codes exist at once, in whole units of the 64 that normals are drawn by."""
    return max(FEWEST_ROWS, CODES // max(tokens, 1) // 64 * 64)


def _groups(plan: Plan, tokens: int, dtype: torch.dtype) -> list[tuple[int, int]]:
    """Return the rows whose codes exist at once in the forward:
    whole tiles, or pieces of an only one that is too large.
    """
    size, whole = _rows_at_once(tokens), plan.rows
    if plan.noise == "device":  # whose cells are made a whole column at a time
        return [(0, whole)]
    if plan.tiles == 1 and dtype == torch.float32:
        return _blocks(whole, size)
    starts = [0]
    for _, low, high in plan.row_tiles:
        if high - starts[-1] > size and low > starts[-1]:
            starts.append(low)
    return list(zip(starts, [*starts[1:], whole], strict=True))
