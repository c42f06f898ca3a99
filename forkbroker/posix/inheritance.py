"""What the broker has inherited from the process that started it, and does not keep.

- A standard stream that is closed would be the number of the next file that is opened, and the first complaint would
  be written into that. /dev/null takes its place.
- Other open descriptors: a lock that the starter holds, the pipe of a shell's `$(...)`. As long as the broker and its
  children have a copy, the lock is held and the pipe does not end. They are closed, but for the sockets of a service
  manager.
- Blocked signals: with SIGTERM blocked nothing ends the broker, with SIGCHLD blocked it never learns of an end.
- An ignored SIGCHLD: the kernel then throws away how children have ended.
- The interpreter's own SIGINT: until the broker has a handler, Ctrl-C ends the start without a traceback.
"""

from __future__ import annotations

import os
import signal

_FIRST = 3
"""Descriptors below this are the standard streams."""


def shed(passed: int) -> None:
    """Forget what was inherited; of the descriptors above the standard streams the first `passed` are kept.

    Call before anything is opened.
    """
    fill_standard_streams()
    os.closerange(_FIRST + passed, _descriptors())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def fill_standard_streams() -> None:
    """Open /dev/null for each of descriptors 0-2 that is closed."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd < _FIRST:
        os.set_inheritable(fd, True)
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)


def _descriptors() -> int:
    """A number that no descriptor of this process reaches."""
    limit = os.sysconf("SC_OPEN_MAX")
    return limit if limit > 0 else 65_536
