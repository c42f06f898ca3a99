"""Wait statuses in words and classes."""

from __future__ import annotations

import os
import resource
import signal

import pytest

from forkbroker.errors import Exit
from forkbroker.posix.exits import Ending, classify, describe


def _by_signal(number: int) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    return 0


@pytest.mark.parametrize(
    ("status", "words", "ending"),
    [
        (0, "exit status 0", Ending.COMPLETED),
        (1, "exit status 1", Ending.FAILED),
        (Exit.IOERR, "exit status 74", Ending.FAILED),
        (Exit.SOFTWARE, "exit status 70", Ending.CRASHED),
    ],
)
def test_exit_statuses(in_child, status, words, ending) -> None:
    """0 is the way it should be, 70 is ours to mend."""
    met = in_child(lambda: int(status))

    assert words == describe(met)
    assert ending == classify(met)


@pytest.mark.parametrize(
    ("number", "ending"),
    [
        (signal.SIGTERM, Ending.KILLED),
        (signal.SIGKILL, Ending.KILLED),
        (signal.SIGSEGV, Ending.CRASHED),
        (signal.SIGABRT, Ending.CRASHED),
        (signal.SIGXCPU, Ending.LIMITED),
        (signal.SIGXFSZ, Ending.LIMITED),
    ],
)
def test_signals(in_child, number, ending) -> None:
    """Sent by somebody, brought by a fault, or set by a limit."""
    met = in_child(lambda: _by_signal(number))

    assert f"signal {number.name}" == describe(met)
    assert ending == classify(met)


def test_a_signal_without_a_name_shows_as_its_number(in_child) -> None:
    """Real-time signals are numbered."""
    if not hasattr(signal, "SIGRTMIN"):
        pytest.skip("needs real-time signals")
    number = signal.SIGRTMIN + 3

    assert f"signal {int(number)}" == describe(in_child(lambda: _by_signal(number)))


def test_a_core_dump_is_told() -> None:
    """The flag that wait(2) adds to the signal's number; statuses are the same everywhere that Python has them."""
    status = signal.SIGSEGV | 0x80

    assert describe(status) == "signal SIGSEGV, core dumped"
    assert classify(status) == Ending.CRASHED
