"""The coverage report: which matrix products of a model run in the tiles, and which run digitally by choice.

One forward runs under a dispatch mode that sees every operation. Each matrix product that reads a parameter, or
anything computed from parameters alone (a cast, a gather of experts), must be claimed: by an analog layer or by a
module or parameter that the placement lists as digital. Anything else is an error, so nothing is bypassed in silence.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge.adapter import LowRank
from aimc_sim.torch_bridge.half import HalfLinear
from aimc_sim.torch_bridge.linear import socket_of

ANALOG = "analog"
DIGITAL = "digital by choice"
ATTENTION = "digital: attention"
POSITIONS = "digital: positions"
ACTIVATIONS = "digital: activations"
LOOKUP = "lookup"
KINDS = (ANALOG, DIGITAL, ATTENTION, POSITIONS, ACTIVATIONS, LOOKUP)

# An operation is a matrix product when one of these words is part of its name (split at underscores).
_PRODUCT_WORDS = frozenset(
    "mm addmm bmm baddbmm addbmm mv addmv dot vdot inner linear matmul chain bilinear trilinear tensordot einsum "
    "convolution conv1d conv2d conv3d conv attention rnn gru lstm addr outer ger sspaddmm matrix sparse".split()
)
_LOOKUPS = frozenset({"embedding", "embedding_bag"})


@dataclass(frozen=True)
class CoverageRow:
    """A coverage row is one product: what runs it, how big it is, how often it ran in the example.

    name: module path. kind: one of KINDS. macs: multiply-accumulates per token. calls: in the whole forward.
    """

    name: str
    kind: str
    op: str
    shape: tuple[int, ...]
    macs: float = 0
    calls: int = 0

    def plus(self, macs: float, calls: int = 1) -> CoverageRow:
        """Return the row with more calls of the product."""
        return replace(self, macs=self.macs + macs, calls=self.calls + calls)


@dataclass(frozen=True)
class Coverage:
    """Every product of one forward over `tokens` tokens; analog matrices that the example never reached in `unused`."""

    rows: tuple[CoverageRow, ...]
    tokens: int
    unused: tuple[str, ...] = ()

    def macs(self, kind: str) -> float:
        """Return the multiply-accumulates per token of one kind."""
        return sum(row.macs for row in self.rows if row.kind == kind)

    @property
    def analog_share(self) -> float:
        """Return the share of all multiply-accumulates that run in tiles, attention included,
        at the example's length.
        """
        total = sum(row.macs for row in self.rows)
        return self.macs(ANALOG) / total if total else 0.0

    @property
    def static_share(self) -> float:
        """Return the share of the multiply-accumulates with static weights that run in tiles."""
        total = self.macs(ANALOG) + self.macs(DIGITAL)
        return self.macs(ANALOG) / total if total else 0.0

    def groups(self) -> tuple[CoverageRow, ...]:
        """Return the rows with the layers of a model folded together: ``model.layers.*.mlp.up_proj``."""
        by_kind: dict[tuple[str, str, str, tuple[int, ...]], CoverageRow] = {}
        for row in self.rows:
            name = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", row.name)
            key = (name, row.kind, row.op, row.shape)
            by_kind[key] = by_kind.get(key, CoverageRow(*key)).plus(row.macs, row.calls)
        return tuple(by_kind.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON, with one entry a group of rows."""
        return {
            "tokens": self.tokens,
            "analog_share": self.analog_share,
            "static_share": self.static_share,
            "macs_per_token": {kind: self.macs(kind) for kind in KINDS},
            "rows": [
                {
                    "name": r.name,
                    "kind": r.kind,
                    "op": r.op,
                    "shape": list(r.shape),
                    "macs_per_token": r.macs,
                    "calls": r.calls,
                }
                for r in self.groups()
            ],
            "unused": list(self.unused),
        }

    def summary(self) -> str:
        """Say in one line: what share of the products is analog."""
        return (
            f"{100 * self.analog_share:.1f} % of multiply-accumulates are analog "
            f"({100 * self.static_share:.1f} % of those with static weights)"
        )


