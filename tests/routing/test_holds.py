"""Producers that are held back."""

from __future__ import annotations

from forkbroker.routing.peers import Outbox, Peer
from forkbroker.routing.queues.holds import Holds
from forkbroker.routing.queues.policies import QueuePolicy
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.window import Window
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Kind

ONE, TWO = Peer(1), Peer(2)


def kinds_of(out: Outbox) -> list[tuple[Peer, Kind]]:
    found = [(peer, Envelope(buffers[0]).kind) for peer, buffers in out]
    out.clear()
    return found


def test_a_producer_hears_hold_and_resume_once() -> None:
    """However many queues hold it, and however often."""
    out: Outbox = []
    holds, a, b = (
        Holds(out),
        Queue(b"/queue/a", QueuePolicy(), Window(1 << 26)),
        Queue(b"/queue/b", QueuePolicy(), Window(1 << 26)),
    )

    assert [holds.hold(ONE, a), holds.hold(ONE, a), holds.hold(ONE, b), holds.hold(TWO, b)] == [
        True,
        False,
        False,
        True,
    ]
    assert kinds_of(out) == [(ONE, Kind.HOLD), (TWO, Kind.HOLD)]
    holds.release(a)
    assert kinds_of(out) == []
    holds.release(b)
    assert kinds_of(out) == [(ONE, Kind.RESUME), (TWO, Kind.RESUME)]
    holds.release(b)
    assert kinds_of(out) == []
    assert holds.hold(ONE, a)


def test_a_producer_that_ended_hears_nothing() -> None:
    """Its queues forget it."""
    out: Outbox = []
    holds, queue = Holds(out), Queue(b"/queue/a", QueuePolicy(), Window(1 << 26))
    holds.hold(ONE, queue)
    out.clear()

    holds.peer_ended(ONE)
    holds.peer_ended(TWO)
    holds.release(queue)

    assert not queue.held
    assert kinds_of(out) == []
