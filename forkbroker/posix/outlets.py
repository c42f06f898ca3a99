"""Writing to an inherited descriptor without ever waiting for its reader.

A full pipe, a stopped terminal and the socket of a log collector that hangs make a process wait that writes to them.
O_NONBLOCK would help, but it is a property of the open file, not of the descriptor: set on an inherited standard stream
it changes the shell's terminal too, and other programs fail there. So each kind of file has its own way:

- a socket: MSG_DONTWAIT, for this one write;
- a pipe or a terminal: it is opened again, by its name or through /dev/fd. That makes an open file of our own, which
  may be non-blocking;
- where this is not possible (the pipe of another user, a system whose /dev/fd gives copies only): poll(2) comes first.
  Two processes that both find the last room of a pipe are the rest of the risk;
- a regular file: nobody has to be waited for.

A standard stream may become another file later (a daemon gives it up): the outlet notices, and follows.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import suppress

_NON_BLOCKING = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Outlet:
    """A way to write to one descriptor, which stays its owner's."""

    def __init__(self, fd: int, *, reopens: bool = True) -> None:
        """Look at what `fd` is now. Without `reopens` only `fd` itself keeps a terminal or pipe open.

        Raises:
            OSError: it is no open descriptor.
        """
        self._fd = fd
        self._reopens = reopens
        self._own = -1
        self._look()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a child must keep open besides the descriptor itself."""
        return () if self._own < 0 else (self._own,)

    def write(self, data: bytes) -> int:
        """Write as much as there is room for now; return how many bytes that is.

        Raises:
            BlockingIOError: there is no room.
            OSError: it cannot be written to.
        """
        if not os.path.samestat(os.fstat(self._fd), self._known):
            self.close()
            self._look()
        return self._write(data)

    def close(self) -> None:
        """Close what was opened again. Harmless if it is closed already."""
        own, self._own = self._own, -1
        if own >= 0:
            os.close(own)

    def _look(self) -> None:
        fd, self._known = self._fd, os.fstat(self._fd)
        mode = self._known.st_mode
        self._write: Callable[[bytes], int]
        if stat.S_ISREG(mode):
            self._write = lambda data: os.write(fd, data)
        elif stat.S_ISSOCK(mode):
            self._write = lambda data: _send(fd, data)
        elif self._reopens and (own := _open_again(fd)) >= 0:
            self._own = own
            self._write = lambda data: os.write(own, data)
        else:
            self._write = lambda data: _write_if_ready(fd, data)


def _send(fd: int, data: bytes) -> int:
    borrowed = socket.socket(fileno=fd)
    try:
        return borrowed.send(data, socket.MSG_DONTWAIT)
    finally:
        borrowed.detach()


def _write_if_ready(fd: int, data: bytes) -> int:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    # a pipe that is ready has room for so much at least
    return os.write(fd, data[: select.PIPE_BUF])


def _open_again(fd: int) -> int:
    """Return a non-blocking descriptor for the same file with an open file of its own; -1 if there is no way to it."""
    for name in _names(fd):
        try:
            own = os.open(name, _NON_BLOCKING)
        except OSError:
            continue
        is_ours = os.path.samestat(os.fstat(own), os.fstat(fd)) and fcntl.fcntl(own, fcntl.F_GETFL) & os.O_NONBLOCK
        if is_ours:
            return own
        os.close(own)
    return -1


def _names(fd: int) -> list[str]:
    names = [f"/dev/fd/{fd}"]
    if os.isatty(fd):
        with suppress(OSError):  # a terminal of another mount namespace has no name here
            names.insert(0, os.ttyname(fd))
    return names
