"""The one error that users see: what was wrong, with which value, why it matters, what to do next."""

from __future__ import annotations

_NOTHING = object()


class AimcError(Exception):
    """Base of every error that aimc-sim raises on purpose."""


class BadInput(AimcError, ValueError):
    """Input that cannot be used. Raised before anything is computed or written.

    what: the field, tensor or file; got: its value; why: the reason it matters; do: the next step.
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
