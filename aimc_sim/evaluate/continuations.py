"""How likely continuations are after their contexts: what multiple-choice questions are scored by.

A context is computed once, however many continuations follow it: a row of a forward is the context and then every
continuation side by side, each seeing the context and itself (a tree of positions, by an attention mask). The head
computes only the rows that predict a token of a continuation. Rows of one forward are about equally long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aimc_sim.aliases import I64
from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge.rows import head_rows, sequence_names

Request = tuple[Sequence[int], Sequence[int]]
TOKENS = 1024  # of one forward, unless told
_BLOCK_VALUES = 1 << 20  # positions × vocabulary that are reduced at once: 4 MiB of float32


@dataclass(frozen=True)
class Likelihoods:
    """Likelihoods hold of each request the summed log-probability of its continuation, nats, (requests,) float64, and
    whether every token of it is the most likely one, (requests,) int64.
    """

    log: npt.NDArray[np.float64]
    greedy: I64


@dataclass(frozen=True)
class Tree:
    """A tree is one row: a context and the continuations after it. places: which requests these are."""

    context: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]
    places: tuple[int, ...]

    @property
    def width(self) -> int:
        """Tokens that the model reads: no continuation's last one."""
        return len(self.context) + sum(len(each) - 1 for each in self.continuations)


def trees_of(requests: Sequence[Request], tokens: int = TOKENS, longest: int | None = None) -> list[Tree]:
    """Make rows for requests (context, continuation), token ids: one for each context, more where it would get wider
    than `tokens`. longest: positions of the model; a longer context loses its first tokens.

    Raises BadInput for a request that is empty on one side, or a continuation that does not fit.
    """
    by_context: dict[tuple[int, ...], list[int]] = {}
    for place, (context, continuation) in enumerate(requests):
        if not len(context) or not len(continuation):
            raise BadInput(
                f"request {place}",
                got=f"{len(context)} and {len(continuation)} tokens",
                why="a continuation is scored after a context, and neither may be empty",
                do="put the model's first token in front where there is no context",
            )
        if longest is not None and len(continuation) > longest:
            raise BadInput(
                f"request {place}",
                got=f"{len(continuation)} tokens",
                why=f"the model's positions end at {longest}",
                do="leave such long answers out",
            )
        kept = context if longest is None else context[-(longest + 1 - len(continuation)) :]
        by_context.setdefault(tuple(kept), []).append(place)
    trees = []
    for context, places in by_context.items():
        taken: list[int] = []
        width = len(context)
        for place in places:
            more = len(requests[place][1]) - 1
            if taken and width + more > tokens:
                trees.append(_tree(context, requests, taken))
                taken, width = [], len(context)
            taken.append(place)
            width += more
        trees.append(_tree(context, requests, taken))
    return trees


def forwards(trees: Sequence[Tree], tokens: int = TOKENS) -> Iterator[list[Tree]]:
    """Group rows into forwards: by width, widest first, rows × widest at most `tokens`, or one row."""
    if tokens < 1:
        raise BadInput("batch", got=tokens, why="a forward has at least one token", do="use 1 or more")
    waiting: list[Tree] = []
    for tree in sorted(trees, key=lambda tree: -tree.width):  # stable: equal widths stay in order
        if waiting and (len(waiting) + 1) * waiting[0].width > tokens:
            yield waiting
            waiting = []
        waiting.append(tree)
    if waiting:
        yield waiting


def likelihoods(
    model: Any,
    requests: Sequence[Request],
    tokens: int = TOKENS,
    *,
    longest: int | None = None,
    on_forward: Callable[[], None] = lambda: None,
) -> Likelihoods:
    """Score requests (context, continuation) on a causal language model of transformers.

    tokens: of one forward; the grouping decides the last bits of float32 sums. Rows are named by what they read, so
    that fresh noise does not depend on which other requests there are.
    """
    log, greedy = np.zeros(len(requests)), np.zeros(len(requests), np.int64)
    for trees in forwards(trees_of(requests, tokens, longest), tokens):
        rows = _Rows(trees)
        logits = rows.logits(model)
        for tree, values, most_likely in zip(trees, *rows.reduced(logits), strict=True):
            log[list(tree.places)], greedy[list(tree.places)] = values, most_likely
        on_forward()
    if not np.all(np.isfinite(log)):
        raise BadInput(
            "logits",
            why=f"the model gives values that are not finite for request {int(np.argmin(np.isfinite(log)))}",
            do="check the weights with `aimc-sim verify`, and the hardware's ranges",
        )
    return Likelihoods(log, greedy)


