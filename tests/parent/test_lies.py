"""A child that a client has taken over, against a real parent with the broker's own router and semaphores."""

from __future__ import annotations

import pytest
from driven import Starter
from hypothesis import HealthCheck, given, settings
from support.lies import LIES, SEND, join
from test_routing import real, subscribed

from forkbroker.wire.details import Wishes
from forkbroker.wire.envelope import SETTLEMENT, pack_pieces
from forkbroker.wire.kinds import Flag, Kind

_NO_LINES = pack_pieces([b"no empty line"])

SHOWN = {
    "a time near 2^64": join(Kind.SEND, **{**SEND, "section": Wishes(ttl=2**64 - 1).pack()}),
    "an index of 2^32-1": join(Kind.SEND, **{**SEND, "index": 2**32 - 1}),
    "no pieces": join(Kind.SEND, **{**SEND, "destination": b"/topic/a", "count": 0}),
    "a piece without an empty line": join(
        Kind.SEND,
        **{
            **SEND,
            "flags": _NO_LINES[0] | Flag.MIXED | Flag.PERSISTENT,
            "payload": _NO_LINES[1],
            "block": b"-s-1\n",
            "count": 1,
        },
    ),
    "a settlement of nothing": join(Kind.SETTLE, token=1, count=1, payload=[SETTLEMENT.pack(1, 0, 2)]),
    "one bad part": join(
        Kind.TRANSACTION, count=2, payload=[join(Kind.SEND, **SEND), join(Kind.SEND, **{**SEND, "index": 2**32 - 1})]
    ),
}


@pytest.mark.parametrize("lie", SHOWN)
def test_a_lie_costs_its_own_client_only(start: Starter, lie: str) -> None:
    """The line says what was wrong; those who would have got it, and the parent, go on."""
    broker = start(router=real)
    reader, worker = subscribed(broker, "reader", "/topic/a"), subscribed(broker, "worker", "/queue/a")
    liar, honest = broker.logged_in("liar"), broker.logged_in("honest")
    liar.tell(f"raw {SHOWN[lie].hex()}")
    broker.await_log(r"^ERROR client 3 \S+ liar: killed, sent an invalid envelope: ")
    honest.tell("publish /topic/a hello", "publish /queue/a hello")

    assert reader.line().startswith("got SEND ")
    assert worker.line().startswith("got OFFER 1 ")


def test_who_is_found_out_later_is_ended(start: Starter) -> None:
    """The router blames a child in its own time, when its envelope is long applied."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell(f"raw {join(Kind.CLAIMED, number=666).hex()}")
    broker.await_log(r"^ERROR client 1 \S+ alice: killed, sent an invalid envelope: it was found out later")

    broker.await_log("router: 1 ended")
    bob.tell(f"send {bob.peer} 1")
    assert bob.line() == "got SEND 0 50"


def test_what_the_router_did_not_expect_is_the_senders_end(start: Starter) -> None:
    """An exception while an envelope is applied, here a destination that is no number: the others go on."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell("send nobody 1")
    broker.await_log(r"^ERROR client 1 \S+ alice: killed, unexpected exception while its envelope was applied")

    bob.tell(f"send {bob.peer} 1")
    assert bob.line() == "got SEND 0 50"


def test_no_lie_ends_the_parent(start: Starter) -> None:
    """A row of children that say whatever hypothesis thinks of."""
    broker = start(router=real)

    @settings(max_examples=25, suppress_health_check=list(HealthCheck), database=None)
    @given(LIES)
    def lie(raw: bytes) -> None:
        liar = broker.logged_in("liar")
        liar.tell(f"raw {raw.hex()}")
        liar.close()

    lie()
    worker, honest = subscribed(broker, "worker", "/queue/honest"), broker.logged_in("honest")
    honest.tell("publish /queue/honest hello")
    assert worker.line().startswith("got OFFER 1 ")
    assert "the parent ends" not in broker.log
