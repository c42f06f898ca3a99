"""A spare: a client's child that has no client yet.

It waits for its client on its channel, without a loop or a session of its own, as each page that it writes to is a
page that it no longer shares. When the parent has gone, or wants it no longer, it ends.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from forkbroker.errors import EnvelopeError, Exit
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.posix.titles import set_title
from forkbroker.wire import descriptors
from forkbroker.wire.envelope import HEADER
from forkbroker.wire.kinds import Flag, Kind

ClientProgram = Callable[[socket.socket, socket.socket, str, int], int]
"""What serves a client: (its end of the channel, the client's socket, the client's address for people, its number in
the parent), the channel's end non-blocking; returns the exit status."""

_SERVE = int(Kind.SERVE)


def wait(end: socket.socket, program: ClientProgram, tls_program: ClientProgram | None = None) -> int:
    """Wait for a client on `end`, a blocking socket, and serve it; returns the exit status.

    `tls_program`: what serves a client that speaks TLS, where there are such.

    Raises:
        EnvelopeError: the parent sends something else.
    """
    set_title("spare")
    handed = descriptors.receive(end)
    if handed is None:
        return Exit.OK
    raw, fds = handed
    fields = HEADER.unpack_from(raw)
    if fields[2] != _SERVE or len(fds) != 1:
        raise EnvelopeError(f"kind {fields[2]} for a spare, with {len(fds)} descriptors")
    peer, address = fields[8], raw[HEADER.size : HEADER.size + fields[10]]
    if crash is not None:
        crash("spare.handed", str(peer))
    end.setblocking(False)
    serve = tls_program if fields[3] & Flag.TLS else program
    if serve is None:
        raise EnvelopeError("a client that speaks TLS, where there is no certificate")
    return serve(end, socket.socket(fileno=fds[0]), address.decode(), peer)
