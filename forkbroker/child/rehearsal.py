"""A client's session, played through in the parent before the first fork.

What the interpreter makes while code runs for the first times (specialised instructions, method caches, key tables of
instances) it would otherwise make in each child by itself: in memory that the child had shared with its parent until
then. Rehearsed, it is inherited. It saved 0.3 MiB of proportional memory for each idle client when it was
introduced (docs/benchmarks.md has the present figure), and a client's first frames are answered sooner.
"""

from __future__ import annotations

import socket

from forkbroker.child.child import ClientChild, Shared
from forkbroker.child.transport import PlainTransport
from forkbroker.wire.channel import open_pair
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind

_ROUNDS = 20
"""CPython specialises a function after eight calls, and needs some more to settle."""

_FRAMES = (
    b"CONNECT\naccept-version:1.2\nhost:/\nlogin:rehearsal\n\n\0"
    b"SUBSCRIBE\nid:0\ndestination:/topic/rehearsal\nreceipt:1\n\n\0"
    b"SEND\ndestination:/topic/rehearsal\n\nhello\0"
    b"DISCONNECT\nreceipt:2\n\n\0"
)
_FENCES = 2
"""How many fences these frames ask for: all are passed before they are asked, as nobody is there to answer."""


def rehearse(shared: Shared) -> None:
    """Serve a client that exists only here, some times over. Nothing of it is left but warm code."""
    for _ in range(_ROUNDS):
        parents_end, childs_end = open_pair()
        client, served = socket.socketpair()
        with parents_end, client:
            client.sendall(_FRAMES)
            client.shutdown(socket.SHUT_WR)
            parents_end.sendall(b"".join(pack(Kind.FENCED, number=_FENCES)))
            ClientChild(childs_end, PlainTransport(served), "rehearsal", shared).run()
