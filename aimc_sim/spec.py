"""The base of every spec: frozen, strict, finite, with errors that name the nearest right key and an id by content."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from typing_extensions import Self

from aimc_sim.errors import BadInput
from aimc_sim.files import reading
from aimc_sim.identity import content_id

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Spec(BaseModel):
    """A spec is a frozen value. Unknown keys, wrong types and non-finite numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @property
    def id(self) -> str:
        """Return 16 hex digits that name what the spec decides: see `identity.content_id`."""
        return content_id(self)

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str) -> Self:
        """Return the spec in a mapping such as a TOML table. Raises BadInput naming the field,
        its value and the remedy.
        """
        try:
            return cls.model_validate_json(json.dumps(data, default=_refuse))
        except ValidationError as error:
            raise _explain(error, cls, where) from None
        except (TypeError, ValueError) as error:
            raise BadInput(
                where, why=str(error), do="use numbers, text, true/false, lists and tables"
            ) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file. Raises BadInput when it is missing, unreadable or not TOML."""
    with reading(path, "file", kind="valid TOML", mend="mend that line"):
        return tomllib.loads(path.read_text(encoding="utf-8"))


Named = TypeVar("Named", bound=Spec)


def load_named(
    cls: type[Named],
    source: object,
    names: Collection[str],
    get: Callable[[str], Named],
    parse: Callable[[dict[str, Any], str, Path], Named],
) -> Named:
    """Return the spec that a source stands for: a name, a TOML file, a mapping of its tables, or the spec itself.

    names, get: those that ship with aimc-sim. parse: tables, what to call them in errors, and the path of their file
    (of a mapping: ``custom``) → the spec. Raises BadInput for anything else.
    """
    what = cls.__name__.lower()
    if isinstance(source, cls):
        return source
    if isinstance(source, Mapping):
        return parse(dict(source), what, Path("custom"))
    if not isinstance(source, (str, Path)):
        raise BadInput(
            what,
            got=source,
            why="it is neither a name, a path nor a mapping of tables",
            do=f"give a name ({', '.join(names)}) or a TOML file",
        )
    if str(source) in names:
        return get(str(source))
    path = Path(source)
    if path.suffix == ".toml" or path.exists():
        return parse(read_toml(path), str(path), path)
    raise BadInput(
        what,
        got=str(source),
        why=f"no {what} has that name and no file is there",
        do=nearest(str(source), names),
    )


def check_base(name: object, names: Collection[str], where: str) -> str:
    """Return what a ``base =`` names. Raises BadInput where it is none of the names."""
    if name not in names:
        raise BadInput(f"{where}: base", got=name, why="nothing has that name", do=nearest(str(name), names))
    return str(name)


def nearest(name: str, known: Iterable[str]) -> str:
    """'did you mean …? ', with every name that is about as close as the closest, or a list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    near = [other for other in close if _likeness(name, other) > _likeness(name, close[0]) - 0.01]
    meant = " or ".join(repr(other) for other in near)
    listed = ", ".join(names)
    return f"did you mean {meant}? Known: {listed}" if close else f"choose one of {listed}"


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, table by table; ``false`` switches an optional table off."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if value is False and (old is None or isinstance(old, Mapping)):
            merged[key] = None
        elif isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _likeness(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, name).ratio()


def _refuse(value: object) -> object:
    raise TypeError(f"{value!r} is not a value that a spec can hold")


def _fields_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Return the field names of the model that a validation path ends in, for suggestions."""
    current = model
    for step in path:
        field = current.model_fields.get(step)
        if field is None:
            break
        current = _model_of(field) or current
    return list(current.model_fields)


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the first model in a field's type, if any."""
    parts = [field.annotation, *getattr(field.annotation, "__args__", ())]
    return next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)


