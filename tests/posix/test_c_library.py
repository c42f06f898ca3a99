"""Functions of the C library."""

from __future__ import annotations

import os
import sys

import pytest

from forkbroker.posix.c_library import find_function


def test_a_function_can_be_called() -> None:
    """One that each system has."""
    call = find_function("getpid")

    assert call is not None
    assert call() == os.getpid()


def test_what_there_is_not_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function, or what Python calls them with."""
    assert find_function("no_such_function_anywhere") is None
    monkeypatch.setitem(sys.modules, "ctypes", None)

    assert find_function("getpid") is None