def coverage(model: Any, example_ids: torch.Tensor, *, digital: Collection[str] = ()) -> Coverage:
    """Run `model` once on `example_ids` (batch, length) int64 and account for every matrix product.

    digital: names of modules, or of parameters, that run digitally by choice. Raises BadInput, naming parameter and
    operation, for a product with a parameter that is neither analog nor listed.
    """
    ids = torch.as_tensor(example_ids)
    if ids.ndim != 2 or ids.numel() == 0:
        raise BadInput(
            "example_ids",
            got=tuple(ids.shape),
            why="the model is run once on a batch of token ids",
            do="give (batch, length) token ids",
        )
    audit = _Audit(model, frozenset(digital))
    with audit.hooks(model), torch.no_grad(), audit:
        model(input_ids=ids, use_cache=False)
    tokens = ids.numel()
    rows = tuple(replace(row, macs=row.macs / tokens) for row in audit.tally.values())
    seen = {row.name for row in rows if row.kind == ANALOG}
    return Coverage(rows, tokens, tuple(name for name in audit.analog if name not in seen))


@dataclass
class _Memory:
    """Address ranges of the model's parameters and buffers, sorted by start."""

    starts: list[int] = field(default_factory=list)
    entries: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def of(cls, model: Any) -> _Memory:
        named = [*model.named_parameters(remove_duplicate=True), *model.named_buffers(remove_duplicate=True)]
        spans = sorted(
            (tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes, name)
            for name, tensor in named
            if tensor.device.type != "meta" and tensor.nbytes
        )
        return cls([start for start, _, _ in spans], [(stop, name) for _, stop, name in spans])

    def name_of(self, tensor: torch.Tensor) -> str | None:
        if tensor.device.type == "meta" or tensor.numel() == 0:
            return None
        address = tensor.data_ptr()
        index = bisect_right(self.starts, address) - 1
        return self.entries[index][1] if index >= 0 and address < self.entries[index][0] else None


