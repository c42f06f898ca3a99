"""The terminal from which a broker in the foreground was started, and its end.

SIGHUP has two meanings: an administrator wants the configuration to be read again, or the terminal is gone. In the
second case the system has taken the terminal away from all processes of its session before it sends the signal, so
that there is none to be opened any more.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_TERMINAL = "/dev/tty"


def watch_terminal() -> Callable[[], bool]:
    """Return a function that tells whether this process had a terminal when it was watched, and has lost it since.

    Where SIGHUP was ignored by then, as after nohup(1), the end of the terminal means nothing. Call before the signal
    has a handler.
    """
    if not _has_terminal() or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return lambda: False
    return lambda: not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open(_TERMINAL, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True
