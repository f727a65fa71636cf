"""Which tables a hardware description has, so that a test over all of them notices a new one."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from aimc_sim.spec import Spec


def specs_in(annotation: Any) -> set[type[Spec]]:
    """Return every spec that a field of this type may hold."""
    if isinstance(annotation, type):
        return {annotation} if issubclass(annotation, Spec) else set()
    return set().union(*(specs_in(part) for part in typing.get_args(annotation)), set())


def may_be_absent(annotation: Any) -> bool:
    """Return whether a field of this type may be None."""
    parts = typing.get_args(annotation)
    return type(None) in parts or any(
        may_be_absent(part) for part in parts if typing.get_origin(part) is types.UnionType
    )


def tables_of(spec: type[Spec], prefix: str = "") -> Iterator[str]:
    """Yield every table of a spec itself, and every optional table inside one, dotted."""
    for name, annotation in typing.get_type_hints(spec).items():
        if name not in spec.model_fields or not (inside := specs_in(annotation)):
            continue
        if not prefix or may_be_absent(annotation):
            yield prefix + name
        for part in inside:
            yield from tables_of(part, f"{prefix}{name}.")


def switches_of(spec: type[Spec]) -> set[str]:
    """Return the tables whose absence means something: without the laws of one polynomial inside a device."""
    return {path for path in tables_of(spec) if path.rsplit(".", 1)[-1] not in ("sigma", "shift")}
