"""How the harness marks answers: its own code on our answers, and what decides the marks as plain data.

Filters, metrics, functions beside a YAML file and hidden fields of the rows decide marks without showing in any prompt.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import math
import numbers
import re
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from aimc_sim.identity import canonical_json

Answer = tuple[float, bool] | str  # (log-probability, most likely) of a continuation, or a text
# Where rows come from, and names for people: rows themselves count by content.
_ASIDE = frozenset(
    {"task_alias", "tag", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs", "metadata"}
)
_RESOLVED = ("_filters", "_metric_fn_list", "_metric_fn_kwargs", "_higher_is_better")


def harness_version() -> str:
    """Return the installed version of lm-evaluation-harness."""
    return metadata.version("lm_eval")


class Marking:
    """A marking holds one task of the harness with its requests built, and marks answers."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self._instances: dict[int, list[Any]] = {}
        for instance in task.instances:
            self._instances.setdefault(instance.doc_id, []).append(instance)
        for instances in self._instances.values():
            instances.sort(key=lambda instance: instance.idx)

    @property
    def count(self) -> int:
        """Number of questions."""
        return len(self._instances)

    @cached_property
    def settings(self) -> Any:
        """What decides the marks of any rows, as plain data: the configuration that the task ended up with."""
        config = {
            field.name: getattr(self.task.config, field.name)
            for field in dataclasses.fields(self.task.config)
            if field.name not in _ASIDE
        }
        resolved = {name: getattr(self.task, name, None) for name in _RESOLVED}
        return plain([type(self.task), config, resolved])

    @cached_property
    def rows(self) -> Any:
        """The rows that are asked, as plain data: fields that no prompt shows may decide marks too."""
        return plain([doc for doc, _ in self.items()])

    def items(self) -> Iterator[tuple[Any, list[Any]]]:
        """List (document, requests) of each question."""
        for instances in self._instances.values():
            yield instances[0].doc, instances

    def marks(self, answers: Sequence[Sequence[Answer]]) -> list[dict[str, float]]:
        """Return the numbers by metric of each question, as the harness gives them; those of later filters named after
        them.
        """
        for instances, given in zip(self._instances.values(), answers, strict=True):
            for instance, answer in zip(instances, given, strict=True):
                instance.resps, instance.filtered_resps = [answer], {}
        self.task.apply_filters()
        filters = list(self.task.instances[0].filtered_resps)
        marks = []
        for doc, instances in self.items():
            numbers_of: dict[str, float] = {}
            for name in filters:
                marked = self.task.process_results(doc, [each.filtered_resps[name] for each in instances])
                for metric, value in marked.items():
                    if isinstance(value, numbers.Real | np.generic):
                        key = metric if metric not in numbers_of else f"{metric},{name}"
                        numbers_of[key] = float(value)
            marks.append(numbers_of)
        return marks


def plain(value: Any) -> Any:
    """Turn any value of a task's configuration into JSON, the same in every process: functions and classes by their
    name and the text of their file, objects without their address.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    if isinstance(value, bytes):
        return _digest(value)
    if isinstance(value, re.Pattern):
        return [value.pattern, value.flags]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, Set):
        return sorted((plain(inner) for inner in value), key=canonical_json)
    return _code(value)


def _code(value: Any) -> Any:
    if isinstance(value, functools.partial):
        return [plain(value.func), plain(value.args), plain(value.keywords)]
    if isinstance(value, type):
        return [_defined(each) for each in value.__mro__ if each is not object]
    if inspect.isroutine(value):
        return _defined(inspect.unwrap(getattr(value, "__func__", value)))
    told = repr(value)  # such as a date; the default has an address in it
    return [_code(type(value)), plain(getattr(value, "__dict__", {})) if " at 0x" in told else told]


def _defined(value: Any) -> list[str]:
    """Return the name of a function or class, and a hash of the file that it stands in.

    What the function calls in that file counts too.
    """
    module, name = str(getattr(value, "__module__", "")), str(getattr(value, "__qualname__", value))
    if module.split(".")[0] in sys.stdlib_module_names:  # does not change with the version of Python
        return [module, name]
    try:
        text = Path(inspect.getsourcefile(value) or "").read_bytes()
    except (TypeError, OSError):  # compiled
        return [module, name]
    return [name, _digest(text)]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
