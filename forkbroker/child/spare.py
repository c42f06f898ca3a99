"""A spare: a client's child that has no client yet.

It waits for its client on its channel, without a loop or a session of its own, as each page that it writes to is a
page that it no longer shares. So it is an object that was made before the fork, with sockets into whose places the
descriptors are put after it. When the parent has gone, or wants it no longer, it ends.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from os import close, dup2

from forkbroker.errors import EnvelopeError, Exit
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.wire.descriptors import receive
from forkbroker.wire.envelope import HEADER
from forkbroker.wire.kinds import Begin, Kind

ClientProgram = Callable[[str, int], int]
"""What serves the client of a spare: (its address for people, its number in the parent), the channel's end
non-blocking; returns the exit status."""

WAYS = 16
"""How many ways there are in which a client begins (`Begin`)."""
_SERVE = int(Kind.SERVE)
_SUSPECT = int(Begin.SUSPECT)
_HEADER = HEADER.size


def _ignore() -> None:
    """All clients are the same."""


class Spare:
    """Sockets for a child and a client that are still to come, and what is to become of them."""

    def __init__(self) -> None:
        self.end, self.client = socket.socketpair()
        """The channel's end and the client's socket; as long as these have not come, sockets that nobody uses.

        The client's says of itself that it is a Unix socket, whatever has come: it is good to read and to write only.
        """
        self.programs: list[ClientProgram | None] = [None] * WAYS
        """What serves a client that begins in this way, as SERVE says it. Without one there are no such clients."""
        self.suspected: Callable[[], None] = _ignore
        """Called in the process of a client that comes from where others come that have not logged in."""

    def take_client(self) -> socket.socket:
        """The client's socket for whoever asks it what it is; the other object is none any more."""
        return socket.socket(fileno=self.client.detach())

    def wait(self, fd: int) -> int:
        """Wait for a client on the channel's end `fd`, a blocking one, and serve it; returns the exit status.

        Raises:
            EnvelopeError: the parent sends something else.
        """
        end, client = self.end, self.client
        dup2(fd, end.fileno(), False)  # not inheritable: by its name that would be a dictionary
        close(fd)
        handed = receive(end)
        if handed is None:
            return Exit.OK
        raw, fds = handed
        fields = HEADER.unpack_from(raw)
        if fields[2] != _SERVE or len(fds) != 1:
            raise EnvelopeError(f"kind {fields[2]} for a spare, with {len(fds)} descriptors")
        peer, address = fields[8], raw[_HEADER : _HEADER + fields[10]]
        if crash is not None:
            crash("spare.handed", str(peer))
        end.setblocking(False)
        [fd] = fds
        dup2(fd, client.fileno(), False)
        close(fd)
        begin: int = fields[4]
        if begin & _SUSPECT:
            self.suspected()
        serve = self.programs[begin & ~_SUSPECT]
        if serve is None:
            raise EnvelopeError("a client for whom there is no program; of TLS, where there is no certificate")
        return serve(address.decode(), peer)
