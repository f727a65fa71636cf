"""The one error that users see: what was wrong, with which value, why it matters, what to do next."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])
_NOTHING = object()


class AimcError(Exception):
    """An AimcError is raised on purpose; every error of aimc-sim derives from it.

    >>> from aimc_sim import AimcError, BadInput
    >>> issubclass(BadInput, AimcError)
    True
    """


class BadInput(AimcError, ValueError):
    """A BadInput says which input cannot be used. It is raised before anything is computed or written.

    what: the field, tensor or file; got: its value; why: the reason it matters; do: the next step.

    >>> import aimc_sim
    >>> try:
    ...     aimc_sim.Hardware.load("hermes-265")
    ... except aimc_sim.BadInput as error:
    ...     print(error.what, error.got)
    hardware hermes-265
    """

    def __init__(self, what: str, *, got: object = _NOTHING, why: str = "", do: str = "") -> None:
        self.what, self.got, self.why, self.do = what, got, why, do
        parts = [what if got is _NOTHING else f"{what}: got {got!r}"]
        if why:
            parts.append(why)
        if do:
            parts.append(f"Next: {do}")
        super().__init__(". ".join(part.rstrip(".") for part in parts) + ".")

    def __reduce__(self) -> tuple[object, ...]:
        return (
            _rebuild,
            (
                self.what,
                self.got if self.got is not _NOTHING else None,
                self.why,
                self.do,
                self.got is not _NOTHING,
            ),
        )


def _rebuild(what: str, got: object, why: str, do: str, has_got: bool) -> BadInput:
    """Unpickle across worker processes, where the sentinel is another object."""
    return BadInput(what, got=got, why=why, do=do) if has_got else BadInput(what, why=why, do=do)


def options_as_arguments(function: Function) -> Function:
    """Let errors name arguments (``text_seed``) where they name options of the command that share their code
    (``--text-seed``)."""

    def renamed(text: str) -> str:
        """Of what stands between backticks, a command, nothing is changed."""
        parts = text.split("`")
        for at in range(0, len(parts), 2):
            parts[at] = re.sub(r"--([a-z][a-z-]*)", lambda option: option[1].replace("-", "_"), parts[at])
            parts[at] = re.sub(r"(?<![\w-])-o\b", "output", parts[at])
        return "`".join(parts)

    @functools.wraps(function)
    def in_arguments(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BadInput as error:
            what, why, do = map(renamed, (error.what, error.why, error.do))
            raise BadInput(what, got=error.got, why=why, do=do) from None

    return in_arguments  # type: ignore[return-value]


def as_command(function: Function) -> Function:
    """Return the same function for the command, where errors name options."""
    return cast(Function, inspect.unwrap(function))
