"""Saying no so that it arrives.

A connection that gets no process is still told why. Closing right after the last word would lose it: what the client
has sent and nobody has read makes the kernel answer with a reset, which discards what the client has not read yet. So
the parent sends the words, shuts its side down, and drains what comes until the client closes, for a second at most;
and for no more than 64 clients at a time, the oldest going first: refusing must not cost what accepting would.

What a client of HTTP is told may depend on its request: so it is told once something of that has come, or that second
is over.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable

from forkbroker.posix.loop import Loop

Words = Callable[[str, bool, bytes], bytes]
"""What a client is sent that gets no process: (the reason, whether it speaks HTTP, what has come of its request)."""

LINGER_S = 1.0
LINGERING_MAX = 64

_DRAIN_OCTETS = 65_536
_COMPLAIN_EVERY_S = 10.0


class Refusals:
    """The connections that are being refused."""

    def __init__(self, loop: Loop, words: Words, logger: logging.Logger) -> None:
        """`words` makes of a reason what the client is sent: the parent itself knows no STOMP."""
        self._loop = loop
        self._words = words
        self._logger = logger
        self._lingering: dict[int, socket.socket] = {}
        self._untold: dict[int, str] = {}
        """The reasons for those that are not told yet."""
        self._complaint_ends = float("-inf")
        self._unlogged = 0

    def refuse(
        self, connection: socket.socket, address: str, reason: str, *, is_tls: bool = False, is_web: bool = False
    ) -> None:
        """Tell the client why, and close `connection` soon; at once if it speaks TLS, and so would not understand."""
        self._log(address, reason)
        if is_tls:
            connection.close()
            return
        if len(self._lingering) >= LINGERING_MAX:
            self._close(next(iter(self._lingering)))
        connection.setblocking(False)
        if is_web:
            self._untold[connection.fileno()] = reason
        elif not self._tell(connection, self._words(reason, False, b"")):
            connection.close()
            return
        self._linger(connection)

    def _tell(self, connection: socket.socket, words: bytes) -> bool:
        """Send this, and nothing more; False: the client is gone."""
        try:
            connection.send(words)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def _tell_late(self, fd: int, heard: bytes) -> None:
        """Tell a client of HTTP, if it was not told yet."""
        reason = self._untold.pop(fd, None)
        if reason is not None:
            self._tell(self._lingering[fd], self._words(reason, True, heard))

    def _linger(self, connection: socket.socket) -> None:
        fd = connection.fileno()
        self._lingering[fd] = connection

        def expire() -> None:
            if self._lingering.get(fd) is connection:
                self._close(fd)

        self._loop.watch(fd, lambda: self._drain(fd), None)
        self._loop.call_at(self._loop.now + LINGER_S, expire)

    def _drain(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                octets = self._lingering[fd].recv(_DRAIN_OCTETS)
                if octets:
                    self._tell_late(fd, octets)
                    return
            except ConnectionError:
                pass
            self._close(fd)

    def _close(self, fd: int) -> None:
        self._loop.forget(fd)
        self._tell_late(fd, b"")
        self._lingering.pop(fd).close()

    def close(self) -> None:
        """Close all at once."""
        for fd in list(self._lingering):
            self._close(fd)

    def _log(self, address: str, reason: str) -> None:
        """One line at once, then at most one in ten seconds, which tells how many there were."""
        if self._loop.now < self._complaint_ends:
            self._unlogged += 1
            return
        self._logger.warning("client %s: refused, %s", address, reason)
        self._complaint_ends = self._loop.now + _COMPLAIN_EVERY_S
        self._loop.call_at(self._complaint_ends, self._summarise)

    def _summarise(self) -> None:
        if self._unlogged:
            self._logger.warning("%s more clients refused within %.0f s", f"{self._unlogged:,}", _COMPLAIN_EVERY_S)
            self._unlogged = 0
            self._complaint_ends = self._loop.now + _COMPLAIN_EVERY_S
            self._loop.call_at(self._complaint_ends, self._summarise)
