"""Functions of the C library that Python has not, where they are optional: elsewhere nothing happens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress


def find_function(name: str) -> Callable[..., int] | None:
    """A function that returns an int; None: the C library has none of this name, or Python can't call it."""
    with suppress(ImportError, OSError, AttributeError):
        import ctypes  # an interpreter may have been built without it

        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
        return found
    return None
