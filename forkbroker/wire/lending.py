"""How much one channel may lend: octets in files whose descriptors are on their way, and were not received yet.

A socket's buffer bounds what lies between two processes. Not so with descriptors: an envelope of a hundred octets
stands for as many as are in its file. So before another file is lent, the kernel is asked how much of what was written
the other side has not read (TIOCOUTQ, tty_ioctl(4), unix(7)). The answer counts what the kernel needs to keep it, which
is for each write at least what it is for a write of one octet. So it bounds the number of those that are unread.

Descriptors on their way have a limit of their own, for all processes of a user together: that of open files. Above it
none can be sent, and no client could be given to its process. So all channels together lend a quarter of that.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import socket
import struct
import termios
from collections import deque
from functools import cache
from typing import ClassVar

MOST_OCTETS = 1_048_576
"""Octets that may be lent; one file may always be, whatever its size."""
MOST_FILES = 16

BUSY = frozenset({errno.ETOOMANYREFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""Errors of sendmsg(2) that concern the descriptor, and not the channel."""

_SIZE = struct.Struct("i")


class Lending:
    """What one channel has lent, as far as it knows."""

    _count: ClassVar[int] = 0

    def __init__(self, fd: int) -> None:
        """`fd`: the channel's socket. Call `close` when it is closed."""
        Lending._count += 1
        self._fd = fd
        self._lent: deque[int] = deque()
        self._octets = 0

    def has_room(self, octets: int) -> bool:
        """Tell whether a file with so many octets may be lent now."""
        cost = find_cost()
        if not cost:
            return False
        if self._lent and not self._fits(octets):
            self._forget(_ask(self._fd) // cost)
        return self._fits(octets)

    def _fits(self, octets: int) -> bool:
        most = min(MOST_FILES, _quarter_of_files() // Lending._count)
        return len(self._lent) < most and (not self._lent or self._octets + octets <= MOST_OCTETS)

    def _forget(self, unread: int) -> None:
        """At most so many writes are unread: the last ones."""
        while len(self._lent) > unread:
            self._octets -= self._lent.popleft()

    def lent(self, octets: int) -> None:
        """A file with so many octets was lent."""
        self._lent.append(octets)
        self._octets += octets

    def close(self) -> None:
        """The channel is closed."""
        Lending._count -= 1


def _ask(fd: int) -> int:
    """What the kernel keeps of that which was written to this socket, in octets."""
    (octets,) = _SIZE.unpack(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(_SIZE.size)))
    return int(octets)


@cache
def find_cost() -> int:
    """What a write of one octet that is not read counts; 0: this system does not say how much is unread."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with near, far:
            near.send(b"\0")
            cost = _ask(near.fileno())
            far.recv(1)
            return cost if cost > 0 and not _ask(near.fileno()) else 0
    except OSError:
        return 0


@cache
def _quarter_of_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (os.sysconf("SC_OPEN_MAX") if soft == resource.RLIM_INFINITY else soft) // 4
