"""Offers ahead of credit: kept, and claimed in the turn in which an ACK comes."""

from __future__ import annotations

import pytest

from forkbroker.session.queue_delivery import OFFER_ROOM
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.fields import MAX_AHEAD
from forkbroker.wire.kinds import Kind, Outcome

from .clients import connected, kinds, settled
from .play import Client, sent


def keeping(count: int, ack: str = "client-individual") -> tuple[Client, int]:
    """A client with prefetch 1 that has message 1, and keeps so many: offers 2, 3, …"""
    client = connected()
    token = client.subscribe("/queue/a", ack, prefetch_count=1)
    client.offer(sent("/queue/a", b"1"), token, serial=1)
    for number in range(count):
        client.offer(sent("/queue/a", b"%d" % (2 + number)), token, serial=2 + number, kind=Kind.AHEAD)
    assert kinds(client) == [Kind.CLAIMED]
    client.read()
    return client, token


def ack(client: Client, command: str = "ACK", **headers: object) -> list[bytes]:
    """The client settles its last message: what it gets by that."""
    last = [got for got in client.inbox if got.command == "MESSAGE"][-1]
    client.do(command, id=last["ack"], **headers)
    return [got.body for got in client.read()]


def answers(told: list[Envelope]) -> list[tuple[Kind, int]]:
    """What became of which offer; a claim may be told with what was settled."""
    found = [(one.kind, one.number) if one.kind is not Kind.SETTLE else (Kind.CLAIMED, one.serial) for one in told]
    return [answer for answer in found if answer[0] in (Kind.CLAIMED, Kind.LOST, Kind.PASSED) and answer[1]]


@pytest.mark.parametrize(
    ("mode", "prefetch", "keeps"),
    [
        ("client-individual", {"prefetch_count": 1}, MAX_AHEAD),
        ("client", {"prefetch_count": 1}, MAX_AHEAD),
        ("auto", {"prefetch_count": 1}, 0),
        ("client", {"prefetch_count": 2}, 0),
        ("client", {"credit": "1,1000"}, 0),
    ],
)
def test_who_waits_for_each_message_keeps_some(mode: str, prefetch: dict[str, object], keeps: int) -> None:
    """The parent is told how many."""
    client = connected()
    client.do("SUBSCRIBE", destination="/queue/a", ack=mode, id="1", **prefetch)
    (subscribe,) = client.told()

    assert subscribe.index == keeps


def test_what_is_kept_is_claimed_when_the_client_acknowledges() -> None:
    """In its order, one for each ACK, and told with it."""
    client, _ = keeping(2)

    assert client.claims == [1]
    assert ack(client) == [b"2"]
    told = client.told()
    assert ack(client) == [b"3"]
    assert [one.kind for one in told] == [Kind.SETTLE]
    assert answers(told) == [(Kind.CLAIMED, 2)]
    assert client.claims == [1, 2, 3]


def test_an_ack_can_wait_while_enough_is_kept() -> None:
    """So the parent is woken once for several; one with a receipt is told at once."""
    client, _ = keeping(MAX_AHEAD)
    ack(client)
    client.session.end_turn(client.now)
    first = client.session.upward.is_urgent, client.session.upward.has_claimed
    ack(client, receipt="r")
    client.session.end_turn(client.now)

    assert first == (False, True)
    assert client.session.upward.is_urgent
    assert settled(client) == [(1, 2, Outcome.ACKNOWLEDGED)]


