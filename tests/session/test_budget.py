"""The memory that one client may fill, whatever it fills it with."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from forkbroker.session.budget import Budget
from forkbroker.session.errors import FrameError
from forkbroker.session.policy import SessionPolicy
from forkbroker.wire.kinds import Kind

from .play import Client, frame, sent


def connected(limit: int = 100_000) -> Client:
    client = Client(policy=SessionPolicy(max_client_memory=limit))
    client.connect()
    return client


def used(client: Client) -> int:
    """What the budget has counted."""
    return client.session._transactions._budget.used


def test_all_of_it_may_be_taken_and_no_octet_more() -> None:
    """What was given back may be taken again."""
    budget = Budget(100)
    budget.take(60, "one")
    budget.give(20)
    budget.take(60, "two")

    assert budget.used == 100
    with pytest.raises(FrameError, match="client memory is used up") as caught:
        budget.take(1, "three")
    assert caught.value.detail.startswith("with three, open transactions, ")
    assert "take 101 bytes of memory, and max-client-memory is 100" in caught.value.detail


def test_what_waits_leaves_less_room_but_is_not_refused() -> None:
    """It is not the fault of who gives something back."""
    waiting = 0
    budget = Budget(100, lambda: waiting)
    budget.take(50, "one")
    waiting = 51
    budget.take(-10, "a batch that was closed")
    budget.take(9, "two")

    waiting = 60
    budget.take(0, "what takes nothing")
    budget.take(-1, "a batch that was closed")

    with pytest.raises(FrameError):
        budget.take(1, "three")


def _send_in_transactions(client: Client, number: int) -> None:
    client.do("BEGIN", transaction=number)
    client.do("SEND", b"x" * 10_000, destination="/queue/a", transaction=number)


def _begin(client: Client, number: int) -> None:
    client.do("BEGIN", transaction=f"{number:09000d}")


def _subscribe(client: Client, number: int) -> None:
    client.do("SUBSCRIBE", destination=f"/topic/{number:0900d}", id=number)


def _subscribe_by_id(client: Client, number: int) -> None:
    client.do("SUBSCRIBE", destination="/topic/a", id=f"{number:0900d}")


def _make_reply_queue(client: Client, number: int) -> None:
    client.receive(frame("SEND", {"destination": "/queue/a", "reply-to": f"/temp-queue/{number:0900d}"}, b"x"))


def _send_small(client: Client, number: int) -> None:
    if not number:
        client.do("BEGIN", transaction="t")
    client.do("SEND", b"x", destination="/queue/a", transaction="t", n=number)


@pytest.mark.row("T09")
@pytest.mark.parametrize(
    "fill", [_send_in_transactions, _begin, _subscribe, _subscribe_by_id, _make_reply_queue, _send_small]
)
def test_whatever_a_client_keeps_in_its_process_ends_at_the_limit(fill: Callable[[Client, int], None]) -> None:
    """The ERROR names the limit, long before any count is met."""
    client = connected()
    for number in range(1_000):
        fill(client, number)
        client.told()
        client.pass_fence()
        if client.session.ending.is_over:
            break

    assert 2 < number < 100
    assert b"max-client-memory is 100,000" in client.read()[-1].body


@pytest.mark.row("T09")
def test_acknowledgements_in_transactions_count() -> None:
    """They are kept until COMMIT."""
    client = connected(20_000)
    token = client.subscribe("/queue/a", "client-individual")
    client.offer(sent("/queue/a", *[b"x"] * 100), token)
    client.do("BEGIN", transaction="t")
    for got in client.read():
        client.do("ACK", id=got["ack"], transaction="t")

    assert b"max-client-memory" in client.error().body


@pytest.mark.parametrize("end", ["COMMIT", "ABORT"])
def test_what_ends_gives_all_of_it_back(end: str) -> None:
    """A client that goes on like this for ever never meets the limit."""
    client = connected()
    token = client.subscribe("/queue/a", "client-individual")
    before = used(client)
    for number in range(50):
        client.offer(sent("/queue/a", b"x"), token)
        got = client.read()[-1]
        client.do("SUBSCRIBE", destination="/topic/" + "x" * 5_000, id="2")
        client.do("BEGIN", transaction=number)
        client.do("ACK", id=got["ack"], transaction=number)
        for size in (1, 50_000, 1):
            client.do("SEND", b"x" * size, destination="/queue/a", transaction=number, n=size)
        client.do(end, transaction=number)
        client.do("UNSUBSCRIBE", id="2")
        client.told()
        client.pass_fence()

    assert client.session.is_open
    assert used(client) == before


def test_messages_that_wait_for_an_ack_count() -> None:
    """The client has let them lie: it gets no room for more beside them."""
    client = connected()
    client.subscribe("/topic/a", "client", prefetch_count=1)
    client.forward(sent("/topic/a", b"1"))
    client.forward(sent("/topic/a", b"x" * 90_000))
    client.read()
    _send_in_transactions(client, 1)

    assert b"max-client-memory" in client.error().body


@pytest.mark.parametrize("is_alike", [True, False])
def test_the_weights_are_those_of_memory(is_alike: bool) -> None:
    """Many small frames in a transaction, with one header block or each with its own."""
    client = connected(2**30)
    client.do("BEGIN", transaction="t")
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(5_000):
            client.do("SEND", b"x" * 50, destination="/queue/a", transaction="t", n=0 if is_alike else number)
        client.session.parser._known.clear()
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken < 1.2 * used(client)
    assert used(client) < 20 * 5_000 * 50


def test_the_counts_that_are_permitted_by_default_fit() -> None:
    """10,000 subscriptions, 1,000 open transactions and 100,000 frames in one are for programs, not for attacks."""
    client = Client()
    client.connect()
    for number in range(10_000):
        client.do("SUBSCRIBE", destination=f"/topic/prices.{number}", id=number)
    client.told()
    for number in range(1_000):
        client.do("BEGIN", transaction=number)
    send = frame("SEND", {"destination": "/queue/a", "transaction": 7}, b"x" * 100)
    for _ in range(100):
        client.receive(send * 1_000)
    client.do("COMMIT", transaction=7)

    assert [e.kind for e in client.told()] == [Kind.TRANSACTION]
    client.do("SUBSCRIBE", destination="/topic/a", id="one more")
    assert "max-subscriptions is 10,000" in client.session.reason
