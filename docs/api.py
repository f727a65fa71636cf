"""Writes docs/api.md from the docstrings of what is public: every module with an ``__all__``.

python docs/api.py            # writes it
python docs/api.py --check    # exits with 1 where the page is not what the docstrings say
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_suffix(".md")

# In the order in which a reader meets them. A module that is not here, and has no `__all__`, is not public.
PUBLIC = """
    aimc_sim
    aimc_sim.hardware
    aimc_sim.devices
    aimc_sim.weightfile
    aimc_sim.models
    aimc_sim.chip
    aimc_sim.execute
    aimc_sim.wires
    aimc_sim.calibrate
    aimc_sim.torch_bridge
    aimc_sim.finetuning
    aimc_sim.signoff.statistics
    aimc_sim.sizing
    aimc_sim.testing
    aimc_sim.kernels.philox
    aimc_sim.kernels.normal
""".split()
HEAD = """# Python interface

Written from the docstrings by `python docs/api.py`, and held to them by a test. What stands here is public: it changes
only with a warning for one release. Every other module may change without one; a module is public exactly if it has an
`__all__`.

"""


def page() -> str:
    """Return the whole page."""
    modules = [importlib.import_module(name) for name in PUBLIC]
    contents = "\n".join(f"- [`{m.__name__}`](#{_anchor(m.__name__)}): {_first(m)}" for m in modules)
    return HEAD + contents + "\n" + "".join(_module(module) for module in modules)


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-")


def _first(thing: Any) -> str:
    return _code(inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def _module(module: Any) -> str:
    names = sorted((name for name in module.__all__ if not name.startswith("__")), key=str.lower)
    return f"\n## `{module.__name__}`\n\n{_prose(module)}" + "".join(
        _entry(name, getattr(module, name)) for name in names
    )


def _entry(name: str, thing: Any) -> str:
    if inspect.isclass(thing):
        return f"\n### `class {name}`\n\n{_prose(thing)}" + "".join(_members(thing))
    if callable(thing):
        return f"\n### `{name}`\n\n```python\n{_signature(name, thing)}\n```\n\n{_prose(thing)}"
    return f"\n### `{name}`\n\n`{name} = {thing!r}`\n" if len(repr(thing)) < 80 else f"\n### `{name}`\n"


def _members(thing: type) -> Iterator[str]:
    """Fields of a specification or a record, then methods and properties with the first line of their docstrings."""
    fields = getattr(thing, "model_fields", None) or {
        field.name: field
        for field in (dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ())
        if not field.name.startswith("_")
    }
    if fields:
        yield "\nFields: " + ", ".join(f"`{name}`" for name in fields) + ".\n"
    own = [
        (name, member)
        for name, member in vars(thing).items()
        if not name.startswith("_") and name not in fields and inspect.getdoc(member)
        and (callable(getattr(thing, name)) or isinstance(member, property) or hasattr(member, "func"))
    ]  # fmt: skip
    lines = []
    for name, member in own:
        plain = getattr(thing, name)
        shown = f"{name}(…)" if callable(plain) else name
        lines.append(f"- `{shown}`: {_first(member if not callable(plain) else plain)}\n")
    if lines:
        yield "\n" + "".join(lines)


def _signature(name: str, thing: Any) -> str:
    signature = inspect.signature(thing)
    parts: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not any(part.startswith("*") for part in parts):
            parts.append("*")
        parts.append(_parameter(parameter))
    end = (
        "" if signature.return_annotation is signature.empty else f" -> {_type(signature.return_annotation)}"
    )
    line = f"{name}({', '.join(parts)}){end}"
    return line if len(line) <= 110 else f"{name}(\n    " + ",\n    ".join(parts) + f",\n){end}"


def _parameter(parameter: inspect.Parameter) -> str:
    """One parameter as it is written in code; of a default that is a function, that there is one."""
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    kind = "" if parameter.annotation is parameter.empty else f": {_type(parameter.annotation)}"
    if parameter.default is parameter.empty:
        return f"{stars}{parameter.name}{kind}"
    default = "…" if callable(parameter.default) else repr(parameter.default).replace("'", '"')
    return f"{parameter.name}{kind} = {default}" if kind else f"{parameter.name}={default}"


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _code(text: str) -> str:
    return re.sub(r"``([^`\n]+)``", r"`\1`", text)


def _prose(thing: Any) -> str:
    """A docstring as Markdown: examples and indented blocks become fenced."""
    out: list[str] = []
    for paragraph in (inspect.getdoc(thing) or "").split("\n\n"):
        if paragraph.startswith(">>>"):
            out.append(f"```python\n{paragraph}\n```")
        elif all(line.startswith("    ") for line in paragraph.splitlines()) and paragraph.strip():
            out.append(f"```text\n{textwrap.dedent(paragraph)}\n```")
        else:
            out.append(_code(paragraph))
    return "\n\n".join(out) + "\n"


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == text else f"{PAGE} is not what the docstrings say")
    PAGE.write_text(text, encoding="utf-8")