def test_an_ack_is_told_at_once_when_half_is_left() -> None:
    """The parent has more."""
    client, _ = keeping(MAX_AHEAD)
    urgent = []
    for _ in range(MAX_AHEAD // 2 + 1):
        ack(client)
        urgent.append(client.session.upward.is_urgent)

    assert urgent == [False] * (MAX_AHEAD // 2) + [True]


def test_what_somebody_else_has_is_passed_over() -> None:
    """The parent has recalled it, and its word is on the way."""
    values = [True, False, True]
    client = Client(try_claim=lambda slot: values.pop(0))
    client.connect()
    token = client.subscribe("/queue/a", "client-individual", prefetch_count=1)
    client.offer(sent("/queue/a", b"1"), token)
    for number in (2, 3):
        client.offer(sent("/queue/a", b"%d" % number), token, serial=number, kind=Kind.AHEAD)
    client.read()

    assert ack(client) == [b"3"]
    assert answers(client.told()) == [(Kind.CLAIMED, 1), (Kind.LOST, 2), (Kind.CLAIMED, 3)]


def test_a_withdrawal_is_answered_once() -> None:
    """What is not kept was answered before."""
    client, token = keeping(2)
    client.down(Kind.WITHDRAW, token=token, number=3)
    first = answers(client.told())
    client.down(Kind.WITHDRAW, token=token, number=3)
    client.down(Kind.WITHDRAW, token=token + 1, number=2)

    assert first == [(Kind.LOST, 3)]
    assert kinds(client) == []
    assert ack(client) == [b"2"]
    assert ack(client) == []


@pytest.mark.parametrize(("headers", "goes_on"), [({}, False), ({"requeue": "false"}, True)])
def test_a_nack_gives_back_what_is_kept(headers: dict[str, str], goes_on: bool) -> None:
    """What it returns is older, also than what the parent has offered ahead before it heard of it."""
    client, token = keeping(2)
    got = ack(client, "NACK", **headers)
    told = client.told()
    if goes_on:
        assert got == [b"2"]
        return
    client.offer(sent("/queue/a", b"4"), token, serial=4, kind=Kind.AHEAD)
    late = answers(client.told())
    client.offer(sent("/queue/a", b"1"), token, serial=1, deliveries=1)
    client.offer(sent("/queue/a", b"2"), token, serial=2, kind=Kind.AHEAD)
    again = [one.body for one in client.read()]

    assert got == []
    assert [one.kind for one in told] == [Kind.LOST, Kind.LOST, Kind.SETTLE]
    assert late == [(Kind.LOST, 4)]
    assert again == [b"1"]
    assert ack(client) == [b"2"]


def test_acks_in_a_transaction_give_credit_at_commit() -> None:
    """Not before."""
    client, _ = keeping(1)
    client.do("BEGIN", transaction="t")
    before = ack(client, transaction="t")
    client.do("COMMIT", transaction="t")

    assert before == []
    assert [got.body for got in client.read()] == [b"2"]


def test_more_credit_is_used_at_once() -> None:
    """And the parent is told that nothing is kept any more."""
    client, _ = keeping(3)
    client.do("SUBSCRIBE", destination="/queue/a", ack="client-individual", id="1", prefetch_count=3)
    told = client.told()

    assert [got.body for got in client.read()] == [b"2", b"3"]
    assert (told[-1].kind, told[-1].index) == (Kind.SUBSCRIBE, 0)


def test_a_client_that_does_not_read_passes_what_is_kept() -> None:
    """It would only wait here."""
    client, token = keeping(0)
    client.offer(sent("/queue/a", bytes(OFFER_ROOM)), token, serial=2, kind=Kind.AHEAD)
    client.offer(sent("/queue/a", b"x"), token, serial=3, kind=Kind.AHEAD)
    last = client.inbox[-1]["ack"]
    client.do("ACK", id=last)
    big = client.session.unwritten.pending
    name = last.rsplit("-", 1)[0] + f"-{int(last.rsplit('-', 1)[1]) + 1}"
    client.do("ACK", id=name)

    assert big >= OFFER_ROOM
    assert answers(client.told()) == [(Kind.CLAIMED, 2), (Kind.PASSED, 3)]


@pytest.mark.parametrize("end", ["UNSUBSCRIBE", "DISCONNECT", "drain", "error", "shutdown"])
def test_who_ends_leaves_what_is_kept_to_others(end: str) -> None:
    """And keeps nothing more."""
    client, token = keeping(2)
    if end == "shutdown":
        client.down(Kind.QUIESCE, token=1)
    elif end == "error":
        client.do("NONSENSE")
    elif end == "DISCONNECT":
        client.do("DISCONNECT")
    else:
        client.do("UNSUBSCRIBE", id="1", **({"drain": "true"} if end == "drain" else {}))
    first = answers(client.told())
    client.offer(sent("/queue/a", b"4"), token, serial=4, kind=Kind.AHEAD)

    assert first == [(Kind.PASSED, 2), (Kind.PASSED, 3)]
    assert answers(client.told()) == [(Kind.PASSED, 4)]
