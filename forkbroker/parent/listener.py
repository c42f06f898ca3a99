"""The sockets that accept, and the one switch that makes them all wait.

While the switch is off the sockets are not polled: who connects waits in the listen backlog, which the kernel bounds,
and costs nothing. That is the answer to a process or a system that has no descriptors left: polling on would spin, as a
backlog that can't be accepted from stays readable. Connections that come faster than children can be forked are
accepted all the same, as only then is it known where they come from (`forkbroker.parent.waiting`).

A client that has left before its turn came, without having sent anything, is closed here: a process for it would find
nobody, and clients behind it would wait for that. What a client has sent before it left counts; it gets its process.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forkbroker.posix.addresses import SchemeListener, describe_listener, describe_peer
from forkbroker.posix.loop import Loop

ACCEPT_AT_ONCE = 4
"""Connections in one turn of the loop, of each socket. Each takes some tenths of a millisecond, in which nothing is
routed."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_GONE = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH})
_PAUSE_S = 0.1
_COMPLAIN_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Connection:
    """A client that has connected, and what is known of it before it has said anything."""

    socket: socket.socket
    """Non-blocking."""
    address: str
    """For people: `[::1]:40112`."""
    host: str
    """The address without its port; empty for a Unix socket."""
    is_tls: bool = False
    """It begins with a handshake of TLS."""
    is_web: bool = False
    """It begins with a request of HTTP, within TLS if there is TLS."""
    is_proxied: bool = False
    """It comes from a proxy, which says first for whom."""
    is_forwarded: bool = False
    """It comes from a proxy for HTTP, whose request says for whom."""
    is_suspect: bool = False
    """Others come from there that have not logged in."""


Accepted = Callable[[Connection], None]
"""Called with a connection, which the callee then owns."""


def has_left(connection: socket.socket) -> bool:
    """Tell whether the client of a non-blocking socket is gone, and has sent nothing."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


class Listeners:
    """All sockets that the broker listens on."""

    def __init__(
        self,
        loop: Loop,
        sockets: Sequence[socket.socket],
        *,
        accepted: Accepted,
        close: Callable[[socket.socket], None],
        logger: logging.Logger,
    ) -> None:
        """Take over `sockets`, which listen already: polled after `open`, given to the callable `close` at the end."""
        self._loop = loop
        self._sockets = list(sockets)
        self._accepted = accepted
        self._close = close
        self._logger = logger
        self._is_open = False
        self._is_paused = False
        self._complained_at = float("-inf")

    @property
    def names(self) -> list[str]:
        """Where the sockets listen, for people."""
        return [describe_listener(listener) for listener in self._sockets]

    def open(self) -> None:
        """Begin to accept."""
        self._is_open = True
        for listener in self._sockets:
            self._watch(listener)

    def _watch(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._loop.watch(listener.fileno(), self._reader(listener), None)

    def change(self, opened: Sequence[socket.socket], dropped: Sequence[socket.socket]) -> None:
        """Accept at other addresses: take over `opened`, and close `dropped`. Who is connected stays."""
        for listener in dropped:
            self._sockets.remove(listener)
            self._loop.forget(listener.fileno())
            self._close(listener)
        for listener in opened:
            self._sockets.append(listener)
            if self._is_open:
                self._watch(listener)
                self._loop.want_readable(listener.fileno(), not self._is_paused)

    def close(self) -> None:
        """Accept no more. Who waits in the backlog is reset by the kernel."""
        self._is_open = False
        sockets, self._sockets = self._sockets, []
        for listener in sockets:
            self._loop.forget(listener.fileno())
            self._close(listener)

    def _pause(self, until: float) -> None:
        """Poll none of the sockets before `until`."""
        if not self._is_paused:
            self._is_paused = True
            self._poll(False)
            self._loop.call_at(until, self._resume)

    def _resume(self) -> None:
        self._is_paused = False
        self._poll(True)

    def _poll(self, wanted: bool) -> None:
        for listener in self._sockets:
            self._loop.want_readable(listener.fileno(), wanted)

    def _reader(self, listener: socket.socket) -> Callable[[], None]:
        def accept() -> None:
            for _ in range(ACCEPT_AT_ONCE):
                if self._is_paused or listener not in self._sockets or not self._accept_one(listener):
                    return

        return accept

    def _accept_one(self, listener: socket.socket) -> bool:
        """Accept one connection, if there is one; False when nothing more is to be had for now."""
        try:
            connection, address = listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            return self._judge_error(error)
        connection.setblocking(False)
        if has_left(connection):
            connection.close()
            return True
        host = address[0] if isinstance(address, tuple) else ""
        is_tls, is_web = False, False
        if isinstance(listener, SchemeListener):
            is_tls, is_web = listener.is_tls, listener.is_web
        self._accepted(Connection(connection, describe_peer(connection), host, is_tls, is_web))
        return True

    def _judge_error(self, error: OSError) -> bool:
        """Go on with the next connection if only this one is lost, wait a little in all other cases."""
        if error.errno in _GONE:
            return True
        now = self._loop.now
        if now - self._complained_at >= _COMPLAIN_EVERY_S:
            self._complained_at = now
            hint = ", raise the limit of open files" if error.errno in _EXHAUSTED else ""
            self._logger.error("cannot accept connections: %s%s", error.strerror, hint)
        self._pause(now + _PAUSE_S)
        return False
