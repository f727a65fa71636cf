"""Names that changed: what the last release called it works for one more release, with a warning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def renamed_arguments(**new_by_old: str) -> Callable[[Function], Function]:
    """Let a function take keyword arguments by their old names too, each with a DeprecationWarning.

    ``@renamed_arguments(time_s="time")`` hands ``time_s=60.0`` on as ``time=60.0``. Raises TypeError where both names
    are given.
    """

    def wrap(function: Function) -> Function:
        @functools.wraps(function)
        def with_old_names(*args: Any, **kwargs: Any) -> Any:
            for old, new in new_by_old.items():
                if old not in kwargs:
                    continue
                if new in kwargs:
                    raise TypeError(f"{function.__name__}() got {new!r} and its old name {old!r}")
                warnings.warn(
                    f"{function.__name__}({old}=…) is called {new}=… now; the old name goes with the next release",
                    DeprecationWarning,
                    stacklevel=2,
                )
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return with_old_names  # type: ignore[return-value]

    return wrap


def renamed(old: str, function: Function) -> Function:
    """Return a function under the name that it had, with a DeprecationWarning at every call."""

    @functools.wraps(function)
    def with_old_name(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(
            f"{old} is called {function.__name__} now; the old name goes with the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return function(*args, **kwargs)

    return with_old_name  # type: ignore[return-value]
