"""What ids are made of: the canonical form of a spec, with the keys that version 0.1 gave its fields.

Ids stand in reports, journals, caches and the names of chips, for ever. So a field that is renamed keeps its old key
here, in `KEYS`, and nowhere else; names, prose and absent effects are in no id.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

PROSE = frozenset({"name", "description", "source"})
KEYS: dict[str, dict[str, str]] = {}  # {class: {field as it is called now: its key in version 0.1}}


def content_id(spec: Any) -> str:
    """Name a spec, or JSON values that stand for one, by what it decides.

    The first 16 hex digits of the sha256 of its canonical form, of which names, prose and absent effects are left out.

    Equal specs have equal ids; neither a description nor an effect that is new to the schema and not used changes one.
    """
    return hashlib.sha256(canonical_json(_decisive(canonical(spec))).encode()).hexdigest()[:16]


def canonical(value: Any) -> Any:
    """Dump a spec, or what one holds, as plain JSON values under version 0.1's keys, defaults and nulls included."""
    if hasattr(type(value), "model_fields"):  # of pydantic, which takes a while to load
        keys = KEYS.get(type(value).__name__, {})
        return {keys.get(name, name): canonical(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): canonical(inner) for key, inner in value.items()}
    return [canonical(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def canonical_json(value: Any) -> str:
    """Write JSON with sorted keys and no spaces: one text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def finite_json(value: Any) -> Any:
    """Put null for what JSON has no word for, NaN and infinity; keys become text, tuples lists."""
    if isinstance(value, dict):
        return {str(key): finite_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class Difference(NamedTuple):
    """A place in which two canonical forms differ, such as ``variants.0.hardware.adc.bits``, and both values there."""

    where: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.where} was {shown(self.old)} and is {shown(self.new)}"


def differences_of(old: Any, new: Any, where: str = "", *, beside: Collection[str] = ()) -> list[Difference]:
    """List where two canonical forms differ; prose does not count.

    beside: keys that do not count either, at any depth.

    >>> print(*differences_of({"adc": {"bits": 9}}, {"adc": {"bits": 8}}))
    adc.bits was 9 and is 8
    """
    inner: Iterable[tuple[Any, Any, Any]]
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in dict.fromkeys([*old, *new]) if key not in PROSE and key not in beside]
        inner = [(key, old.get(key), new.get(key)) for key in keys]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new) <= 64:
        inner = zip(range(len(old)), old, new, strict=True)
    else:
        return [] if old == new else [Difference(where, old, new)]
    return [
        difference
        for key, a, b in inner
        for difference in differences_of(a, b, f"{where}.{key}".lstrip("."), beside=beside)
    ]


def listed(differences: Sequence[Difference]) -> str:
    """Write the first three differences, and how many more there are."""
    more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
    return "; ".join(map(str, differences[:3])) + more


def shown(value: Any) -> str:
    """Write a value as JSON of at most 40 letters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "…"


def _decisive(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _decisive(v) for k, v in value.items() if v is not None and k not in PROSE}
    return [_decisive(v) for v in value] if isinstance(value, list) else value
