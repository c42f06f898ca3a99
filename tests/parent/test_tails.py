"""Looks at clients: who gets what a client's process tells of frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from parts import logger_of
from puppet import Switchboard
from support.lies import join

from forkbroker.errors import EnvelopeError
from forkbroker.parent.channels import Channels
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.roster import Client
from forkbroker.parent.tails import _WAITING, Tail, Tails
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import Peer
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Kind, Trace
from forkbroker.wire.receive_memory import ReceiveMemory

FRAME = {"from": "client", "command": "SEND", "headers": {"destination": "/topic/a"}, "bytes": 2, "missed": 0}


class Bench:
    """A client whose end of the channel is the test's, and those who look at it."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.channels = Channels(self.loop, Switchboard(logger_of([])), FlowPolicy(), ReceiveMemory(0))
        self.tails = Tails(self.channels)
        ours, theirs = open_pair()
        self.end = Channel(theirs, max_envelope=100_000)
        channel = Channel(ours, max_envelope=100_000)
        self.client = Client(peer=Peer(1), pid=0, channel=channel, address="unix", host="", started=0.0)
        self.channels.join(self.client, lambda _: None, lambda *_: None)
        self.woken: list[str] = []

    def begin(self, name: str, *, has_bodies: bool = False) -> Tail:
        return self.tails.begin(self.client, lambda: self.woken.append(name), has_bodies=has_bodies)

    def ordered(self) -> list[int]:
        """What the client's process is told."""
        self.channels.end_turn()
        return [envelope.token for envelope in self.end.receive() if envelope.kind is Kind.TRACE]

    def tell(self, *rows: Any) -> None:
        self.hear(json.dumps(rows).encode())

    def hear(self, block: bytes) -> None:
        self.tails.heard(self.client, Envelope(join(Kind.TRACED, block=block)))


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.channels.close()
    made.end.close()
    made.loop.close()


def test_a_process_tells_while_somebody_looks(bench: Bench) -> None:
    """As much as the one who wants most; the end of the last look ends it."""
    first = bench.begin("first")
    second = bench.begin("second", has_bodies=True)
    assert (bench.ordered(), len(bench.tails)) == ([Trace.HEADERS, Trace.BODIES], 2)
    bench.tails.end(second)
    bench.tails.end(second)
    assert bench.ordered() == [Trace.HEADERS]
    bench.tails.end(first)

    assert (bench.ordered(), len(bench.tails)) == ([Trace.NOTHING], 0)


def test_everybody_who_looks_gets_every_frame(bench: Bench) -> None:
    """Bodies only whoever wants them; with the time. What comes after the end is nobody's, and not looked at."""
    first, second = bench.begin("first"), bench.begin("second", has_bodies=True)
    bench.tell()
    assert first.has_begun and second.has_begun and not first.rows
    bench.tell({**FRAME, "body": "hi", "is-cut": False}, FRAME)
    assert bench.woken == ["first", "second"] * 2
    assert [sorted(row) for row in first.rows] == [sorted({*FRAME, "at"})] * 2
    assert [row.get("body") for row in second.rows] == ["hi", None]
    for tail in (first, second):
        bench.tails.end(tail)
    bench.hear(b"nonsense")
    assert bench.woken == ["first", "second"] * 2


def test_who_does_not_read_misses_frames(bench: Bench) -> None:
    """They are counted, with those that were missed before."""
    tail = bench.begin("slow")
    for _ in range(_WAITING // 100):
        bench.tell(*[FRAME] * 100)
    bench.tell({**FRAME, "missed": 4}, FRAME)
    assert len(tail.rows) == _WAITING
    tail.rows.clear()
    bench.tell({**FRAME, "missed": 2}, FRAME)

    assert [row["missed"] for row in tail.rows] == [8, 0]


def test_the_end_of_the_client_is_the_end_of_the_look(bench: Bench) -> None:
    """Whoever looks is woken; nothing is ordered of a process that is gone."""
    tail = bench.begin("first")
    bench.ordered()
    bench.tails.gone(bench.client)
    bench.tails.end(tail)

    assert (tail.is_over, bench.woken, bench.ordered(), len(bench.tails)) == (True, ["first"], [], 0)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"{",
        b"{}",
        b"[" * 100_000,
        b"[1]",
        b"[{}]",
        *(
            json.dumps([{**FRAME, **lie}]).encode()
            for lie in (
                {"from": 1},
                {"more": "x"},
                {"headers": []},
                {"headers": {"a": 1}},
                {"bytes": "2"},
                {"bytes": True},
                {"missed": -1},
                {"body": None},
                {"is-cut": 0},
            )
        ),
        json.dumps([{name: value for name, value in FRAME.items() if name != "missed"}]).encode(),
    ],
)
def test_a_process_that_tells_anything_else_is_not_believed(bench: Bench, block: bytes) -> None:
    """It is ended, and whoever looks gets none of it."""
    tail = bench.begin("first")
    with pytest.raises(EnvelopeError, match="TRACED"):
        bench.hear(block)

    assert not tail.rows
