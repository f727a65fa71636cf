"""What ids are made of: the canonical form of a spec, with the keys that version 0.1 gave its fields.

Ids stand in reports, journals, caches and the names of chips, for ever. So a field that is renamed keeps its old key
here, in `KEYS`, and nowhere else; names, prose and absent effects are in no id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

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
    if isinstance(value, BaseModel):
        keys = KEYS.get(type(value).__name__, {})
        return {keys.get(name, name): canonical(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): canonical(inner) for key, inner in value.items()}
    return [canonical(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def canonical_json(value: Any) -> str:
    """Write JSON with sorted keys and no spaces: one text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _decisive(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _decisive(v) for k, v in value.items() if v is not None and k not in PROSE}
    return [_decisive(v) for v in value] if isinstance(value, list) else value
