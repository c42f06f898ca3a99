"""A process that waits for its client, seen from within."""

from __future__ import annotations

import socket

import pytest

from forkbroker.child.spare import Spare
from forkbroker.errors import EnvelopeError
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Begin, Kind


def serve(begin: int) -> list[str]:
    """What a spare does whose client begins in this way."""
    done: list[str] = []
    spare = Spare()
    spare.programs[Begin.TLS] = lambda address, peer: done.append(f"{address} is {peer}") or 0
    spare.suspected = lambda: done.append("suspected")
    ours, theirs = open_pair()
    theirs.setblocking(True)
    near, far = socket.socketpair()
    channel = Channel(ours, max_envelope=100_000)
    with spare.end, spare.client, near, far:
        assert channel.hand(pack(Kind.SERVE, token=begin, number=7, destination=b"unix"), [far.fileno()])
        try:
            assert spare.wait(theirs.detach()) == 0
        finally:
            channel.close()
    return done


def test_a_client_gets_the_program_that_serves_those_that_begin_so() -> None:
    """Where there is none, there are no such clients."""
    assert serve(Begin.TLS) == ["unix is 7"]
    with pytest.raises(EnvelopeError, match="for whom there is no program"):
        serve(Begin.WEB)


def test_a_suspect_is_served_by_the_same_program_and_known_as_one() -> None:
    """Before it is served."""
    assert serve(Begin.TLS | Begin.SUSPECT) == ["suspected", "unix is 7"]