class _Audit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """An audit sees every operation below autograd; it tracks which tensors are made of parameters alone."""

    def __init__(self, model: Any, digital: frozenset[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # Adapters are digital whatever the placement says.
        self.digital = digital | {
            path for path, module in model.named_modules() if isinstance(module, LowRank)
        }
        self.tally: dict[tuple[str, str, str], CoverageRow] = {}  # macs of all tokens
        sockets = [socket_of(module) for module in model.modules()]
        self.analog = [socket.name for socket in sockets if socket is not None]
        self._memory = _Memory.of(model)
        self._made_of: Any = WeakIdKeyDictionary()
        self._modules: list[tuple[str, Any]] = []
        self._inside_ours = 0

    @contextmanager
    def hooks(self, model: Any) -> Iterator[None]:
        """While active, the stack of running modules is known."""
        with ExitStack() as stack:
            for path, module in model.named_modules():
                for handle in (
                    module.register_forward_pre_hook(self._enter(path), with_kwargs=True),
                    module.register_forward_hook(self._leave, always_call=True),
                ):
                    stack.callback(handle.remove)
            yield

    def _enter(self, path: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._modules.append((path, module))
            socket = socket_of(module)
            if socket is None and not isinstance(module, HalfLinear):
                return
            x = args[0] if args else next(iter(kwargs.values()))
            shape, macs = (module.in_features, module.out_features), x.numel() * module.out_features
            if socket is not None:
                self._add(socket.name, ANALOG, "tiles", shape, macs)
            else:
                self._claim_digital("linear", f"{path}.weight", tuple(module.weight.shape), macs)
            self._inside_ours += 1

        return hook

    def _leave(self, module: Any, *_: Any) -> None:
        self._modules.pop()
        if socket_of(module) is not None or isinstance(module, HalfLinear):
            self._inside_ours -= 1

    def _add(self, name: str, kind: str, op: str, shape: tuple[int, ...], macs: int) -> None:
        key = (name, kind, op)
        self.tally[key] = self.tally.get(key, CoverageRow(name, kind, op, shape)).plus(macs)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if self._inside_ours:
            return out  # parts of a product that its module has claimed as a whole
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        sources = [self._source(operand) for operand in operands]
        space, _, op = func._schema.name.partition("::")
        if op in _LOOKUPS:
            if sources and sources[0] is not None:
                self._add(_module_of(sources[0]), LOOKUP, op, tuple(operands[0].shape), 0)
            return out
        if _PRODUCT_WORDS.intersection(op.strip("_").split("_")):
            self._product(op, operands, sources, out)
            return out
        floating = [
            source for operand, source in zip(operands, sources, strict=True) if operand.is_floating_point()
        ]
        mixed = None in floating
        if space not in ("aten", "prims", "prim") and mixed:
            for operand, source in zip(operands, sources, strict=True):
                if source is not None and operand.ndim >= 2:
                    self._claim_digital(f"{space}::{op}", source, tuple(operand.shape), 0)
        if op.startswith("copy") and len(sources) >= 2 and sources[1] is not None:
            self._mark(args[0], sources[1])
        elif floating and not mixed:
            for leaf in tree_leaves(out):
                if isinstance(leaf, torch.Tensor):
                    self._mark(leaf, floating[0])
        return out

    def _source(self, tensor: torch.Tensor) -> str | None:
        """Return the parameter or buffer that a tensor is, views, or is computed from; None for activations."""
        found = self._made_of.get(tensor)
        return str(found) if found is not None else self._memory.name_of(tensor)

    def _mark(self, tensor: torch.Tensor, source: str | None) -> None:
        if source is not None:
            self._made_of[tensor] = source

    def _product(self, op: str, operands: list[torch.Tensor], sources: list[str | None], out: Any) -> None:
        where = self._modules[-1][0] if self._modules else ""
        factors = _factors(op)
        weights = [(t, s) for t, s in zip(operands[factors], sources[factors], strict=True) if s is not None]
        shape, macs = tuple(operands[factors][-1].shape[-2:]), _macs(op, operands, out)
        if weights and _contraction(op, operands) > 1:
            tensor, source = weights[0]
            self._claim_digital(op, source, tuple(tensor.shape), macs)
        elif weights:
            self._add(where, POSITIONS, op, shape, macs)
        else:
            attention = "attention" in op or any(
                "attention" in type(m).__name__.lower() for _, m in self._modules
            )
            self._add(where, ATTENTION if attention else ACTIVATIONS, op, shape, macs)

    def _claim_digital(self, op: str, source: str, shape: tuple[int, ...], macs: int) -> None:
        running = [path for path, _ in self._modules]
        parameter = self._find_local_name(source)
        for name in (parameter, _module_of(parameter), *reversed(running)):
            if name and name in self.digital:
                self._add(name, DIGITAL, op, shape, macs)
                return
        raise BadInput(
            f"parameter {parameter}",
            got=f"shape {shape} in {op}",
            why=f"module {(running[-1] if running else '') or 'at the root'} multiplies by it digitally, and it is "
            "neither analog nor digital by choice, so the simulation would silently leave it out",
            do=f"keep {_module_of(parameter)!r} digital by choice (placement.digital of the hardware) if it is one of "
            "the file's matrices; else this architecture is not supported yet",
        )

    def _find_local_name(self, source: str) -> str:
        """Return the name that the running module has for a parameter that it may share with another,
        as a tied head does.
        """
        path, module = self._modules[-1] if self._modules else ("", None)
        for name, parameter in () if module is None else module.named_parameters(prefix=path, recurse=False):
            if self._memory.name_of(parameter) == source:
                return str(name)
        return source


def _module_of(parameter: str) -> str:
    """``model.embed_tokens.weight`` → ``model.embed_tokens``; an expert tensor keeps its name's owner likewise."""
    owner, _, leaf = parameter.rpartition(".")
    return owner if owner and leaf in ("weight", "bias") else parameter


def _factors(op: str) -> slice:
    """Return the operands that are multiplied: not the bias that addmm and its kin add,
    nor the mask of an attention.
    """
    name = op.strip("_")
    if "attention" in name:
        return slice(0, 3)
    if name.startswith(("addmm", "baddbmm", "addbmm", "addmv", "addr", "sspaddmm")):
        return slice(1, 3)
    return slice(0, 2)


def _contraction(op: str, operands: list[torch.Tensor]) -> int:
    """Return the length of the summed axis. Length 1 is an outer product (rotary frequencies × positions):
    nothing is summed.
    """
    if "conv" in op:
        return operands[1].shape[1:].numel()
    left = operands[_factors(op)][0]
    return 1 if "outer" in op or op == "addr" else int(left.shape[-1]) if left.ndim else 1


def _macs(op: str, operands: list[torch.Tensor], out: Any) -> int:
    """Return the multiply-accumulates of one product, whatever its layout;
    attention without a discount for the causal mask.
    """
    result = next((leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)), None)
    if result is None:
        return 0
    if "attention" in op:
        query, key, value = operands[:3]
        scores = query.shape[:-1].numel() * key.shape[-2]
        return int(scores * (query.shape[-1] + value.shape[-1]))
    return int(result.numel() * _contraction(op, operands))
