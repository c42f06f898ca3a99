"""What the store says, and what a store can't say."""

from __future__ import annotations

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.wire.details import Details
from forkbroker.wire.envelope import pack_pieces
from forkbroker.wire.kinds import Flag, Kind

from .simulation import Child, World, make, make_send
from .stock import Stock
from .twins import hand_over

A, TOPIC, ME = b"/queue/a", b"/topic/t", b"/dsub/me"


def find_stored(*bodies: bytes) -> tuple[World, Child]:
    """A broker that finds these messages in its store, and a client."""
    world = World(stock=Stock())
    world.send(world.add_child(), A, bodies, persistent=True)
    world.run_store()
    world.stock.kill()
    anew = World(stock=world.stock)
    return anew, anew.add_child()


def test_what_is_stored_is_not_told_before_the_first_free_serial() -> None:
    """A store that does so breaks the contract."""
    form, payload = pack_pieces([b"x"])
    page = {"destination": A, "count": 1, "flags": form, "block": b"-s-1\n\n", "payload": payload}
    for kind, fields in (
        (Kind.BACKLOG, {"destination": A, "count": 1, "index": 4}),
        (Kind.DURABLE, {"destination": ME, "block": TOPIC}),
        (Kind.PAGE, {**page, "section": Details(due=1).pack()}),
        (Kind.OPENED, {}),
    ):
        world = World(opens=False)
        with pytest.raises(AssertionError, match=f"{kind.name} before OPENING"):
            world.router.receive_stored(make(kind, **fields), 0.0)


@pytest.mark.parametrize("kind", [Kind.SEND, Kind.WRITE, Kind.SETTLE])
def test_what_no_store_says_is_its_fault(kind: Kind) -> None:
    """Nothing is done about it."""
    world = World(stock=Stock())

    with pytest.raises(EnvelopeError):
        world.router.receive_stored(make(kind, destination=A), 0.0)
    assert world.router.take() == []


def test_a_page_that_cannot_be_decoded_is_the_stores_fault() -> None:
    """It raises; the queue is what it was."""
    world, child = find_stored(b"1")

    with pytest.raises(EnvelopeError):
        world.router.receive_stored(make(Kind.PAGE, destination=A, count=3, serial=1, payload=[b"short"]), 0.0)
    world.subscribe(child, A)
    assert world.consume(child) == [b"1"]


def test_a_page_that_comes_twice_is_delivered_once() -> None:
    """A store that was killed may have said it already."""
    world, child = find_stored(b"1", b"2")
    page = make_send(A, [b"1"])
    for _ in range(2):
        world.router.receive_stored(
            make(
                Kind.PAGE,
                destination=A,
                count=1,
                serial=1,
                flags=page.flags | Flag.PERSISTENT,
                block=page.block,
                payload=[page.payload],
            ),
            0.0,
        )
    world.subscribe(child, A)

    assert world.consume(child) == [b"1", b"2"]


def test_messages_of_a_queue_that_is_gone_meanwhile_harm_nobody() -> None:
    """Its name makes no queue."""
    world = World(stock=Stock())
    page = make_send(A, [b"1"])
    fields = {"destination": A, "count": 1, "flags": page.flags, "block": page.block, "payload": [page.payload]}
    world.router.receive_stored(make(Kind.PAGE, serial=1, **fields), 0.0)
    world.router.receive_stored(make(Kind.PAGED, destination=A, index=4, count=1), 0.0)

    assert world.turn() == []
    assert world.router.views() == []


def test_before_the_first_store_is_open_no_time_passes() -> None:
    """Nothing that is due is dealt with; then it is, at once."""
    world = World(opens=False)
    child = world.add_child()
    world.subscribe(child, A)
    world.send(child, A, [b"1"])
    before = world.turn(), world.router.deadline()

    world.router.receive_stored(make(Kind.OPENING, serial=1), 0.0)
    world.router.receive_stored(make(Kind.OPENED), 0.0)

    assert before == ([], None)
    assert [bytes(offer.pieces()[0]) for offer in world.offers(child)] == [b"1"]


def test_durable_subscriptions_that_the_store_does_not_know_end_with_its_first_opening_alone() -> None:
    """A later process may not have written yet what is new."""
    world = World(stock=Stock())
    child = world.add_child()
    world.subscribe(child, TOPIC, durable=ME)
    world.kill_store()
    world.open_store()
    world.send(child, TOPIC, [b"1"])

    assert world.consume(child) == [b"1"]


def test_another_router_goes_on_with_the_opening() -> None:
    """Between any two words of the store: what it has from before, and what may be told to it."""
    world, child = find_stored(b"1", b"2")
    again = World(stock=world.stock, opens=False)
    again.stock.kill()
    again.stock.open(is_fresh=True)
    while again.stock.said:
        hand_over(again)
        again.hear_store(1)
        again.turn()
    hand_over(again)
    child = again.add_child()
    again.subscribe(child, A)
    again.send(child, A, [b"3"], persistent=True)

    assert again.consume(child) == [b"1", b"2", b"3"]
    assert again.stock.rows == {}


def test_a_receipt_follows_what_is_committed() -> None:
    """Not before the store has said so, and each its own change."""
    world = World(stock=Stock())
    child = world.add_child()
    for fence in (7, 8):
        world.send(child, A, [b"%d" % fence], persistent=True, fence=fence)
    before = world.answers(child)
    world.router.receive_stored(make(Kind.COMMITTED, number=1), 0.0)
    between = world.answers(child)
    world.router.receive_stored(make(Kind.COMMITTED, number=2), 0.0)

    assert (before, between) == ([], [(Kind.FENCED, 7)])
    assert world.answers(child) == [(Kind.FENCED, 8)]
