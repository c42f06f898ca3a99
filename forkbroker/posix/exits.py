"""What a wait status means, in words for the log."""

from __future__ import annotations

import os
from signal import Signals


def describe(status: int) -> str:
    """A wait status in words: "exit status 70", "signal SIGSEGV", "signal SIGABRT, core dumped"."""
    if not os.WIFSIGNALED(status):
        return f"exit status {os.WEXITSTATUS(status)}"
    core = ", core dumped" if os.WCOREDUMP(status) else ""
    return f"signal {_name(os.WTERMSIG(status))}{core}"


def _name(number: int) -> str:
    """A signal's name; real-time signals between the first and the last have none, and show as numbers."""
    try:
        return Signals(number).name
    except ValueError:
        return str(number)
