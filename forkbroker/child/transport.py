"""The seam between the loop of a child process and the octets of its client's socket.

A transport reads the octets of the STOMP stream from the socket, and writes them to it. The plain one passes them on
as they are. Another one may encrypt them, or put them into frames of another protocol: it then exchanges octets of its
own as well (a handshake, a closing record), and tells the loop by `wants_readable` and `wants_writable` what it waits
for. The loop asks for both at the end of each turn, beside what the session wants.

Reading and writing raise BlockingIOError if nothing can be done now, and OSError if the connection is broken. `write`
counts octets of the stream, and only those that the kernel has taken: the session settles messages by that number.

The plain transport costs nothing: its `read_into` and `write` are the socket's own methods.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from forkbroker.wire.envelope import Buffer
from forkbroker.wire.kinds import Cause
from forkbroker.wire.memory_file import MemoryFile


class TransportError(ConnectionError):
    """The client does not speak the transport's protocol; the text is for the log."""


class ClosedError(ConnectionError):
    """Both sides are closed, as the transport's protocol has it; the text is for the log."""


class RefusedError(TransportError, ClosedError):
    """The client has broken the transport's protocol, and was told so; the text is for the log."""


class Transport(Protocol):
    """Octets of the STOMP stream over one socket, which is non-blocking."""

    @property
    def socket(self) -> socket.socket:
        """The socket, for the selector, and to be closed by the child."""

    @property
    def has_more(self) -> bool:
        """Octets of the stream are there that the socket does not announce: read again."""

    @property
    def in_hand(self) -> int:
        """Octets of the stream that `write` has begun to write and not counted yet: they have to come again."""

    @property
    def wants_readable(self) -> bool:
        """Reading makes sense; False: the transport has to write first."""

    @property
    def wants_writable(self) -> bool:
        """The transport has octets of its own to write: `write` is to be called, with nothing if nothing waits."""

    @property
    def read_into(self) -> Callable[[memoryview], int]:
        """Read octets of the stream into this place, as many as it has room for at most; 0 means its end."""

    @property
    def write(self) -> Callable[[Iterable[Buffer]], int]:
        """Write what the kernel takes of these buffers; returns how many octets of them it took."""

    def find_certificate_name(self, kind: str) -> str:
        """What the client's certificate has as its `cn`, or first `dns`, `email` or `uri`; nothing: no such thing."""

    def write_file(self, file: MemoryFile, offset: int, octets: int) -> int:
        """Write what the kernel takes of these octets of a file; in all other respects it is a `write`."""

    @property
    def bearer(self) -> str:
        """A token that came before the stream began, and shows who the client is; nothing: none has come."""

    def shut_down(self, cause: Cause) -> None:
        """Tell the client that nothing more comes, and why, if the protocol can tell that."""


class PlainTransport:
    """The octets of the socket are those of the stream."""

    has_more = False
    in_hand = 0
    wants_readable = True
    wants_writable = False
    bearer = ""

    def __init__(self, connection: socket.socket) -> None:
        """Take over `connection`, a stream socket; it does not block any more."""
        connection.setblocking(False)
        self.socket = connection
        self.read_into: Callable[[memoryview], int] = connection.recv_into
        self.write: Callable[[Iterable[Buffer]], int] = connection.sendmsg

    def find_certificate_name(self, _kind: str) -> str:
        """There is no certificate."""
        return ""

    def write_file(self, file: MemoryFile, offset: int, octets: int) -> int:
        """Let the kernel take the octets from where they are: sendfile(2)."""
        return os.sendfile(self.socket.fileno(), file.fd, offset, octets)

    def shut_down(self, _cause: Cause) -> None:
        """Shut down the sending side of the socket, unless the client has closed the connection."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)


def take(buffers: Iterable[Buffer], most: int) -> bytes:
    """The first octets of these buffers, for a transport that makes others of them."""
    parts, octets = [], 0
    for buffer in buffers:
        parts.append(memoryview(buffer)[: most - octets])
        octets += len(parts[-1])
        if octets >= most:
            break
    return b"".join(parts)
