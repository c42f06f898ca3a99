"""What a wait status means: in words for the log, and in classes for those who decide what follows from an end."""

from __future__ import annotations

import os
from enum import Enum
from signal import Signals

from forkbroker.errors import Exit


class Ending(Enum):
    """How a process ended; decides log level, throttling and what is said about its client."""

    COMPLETED = "completed"
    """Exit status 0: it did what it was there for."""
    FAILED = "failed"
    """Another exit status: it saw what was wrong, and has said so itself."""
    LIMITED = "limited"
    """The system stopped it at a limit: processor time, file size."""
    KILLED = "killed"
    """A signal that somebody sent: an administrator, or the kernel when memory is short."""
    CRASHED = "crashed"
    """A fault of ours: an exception that nobody expected, or a signal that only faults bring."""


_LIMITS = frozenset({Signals.SIGXCPU, Signals.SIGXFSZ})
_FAULTS = frozenset(
    {
        Signals.SIGSEGV,
        Signals.SIGBUS,
        Signals.SIGILL,
        Signals.SIGFPE,
        Signals.SIGABRT,
        Signals.SIGTRAP,
        Signals.SIGSYS,
    }
)


def describe(status: int) -> str:
    """A wait status in words: "exit status 70", "signal SIGSEGV", "signal SIGABRT, core dumped"."""
    if not os.WIFSIGNALED(status):
        return f"exit status {os.WEXITSTATUS(status)}"
    core = ", core dumped" if os.WCOREDUMP(status) else ""
    return f"signal {_name(os.WTERMSIG(status))}{core}"


def classify(status: int) -> Ending:
    """The class of a wait status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number in _FAULTS:
            return Ending.CRASHED
        return Ending.LIMITED if number in _LIMITS else Ending.KILLED
    code = os.WEXITSTATUS(status)
    if code == Exit.SOFTWARE:
        return Ending.CRASHED
    return Ending.COMPLETED if code == Exit.OK else Ending.FAILED


def _name(number: int) -> str:
    """A signal's name; real-time signals between the first and the last have none, and show as numbers."""
    try:
        return Signals(number).name
    except ValueError:
        return str(number)
