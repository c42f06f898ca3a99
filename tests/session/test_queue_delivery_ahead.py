"""Offers ahead of credit: kept, and claimed in the turn in which an ACK comes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from forkbroker.session.queue_delivery import OFFER_ROOM
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.fields import MAX_AHEAD
from forkbroker.wire.kinds import Kind, Outcome

from .clients import connected, kinds, settled
from .play import Client, sent

DONE = Outcome.ACKNOWLEDGED


FIRST_SLOT = 10
"""Of what is offered ahead: the slot of the message with serial 2, and so on."""


def keeping(count: int, ack: str = "client-individual", taken: Sequence[int] = ()) -> tuple[Client, int]:
    """A client with prefetch 1 that has message 1, and keeps so many: offer 2, with the messages 2, 3, …

    `taken`: the messages that others have.
    """
    tried: list[int] = []

    def try_claim(slot: int) -> bool:
        tried.append(slot)
        return slot - FIRST_SLOT + 2 not in taken

    client = Client(try_claim=try_claim)
    client.claims = tried
    client.connect()
    token = client.subscribe("/queue/a", ack, prefetch_count=1)
    client.offer(sent("/queue/a", b"1"), token, serial=1, slot=1)
    if count:
        offer_ahead(client, token, 2, count)
    assert kinds(client) == [Kind.CLAIMED]
    client.read()
    return client, token


def offer_ahead(client: Client, token: int, first: int, count: int = 1) -> None:
    """So many messages in one offer, from this one on."""
    bodies = [b"%d" % number for number in range(first, first + count)]
    client.offer(sent("/queue/a", *bodies), token, serial=first, kind=Kind.AHEAD, slot=FIRST_SLOT + first - 2)


def ack(client: Client, command: str = "ACK", **headers: object) -> list[bytes]:
    """The client settles its last message: what it gets by that."""
    last = [got for got in client.inbox if got.command == "MESSAGE"][-1]
    client.do(command, id=last["ack"], **headers)
    return [got.body for got in client.read()]


def answers(told: list[Envelope]) -> list[tuple[Kind, int, int]]:
    """What the parent is told of the offers ahead: CLAIMED, with each serial, and LOST or PASSED, with how many were
    tried; a claim may be told with what was settled."""
    found = []
    for one in told:
        if one.kind is Kind.SETTLE and one.serial > 1:
            serials = [serial + n for serial, count, _ in one.settlements() for n in range(count)]
            found += [(Kind.CLAIMED, one.serial, serial) for serial in serials if serial > 1]
        elif one.kind in (Kind.CLAIMED, Kind.LOST, Kind.PASSED) and one.number > 1:
            found.append((one.kind, one.number, one.serial or one.index))
    return found


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
    client, _ = keeping(3)

    assert client.claims == [1]
    assert ack(client) == [b"2"]
    first = client.told()
    assert ack(client) == [b"3"]
    second = client.told()
    assert (answers(first), answers(second)) == ([(Kind.CLAIMED, 2, 2)], [(Kind.CLAIMED, 2, 3)])
    assert [one.kind for one in second] == [Kind.CLAIMED, Kind.SETTLE]
    assert client.claims == [1, 10, 11]


def test_what_was_claimed_and_settled_is_told_in_one_word() -> None:
    """However many messages it was, and that all were tried comes behind it; with the last one that is clear."""
    client, _ = keeping(4, taken=[5])
    for _ in range(4):
        ack(client)
    told = client.told()

    assert [one.kind for one in told] == [Kind.SETTLE, Kind.LOST]
    assert (told[0].serial, told[0].settlements()) == (2, [(1, 4, DONE)])
    assert (told[1].number, told[1].index) == (2, 4)


def test_a_younger_claim_is_told_behind_what_was_settled_before() -> None:
    """If it is that of the last message, the parent expects nothing more behind it."""
    client, _ = keeping(3)
    for _ in range(3):
        ack(client)
    told = client.told()

    assert [one.kind for one in told] == [Kind.SETTLE, Kind.CLAIMED]
    assert told[0].settlements() == [(1, 3, DONE)]
    assert (told[1].number, told[1].serial) == (2, 4)


def test_messages_of_two_offers_are_told_apart() -> None:
    """A word names one offer."""
    client, token = keeping(2)
    offer_ahead(client, token, 4, 2)
    for _ in range(5):
        ack(client)
    told = [one for one in client.told() if one.kind is Kind.SETTLE]

    assert [(one.serial, one.settlements()) for one in told] == [(2, [(1, 3, DONE)]), (3, [(4, 2, DONE)])]


def test_what_has_no_messages_left_is_told_when_another_is_used_up_as_well() -> None:
    """Its slots are missing in the parent."""
    client, token = keeping(2, taken=[3, 5])
    offer_ahead(client, token, 4, 2)
    offer_ahead(client, token, 6, MAX_AHEAD)
    urgent = []
    for _ in range(3):
        client.session.upward.is_urgent = False
        ack(client)
        urgent.append(client.session.upward.is_urgent)

    assert urgent == [False, False, True]


def test_who_has_nothing_more_says_so_at_once() -> None:
    """The client would wait."""
    client, _ = keeping(4, taken=[3, 4, 5])
    ack(client)
    client.told()
    got = ack(client)

    assert got == []
    assert client.session.upward.is_urgent
    assert answers(client.told()) == [(Kind.LOST, 2, 4)]


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
    assert settled(client) == [(1, 2, DONE)]


def test_an_ack_is_told_at_once_when_half_is_left() -> None:
    """Once: the parent has more, or it has nothing."""
    client, token = keeping(MAX_AHEAD)
    urgent = []
    for number in range(MAX_AHEAD):
        client.session.upward.is_urgent = False
        ack(client)
        urgent.append(client.session.upward.is_urgent)
        if number == MAX_AHEAD - 3:
            offer_ahead(client, token, 10, MAX_AHEAD // 2 - 2)

    half = MAX_AHEAD // 2
    assert urgent == [*[False] * half, True, False, True, False]


def test_what_somebody_else_has_is_passed_over() -> None:
    """Another consumer has it, or the parent, whose word is on the way."""
    client, _ = keeping(5, taken=[2, 4, 6])

    assert ack(client) == [b"3"]
    assert ack(client) == [b"5"]
    assert ack(client) == []
    assert answers(client.told()) == [(Kind.CLAIMED, 2, 3), (Kind.CLAIMED, 2, 5), (Kind.LOST, 2, 5)]
    assert client.claims == [1, 10, 11, 12, 13, 14]


def test_a_withdrawal_is_answered_once() -> None:
    """What is not kept was answered before."""
    client, token = keeping(2)
    offer_ahead(client, token, 4)
    client.down(Kind.WITHDRAW, token=token, number=3)
    first = answers(client.told())
    client.down(Kind.WITHDRAW, token=token, number=3)
    client.down(Kind.WITHDRAW, token=token + 1, number=2)

    assert first == [(Kind.LOST, 3, 0)]
    assert kinds(client) == []
    assert ack(client) == [b"2"]
    client.down(Kind.WITHDRAW, token=token, number=2)
    assert answers(client.told()) == [(Kind.CLAIMED, 2, 2), (Kind.LOST, 2, 1)]
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
    offer_ahead(client, token, 4)
    late = answers(client.told())
    client.offer(sent("/queue/a", b"1"), token, serial=1, deliveries=1)
    offer_ahead(client, token, 2)
    again = [one.body for one in client.read()]

    assert got == []
    assert [one.kind for one in told] == [Kind.SETTLE, Kind.LOST]
    assert late == [(Kind.LOST, 3, 0)]
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
    assert [(one.kind, one.index) for one in told] == [(Kind.CLAIMED, 0), (Kind.CLAIMED, 0), (Kind.SUBSCRIBE, 0)]


def test_a_client_that_does_not_read_passes_what_is_kept() -> None:
    """It would only wait here."""
    client, token = keeping(0)
    client.offer(sent("/queue/a", bytes(OFFER_ROOM)), token, serial=2, kind=Kind.AHEAD)
    offer_ahead(client, token, 3)
    last = client.inbox[-1]["ack"]
    client.do("ACK", id=last)
    big = client.session.unwritten.pending
    name = last.rsplit("-", 1)[0] + f"-{int(last.rsplit('-', 1)[1]) + 1}"
    client.do("ACK", id=name)

    assert big >= OFFER_ROOM
    assert answers(client.told()) == [(Kind.CLAIMED, 2, 2), (Kind.PASSED, 3, 0)]


def test_who_has_room_again_says_so_behind_what_it_has_passed() -> None:
    """In the same turn. The parent offers nothing to a subscription that has passed, before it hears READY."""
    client, token = keeping(0)
    client.offer(sent("/queue/a", bytes(OFFER_ROOM)), token, serial=2, kind=Kind.AHEAD)
    offer_ahead(client, token, 3)
    last = client.inbox[-1]["ack"]
    client.do("ACK", id=last)
    name = last.rsplit("-", 1)[0] + f"-{int(last.rsplit('-', 1)[1]) + 1}"
    client.do("ACK", id=name)
    client.read()
    told = [one.kind for one in client.told()]

    assert told.index(Kind.PASSED) < told.index(Kind.READY)


@pytest.mark.parametrize("end", ["UNSUBSCRIBE", "DISCONNECT", "drain", "error", "shutdown"])
def test_who_ends_leaves_what_is_kept_to_others(end: str) -> None:
    """And keeps nothing more."""
    client, token = keeping(2)
    offer_ahead(client, token, 4)
    if end == "shutdown":
        client.down(Kind.QUIESCE, token=1)
    elif end == "error":
        client.do("NONSENSE")
    elif end == "DISCONNECT":
        client.do("DISCONNECT")
    else:
        client.do("UNSUBSCRIBE", id="1", **({"drain": "true"} if end == "drain" else {}))
    first = answers(client.told())
    offer_ahead(client, token, 5)

    assert first == [(Kind.PASSED, 2, 0), (Kind.PASSED, 3, 0)]
    assert answers(client.told()) == [(Kind.PASSED, 4, 0)]
