"""Wait statuses in words."""

from __future__ import annotations

import os
import resource
import signal

import pytest

from forkbroker.errors import Exit
from forkbroker.posix.exits import describe


def _by_signal(number: int) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    return 0


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit status 0"),
        (1, "exit status 1"),
        (Exit.IOERR, "exit status 74"),
        (Exit.SOFTWARE, "exit status 70"),
    ],
)
def test_exit_statuses(in_child, status, words) -> None:
    """A number, as its meaning is the program's own."""
    assert words == describe(in_child(lambda: int(status)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGXCPU])
def test_signals(in_child, number) -> None:
    """By their names."""
    assert f"signal {number.name}" == describe(in_child(lambda: _by_signal(number)))


def test_a_signal_without_a_name_shows_as_its_number(in_child) -> None:
    """Real-time signals are numbered."""
    if not hasattr(signal, "SIGRTMIN"):
        pytest.skip("needs real-time signals")
    number = signal.SIGRTMIN + 3

    assert f"signal {int(number)}" == describe(in_child(lambda: _by_signal(number)))


def test_a_core_dump_is_told() -> None:
    """The flag that wait(2) adds to the signal's number; statuses are the same everywhere that Python has them."""
    assert describe(signal.SIGSEGV | 0x80) == "signal SIGSEGV, core dumped"