_ORDER = {"extra_forbidden": 0, "missing": 2}


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> BadInput:
    # what is written wrongly explains what is missing, so it comes first
    faults = sorted(error.errors(include_url=False), key=lambda one: _ORDER.get(one["type"], 1))
    first = faults[0]
    path = tuple(first["loc"])
    name = ".".join(str(step) for step in path) or "value"
    others = [".".join(str(step) for step in one["loc"]) or "the whole" for one in faults[1:]]
    more = f" (also wrong: {', '.join(others[:3])}{', …' if len(others) > 3 else ''})" if others else ""
    if first["type"] == "extra_forbidden":
        return BadInput(
            f"{where}: {name}",
            got=first["input"],
            why=f"there is no such field{more}",
            do=nearest(str(path[-1]), _fields_at(model, path[:-1])),
        )
    if first["type"] == "missing":
        return BadInput(f"{where}: {name}", why=f"the field is required{more}", do="add it")
    reason = first["msg"].removeprefix("Value error, ")
    if (
        not path
    ):  # fields that do not go together: the input is the whole document, and the reason has the remedy
        reason, _, remedy = reason.replace("; ", ": ", 1).rpartition(": ")
        return BadInput(where, why=reason + more, do=remedy)
    if first["type"] == "value_error" and "; " in reason:
        reason, _, remedy = reason.partition("; ")
        return BadInput(f"{where}: {name}", got=_short(first["input"]), why=reason + more, do=remedy)
    return BadInput(
        f"{where}: {name}",
        got=_short(first["input"]),
        why=reason[:1].lower() + reason[1:] + more,
        do=_remedy(first, model, path),
    )


def _short(value: Any) -> Any:
    """Return the value, or what a table that fills lines consists of."""
    if isinstance(value, Mapping) and len(repr(value)) > _LONG:
        return {
            key: inner if len(repr(inner)) <= _LONG // 4 else "…" for key, inner in value.items() if inner
        }
    return value


_LONG = 120
_TYPES = {
    "int": "a whole number, without quotes or a decimal point",
    "float": "a number, without quotes",
    "bool": "true or false",
    "string": "text in quotes",
    "dict": "a table",
    "model": "a table",
    "tuple": "a list",
}


def _remedy(error: Any, model: type[BaseModel], path: tuple[Any, ...]) -> str:
    """Return what to write instead: the allowed range, the allowed words, or the type."""
    kind, context = str(error["type"]), error.get("ctx", {})
    if "expected" in context:
        return f"use {context['expected']}"
    if "expected_tags" in context:
        return f"use one of {context['expected_tags']}"
    limits = {key: context[key] for key in ("ge", "gt", "le", "lt") if key in context}
    if limits:
        return _range_in_words({**_limits_at(model, path), **limits})
    if kind == "multiple_of":
        return f"use a multiple of {context['multiple_of']}"
    if kind in ("too_short", "string_too_short"):
        return f"give at least {context['min_length']}"
    if kind in ("too_long", "string_too_long"):
        return f"give at most {context['max_length']}"
    if kind == "finite_number":
        return "use a finite number"
    named = _TYPES.get(kind.removesuffix("_type").removesuffix("_from_float").removesuffix("_parsing"))
    return f"use {named}" if named else "correct the value"


def _limits_at(model: type[BaseModel], path: tuple[Any, ...]) -> dict[str, Any]:
    """Return both ends of the range of the field that a validation path ends in,
    as far as the field itself says them.
    """
    limits: dict[str, Any] = {}
    current: type[BaseModel] | None = model
    for step in path:
        field = current.model_fields.get(step) if current is not None else None
        if field is None:
            return {}
        limits = {
            key: getattr(limit, key)
            for limit in field.metadata
            for key in ("ge", "gt", "le", "lt")
            if getattr(limit, key, None) is not None
        }
        current = _model_of(field)
    return limits


def _range_in_words(limits: Mapping[str, Any]) -> str:
    """{"ge": 2, "le": 16} → ``use 2 to 16``."""
    if limits.keys() == {"ge", "le"}:
        return f"use {limits['ge']} to {limits['le']}"
    words = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}
    said = [
        words[key].format(f"{limits[key]:,}" if isinstance(limits[key], int) else f"{limits[key]:g}")
        for key in words
        if key in limits
    ]
    return "use " + " and ".join(said)


def write_toml(table: Mapping[str, Any]) -> str:
    """Return TOML of a table: values first, then the tables below; an absent optional is left out."""
    lines: list[str] = []
    _write_table(table, "", lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(table: Mapping[str, Any], prefix: str, lines: list[str]) -> None:
    """Values first, then the tables below; an absent optional is left out (for a default that is not None: false)."""
    for key, value in table.items():
        if value is not None and not isinstance(value, Mapping) and not _is_tables(value):
            lines.append(f"{key} = {_toml_value(value)}")
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            lines.extend(["", f"[{name}]"])
            _write_table(value, f"{name}.", lines)
        elif _is_tables(value):
            for item in value:
                lines.extend(["", f"[[{name}]]"])
                _write_table(item, f"{name}.", lines)


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _toml_value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
