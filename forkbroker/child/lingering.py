"""Say goodbye so that it arrives, at either side.

The parent: what a child has read and accepted is the parent's once it is written to the channel, and lost with the
child before. The parent may have stopped reading for a while (flow), so the child waits for as long as the parent
lives, and reads on meanwhile: the parent must never find a channel full because its child is about to end.

The client: closing a TCP socket while the client's octets wait unread makes the kernel send a reset, and the client's
system then throws away what it has received and not read: the ERROR, or the last RECEIPT. So: shut down the sending
side, read and forget what still comes until the client closes too, for a bounded time (R06).
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress

from forkbroker.wire.channel import Channel

LINGER_S = 2.0
_READ_SIZE = 65_536


def write_rest(channel: Channel) -> None:
    """Write all that is queued, however long the parent takes to read it; return early only if the parent is gone.

    What comes from the parent meanwhile is read and forgotten: the last word is said already.

    Raises:
        EnvelopeError: the parent sends what is no envelope.
    """
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN | select.POLLOUT)
    while not channel.flush() and not channel.closed:
        poll.poll()
        channel.receive()


def linger(client: socket.socket, seconds: float = LINGER_S) -> None:
    """Close `client`, a non-blocking socket that is shut down, after at most `seconds`."""
    with suppress(OSError):  # the client may be quicker: nothing is left to arrive
        _drain(client, time.monotonic() + seconds)
    client.close()


def _drain(client: socket.socket, until: float) -> None:
    poll = select.poll()
    poll.register(client, select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        if poll.poll(left * 1000) and not client.recv(_READ_SIZE):
            return
