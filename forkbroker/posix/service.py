"""A service manager that speaks systemd's protocols: readiness, status, watchdog, passed sockets.

sd_notify(3) is one datagram; sd_listen_fds(3) three variables and a range of descriptors: no library is needed. All
of it is optional. Without a manager every notice is a no-op, and a manager that does not answer stops nobody.

The variables are removed from the environment once they are read, so that no child takes them for its own.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress

from forkbroker.errors import Exit, StartError
from forkbroker.posix.listening import set_options

_FIRST_PASSED = 3
"""SD_LISTEN_FDS_START."""

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class Service:
    """The manager's ear, if there is one. Made before detaching, as the variables name this process."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Take the manager's variables out of `environment`."""
        address = environment.pop("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero octet of Linux's abstract addresses; other forms (vsock) are not for us.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.is_there = address[:1] in ("@", "/")
        # The parent shows that it lives each second, asked or not: that is often enough for any manager.
        environment.pop("WATCHDOG_USEC", "")
        environment.pop("WATCHDOG_PID", "")

    def ready(self) -> None:
        """The broker accepts connections, or has reloaded."""
        self._notify("READY=1")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it. The time is required: without it a reload may wait for ever."""
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The broker has begun to stop."""
        self._notify("STOPPING=1")

    def status(self, text: str) -> None:
        """Show `text`, one line, in the manager's status."""
        self._notify(f"STATUS={text}")

    def alive(self) -> None:
        """The loop turns: sent by the parent at the end of a turn, never by a timer that works while it hangs."""
        self._notify("WATCHDOG=1")

    def _notify(self, text: str) -> None:
        if not self.is_there:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            manager.sendto(text.encode(), self._address)


def take_listeners(environment: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """The sockets that the manager listens on for this process, non-blocking; empty when there are none.

    Raises:
        StartError: one of them is no listening stream socket.
    """
    number = count_passed(environment)
    for variable in ("LISTEN_PID", "LISTEN_FDS"):
        environment.pop(variable, "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    return [
        _take_listener(_FIRST_PASSED + index, names[index] if index < len(names) else "") for index in range(number)
    ]


def count_passed(environment: Mapping[str, str] = os.environ) -> int:
    """How many descriptors the manager has opened for this process: they follow the standard streams."""
    number = environment.get("LISTEN_FDS", "")
    is_ours = environment.get("LISTEN_PID", "") == str(os.getpid())
    return int(number) if is_ours and number.isascii() and number.isdecimal() else 0


def _take_listener(fd: int, name: str) -> socket.socket:
    """Descriptor `fd` as a socket that the programs which we start do not inherit."""
    what = f"descriptor {fd} ({name or 'no name'}) from the service manager"
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        raise StartError(f"{what} is not a socket: {error.strerror}; see the socket unit", Exit.CONFIG) from error
    if listener.family not in _FAMILIES or listener.type != socket.SOCK_STREAM:
        raise StartError(f"{what} is not a TCP or Unix stream socket; use ListenStream= in the unit", Exit.CONFIG)
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise StartError(f"{what} does not listen; use Accept=no in the socket unit", Exit.CONFIG)
    set_options(listener)
    listener.setblocking(False)
    listener.set_inheritable(False)
    return listener
