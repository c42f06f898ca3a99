"""Programs of tests for the spares of a nursery."""

from __future__ import annotations

import socket
from collections.abc import Callable

from forkbroker.child.spare import Spare

ClientProgram = Callable[[socket.socket, socket.socket, str, int], int]
"""(The channel's end, the client's socket, the client's address, its number): the exit status."""


def spare_for(program: ClientProgram) -> Callable[[int], int]:
    """What a nursery is given, so that its spares serve their clients with this program."""
    spare = Spare()
    spare.programs[0] = lambda address, peer: program(spare.end, spare.client, address, peer)
    return spare.wait
