"""Signals as events of the loop.

A handler may interrupt anything: a half-written log line, a half-changed table. So handlers here do nothing, and the
interpreter writes the signal's number to a socket that the loop watches (signal.set_wakeup_fd). The callback then runs
between two others, and may do whatever any callback may.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping
from types import FrameType

from forkbroker.posix.loop import Loop

_READ_SIZE = 4096


class Signals:
    """The signals of one process, until `close`; those that were held come now.

    Main thread only, one at a time in a process.
    """

    def __init__(self, loop: Loop, callbacks: Mapping[signal.Signals, Callable[[], None]]) -> None:
        """Call back from the loop for each signal; several of one kind that come at once may count as one."""
        self._loop = loop
        self._callbacks = {int(number): callback for number, callback in callbacks.items()}
        self._wake, self._noted = socket.socketpair()
        for end in (self._wake, self._noted):
            end.setblocking(False)
        loop.watch(self._noted.fileno(), self._receive, None)
        # A full socket is no loss: the loop is awake already, and what is in it names the signals often enough.
        self._previous_fd = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, _note) for number in callbacks}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._previous)

    def _receive(self) -> None:
        numbers = self._noted.recv(_READ_SIZE)
        for number in dict.fromkeys(numbers):
            callback = self._callbacks.get(number)
            if callback is not None:
                callback()

    def close(self) -> None:
        """Put back the handlers that were there before, and close both ends."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)
        self._loop.forget(self._noted.fileno())
        self._wake.close()
        self._noted.close()


class Wakeup:
    """A signal for which this process has a handler already, from before it was forked, until `close`.

    As `Signals`, which also sets handlers, for a process whose memory counts: functions of `signal` and `socket` make
    members of enumerations of what they are given, and touch 45 pages more than all else that a child does.
    """

    def __init__(self, loop: Loop, number: int, callback: Callable[[], None]) -> None:
        """Call back from the loop for this signal; several that come at once may count as one."""
        self._loop = loop
        self._number = number
        self._callback = callback
        self._noted, self._wake = os.pipe()
        os.set_blocking(self._noted, False)
        os.set_blocking(self._wake, False)
        loop.watch(self._noted, self._receive, None)
        self._previous_fd = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def _receive(self) -> None:
        if self._number in os.read(self._noted, _READ_SIZE):
            self._callback()

    def close(self) -> None:
        """Note no signals any more, and close both ends."""
        signal.set_wakeup_fd(self._previous_fd)
        self._loop.forget(self._noted)
        os.close(self._wake)
        os.close(self._noted)


def _note(_number: int, _frame: FrameType | None) -> None:
    """Nothing: that there is a handler makes the interpreter write the number to the wake-up descriptor."""


ALL_SIGNALS = frozenset(signal.valid_signals())

_ASKS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""By which an administrator, a terminal or a service manager asks the broker for something."""


def hold_signals() -> None:
    """Let what others may send from now on wait until `Signals` hears it, instead of ending this process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ASKS)


def reset_signals() -> None:
    """Undo the parent's arrangements in a child: no wake-up descriptor, none of its handlers, nothing blocked.

    What a terminal sends to the whole foreground group (Ctrl-C), a service manager to all processes of a service, or
    an administrator by a program's name, is meant for the parent, which tells its children what follows from it: they
    ignore it, and end by the parent's order or by SIGKILL, unless they arrange for something else. SIGPIPE is ignored
    as the interpreter has it: a peer that has gone is an error of a write, not a death.

    The order matters: a signal that comes as soon as nothing is blocked must find no trace of the parent.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in _ASKS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def is_alive(pid: int) -> bool:
    """Tell whether there is a process with this number, by the null signal of kill(2)."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
