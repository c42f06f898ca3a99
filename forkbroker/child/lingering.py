"""Say goodbye so that it arrives.

Closing a TCP socket while the client's octets wait unread makes the kernel send a reset, and the client's system then
throws away what it has received and not read: the ERROR, or the last RECEIPT. So: shut down the sending side, read
and forget what still comes until the client closes too, for a bounded time (R06).
"""

from __future__ import annotations

import select
import socket
import time

LINGER_S = 2.0
_READ_SIZE = 65_536


def linger(client: socket.socket, seconds: float = LINGER_S) -> None:
    """Close `client`, a non-blocking socket with nothing left to write, after at most `seconds`."""
    try:
        client.shutdown(socket.SHUT_WR)
        _drain(client, time.monotonic() + seconds)
    except OSError:
        pass  # the client was quicker: nobody is left to be told anything
    client.close()


def _drain(client: socket.socket, until: float) -> None:
    poll = select.poll()
    poll.register(client, select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        if poll.poll(left * 1000) and not client.recv(_READ_SIZE):
            return