def name_of(tokens: Sequence[int]) -> int:
    """Name a sequence for fresh noise, 31 bits, by what it reads."""
    digest = hashlib.sha256(np.asarray(tokens, dtype="<i4").tobytes()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def _tree(context: tuple[int, ...], requests: Sequence[Request], places: Sequence[int]) -> Tree:
    return Tree(context, tuple(tuple(requests[place][1]) for place in places), tuple(places))


class _Rows:
    """These are the tensors of one forward: ids, positions and names (rows, width), who sees whom, and which rows
    predict.
    """

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._trees = trees
        shape = (len(trees), max(tree.width for tree in trees))
        self.ids, self.positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self.names = np.zeros(shape, np.int64)
        branch = np.full(shape, -1)  # 0: context, then one a continuation; −1: padding
        rows: list[int] = []
        columns: list[int] = []
        for row, tree in enumerate(trees):
            at = len(tree.context)
            self.ids[row, :at], self.positions[row, :at] = tree.context, np.arange(at)
            branch[row, :at], self.names[row, :at] = 0, name_of(tree.context)
            for number, continuation in enumerate(tree.continuations, 1):
                read = slice(at, at + len(continuation) - 1)
                self.ids[row, read] = continuation[:-1]
                self.positions[row, read] = len(tree.context) + np.arange(len(continuation) - 1)
                branch[row, read], self.names[row, read] = number, name_of((*tree.context, *continuation))
                at = read.stop
            columns += range(len(tree.context) - 1, tree.width)
            rows += [row] * (tree.width - len(tree.context) + 1)
        self.predicting = np.array(rows), np.array(columns)
        order = np.arange(shape[1])
        self.sees = (order[:, None] >= order) & (
            (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
        )

    def logits(self, model: Any) -> torch.Tensor:
        """Return the logits, (predicting rows, vocabulary) float32."""
        with torch.no_grad(), sequence_names(model, self.names), head_rows(model, *self.predicting):
            output = model(
                input_ids=torch.from_numpy(self.ids).to(model.device),
                attention_mask=_mask(model, self.sees, self.positions),
                position_ids=torch.from_numpy(self.positions).to(model.device),
                use_cache=False,
            ).logits
        return torch.as_tensor(output[0].float().cpu())

    def reduced(
        self, logits: torch.Tensor
    ) -> tuple[list[npt.NDArray[np.float64]], list[npt.NDArray[np.bool_]]]:
        """Return of each row the log-probabilities of its continuations and whether they are the most likely ones."""
        block = max(1, _BLOCK_VALUES // logits.shape[-1])
        starts = range(0, len(logits), block)
        total = torch.cat([logits[start : start + block].logsumexp(-1) for start in starts])
        best = logits.argmax(-1).numpy()
        log, greedy, start = [], [], 0
        for tree in self._trees:
            # The last row of the context predicts the first token of every continuation.
            at = start + 1
            values, most_likely = [], []
            for continuation in tree.continuations:
                rows = np.array([start, *range(at, at + len(continuation) - 1)])
                at += len(continuation) - 1
                picked = logits[rows, list(continuation)] - total[rows]
                values.append(float(picked.double().sum()))
                most_likely.append(bool(np.array_equal(best[rows], continuation)))
            log.append(np.array(values))
            greedy.append(np.array(most_likely))
            start = at
        return log, greedy


def _mask(model: Any, sees: npt.NDArray[np.bool_], positions: I64) -> Any:
    """Make the attention mask (rows, 1, width, width) to add to scores; one a kind of layer where windows slide."""

    def added(seen: npt.NDArray[np.bool_]) -> torch.Tensor:
        mask = torch.zeros(seen.shape, dtype=torch.float32)
        mask.masked_fill_(torch.from_numpy(~seen), torch.finfo(torch.float32).min)
        return mask[:, None].to(model.device)

    window = getattr(model.config, "sliding_window", None)
    kinds = set(getattr(model.config, "layer_types", None) or ())
    if window is None or positions.max() < window or kinds == {"full_attention"}:
        return added(sees)
    near = sees & (positions[:, :, None] - positions[:, None, :] < window)
    if len(kinds) > 1:
        return {kind: added(near if kind == "sliding_attention" else sees) for kind in kinds}
    return added(near)
