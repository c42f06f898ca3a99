"""Requests to the helper that runs the authenticator, and what comes back: between it and the processes of clients.

A request is one datagram: the octets that the program gets on standard input. With it comes the end of a pipe
(SCM_RIGHTS): the program's standard output. When the program has ended, the helper writes the last octets to it: NUL,
which no JSON has, the wait status in digits, and a line feed. So who asks needs no number, shares nothing with others
who ask, and sees the end of the pipe if the helper dies.

The datagrams wait in the kernel, and there are few that can: who finds no room asks again.
"""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress

from forkbroker.wire.descriptors import ROOM_FOR_ONE, rights, unpack_one

MAX_REQUEST = 8_192
"""Octets of a request: a pipe takes as many at once on all systems."""
_END = re.compile(rb"\0(\d{1,10})\n")


def make_link() -> tuple[socket.socket, socket.socket]:
    """Two ends: that of those who ask, which does not block, and that of the helper."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    # where a datagram may have 2 KiB only, if nobody says otherwise
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * MAX_REQUEST)
    ours.setblocking(False)
    return ours, theirs


def ask(link: socket.socket, request: bytes) -> int:
    """Ask; the descriptor from which the answer is to be read, which does not block. Whoever calls this closes it.

    Raises:
        OSError: there is no helper, or no descriptor; BlockingIOError: others wait, ask again.
    """
    answer, theirs = os.pipe()
    try:
        link.sendmsg([request], rights([theirs]))
        os.set_blocking(answer, False)
    except BaseException:
        os.close(answer)
        raise
    finally:
        os.close(theirs)
    return answer


def receive(link: socket.socket) -> tuple[bytes, int] | None:
    """The next request, and the descriptor for its answer, which does not block; None: it is none.

    Whoever calls this closes the descriptor.
    """
    request, ancillary, flags, _ = link.recvmsg(MAX_REQUEST + 1, ROOM_FOR_ONE)
    if len(ancillary) != 1:
        return None
    answer = unpack_one(ancillary)
    if len(request) > MAX_REQUEST or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        os.close(answer)
        return None
    os.set_inheritable(answer, False)
    return request, answer


def tell_end(answer: int, status: int) -> None:
    """Say how the program has ended (a wait status). Who does not read learns nothing."""
    with suppress(OSError):
        os.set_blocking(answer, False)
        os.write(answer, b"\0%d\n" % status)


def split(heard: bytes) -> tuple[bytes, int] | None:
    """What the program has said, and its wait status; None: it has not ended yet."""
    found = _END.search(heard)
    return None if found is None else (heard[: found.start()], int(found[1]))
