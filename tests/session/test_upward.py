"""Envelopes for the parent: batches, settlements and fences, in the order of the frames."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from forkbroker.session.upward import SendPlan, Upward
from forkbroker.wire.details import Wishes
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import HEEDED, Flag, Kind, Outcome

from .play import joined


def upward() -> Upward:
    return Upward(b"s", count(1))


def plan(
    destination: bytes = b"/queue/a", lines: bytes = b"destination:/queue/a\n", *, adds_length: bool = False
) -> SendPlan:
    return SendPlan(destination, lines, None, adds_length, is_escaped=b"\\" in lines)


def take(up: Upward) -> list[Envelope]:
    return [joined(buffers) for buffers in up.take()]


def test_consecutive_sends_of_one_header_block_are_one_batch() -> None:
    """The block stands once."""
    up, same = upward(), plan()
    up.send(same, [b"1"])
    up.send(same, [b"2", b"33"])
    (envelope,) = take(up)

    assert (envelope.kind, envelope.count, envelope.block) == (Kind.SEND, 3, b"-s-1\ndestination:/queue/a\n\n")
    assert envelope.pieces() == [b"1", b"2", b"33"]


def test_short_runs_of_several_header_blocks_are_mixed() -> None:
    """Each piece has lines of its own; one with a backslash marks all."""
    up = upward()
    up.send(plan(lines=b"destination:/queue/a\n"), [b"1"])
    up.send(plan(lines=b"destination:/queue/a\nh:\\c\n", adds_length=True), [b"22"])
    (envelope,) = take(up)

    assert envelope.flags & Flag.MIXED
    assert envelope.flags & Flag.ESCAPED
    assert envelope.pieces() == [
        b"destination:/queue/a\n\n1",
        b"destination:/queue/a\nh:\\c\ncontent-length:2\n\n22",
    ]


def test_header_blocks_without_a_backslash_mark_nothing() -> None:
    """Nor is there a fence that nobody has asked for."""
    up = upward()
    for lines in (b"destination:/queue/a\n", b"destination:/queue/a\nh:1\n"):
        up.send(plan(lines=lines), [b"1"])
    (envelope,) = take(up)

    assert envelope.flags == Flag.MIXED


def test_long_runs_large_bodies_and_other_destinations_travel_alone() -> None:
    """And a batch has 1,024 messages at most."""
    up, one, two = upward(), plan(), plan(lines=b"destination:/queue/a\nh:1\n")
    up.send(one, [b"1"] * 8)
    up.send(two, [b"1"])
    up.send(two, [bytes(40_000)])
    up.send(two, [b"1"])
    up.send(plan(b"/queue/b"), [b"1"])
    other = plan(b"/queue/c")
    up.send(other, [b"1"] * 1000)
    up.send(other, [b"1"] * 25)

    assert [(e.destination, e.count) for e in take(up)] == [
        (b"/queue/a", 8),
        (b"/queue/a", 1),
        (b"/queue/a", 1),
        (b"/queue/a", 1),
        (b"/queue/b", 1),
        (b"/queue/c", 1000),
        (b"/queue/c", 25),
    ]


def test_only_plans_that_ask_for_the_same_share_an_envelope() -> None:
    """Flags and section are the envelope's."""
    up = upward()
    lines = b"destination:/queue/a\n"
    wished = Wishes(ttl=5).pack()
    for flags, section in ((0, b""), (0, b""), (0, wished), (Flag.PERSISTENT, wished), (Flag.PERSISTENT, wished)):
        up.send(SendPlan(b"/queue/a", lines, None, False, is_escaped=False, flags=flags, section=section), [b"1"])

    assert [(e.count, e.flags & Flag.PERSISTENT, e.wishes.ttl) for e in take(up)] == [
        (2, 0, 0),
        (1, 0, 5),
        (2, Flag.PERSISTENT, 5),
    ]


def test_single_messages_are_one_envelope_each() -> None:
    """Between others, and with a fence behind the last of them."""
    up = upward()
    single = SendPlan(
        b"/queue/a", b"", None, False, is_escaped=False, section=Wishes(dedup_id=b"x").pack(), is_single=True
    )
    up.send(plan(), [b"1"])
    up.send(single, [b"2", b"3"])
    number = up.fence()
    up.send(plan(), [b"4"])

    assert [(e.count, e.pieces()[0], e.number) for e in take(up)] == [
        (1, b"1", 0),
        (1, b"2", 0),
        (1, b"3", number),
        (1, b"4", 0),
    ]


def test_lengths_that_agree_are_written_once() -> None:
    """As part of the block."""
    up, adding = upward(), plan(adds_length=True)
    up.send(adding, [b"12", b"34"])
    up.request(pack(Kind.READY))
    up.send(adding, [b"12", b"3"])
    uniform, _, different = take(up)

    assert uniform.block.endswith(b"content-length:2\n\n")
    assert different.flags & Flag.MIXED


def test_settlements_of_one_subscription_become_ranges() -> None:
    """Consecutive serials of one outcome are one entry, another subscription is another envelope."""
    up = upward()
    up.settle(1, [5, 6, 7], Outcome.ACKNOWLEDGED)
    up.settle(1, [8], Outcome.ACKNOWLEDGED)
    up.settle(1, [9, 20], Outcome.RELEASED)
    up.settle(2, [1], Outcome.ACKNOWLEDGED)
    up.settle_run(2, 2, 10)

    assert [(e.token, list(e.settlements())) for e in take(up)] == [
        (1, [(5, 4, Outcome.ACKNOWLEDGED), (9, 1, Outcome.RELEASED), (20, 1, Outcome.RELEASED)]),
        (2, [(1, 1, Outcome.ACKNOWLEDGED)]),
        (2, [(2, 10, Outcome.ACKNOWLEDGED)]),
    ]


def test_what_is_settled_with_a_reason_travels_alone() -> None:
    """Between what came before and what comes later, and a fence rides on it."""
    up = upward()
    up.settle(1, [1], Outcome.REJECTED)
    up.settle_with_reason(1, [2, 3, 7], Outcome.REJECTED, b"broken")
    fence = up.fence()
    up.settle(1, [8], Outcome.REJECTED)
    up.send(plan(), [b"1"])
    up.settle_with_reason(1, [9], Outcome.RELEASED, b"later")

    assert [(e.kind, e.block if e.kind is Kind.SETTLE else b"", e.number) for e in take(up)] == [
        (Kind.SETTLE, b"", 0),
        (Kind.SETTLE, b"broken", fence),
        (Kind.SETTLE, b"", 0),
        (Kind.SEND, b"", 0),
        (Kind.SETTLE, b"later", 0),
    ]


def test_the_order_of_frames_is_kept() -> None:
    """Whatever is collected is closed by what comes next."""
    up = upward()
    up.send(plan(), [b"1"])
    up.settle(1, [1], Outcome.ACKNOWLEDGED)
    up.send(plan(), [b"2"])
    up.request(pack(Kind.UNSUBSCRIBE, token=1))
    up.settle(1, [2], Outcome.ACKNOWLEDGED)

    assert [e.kind for e in take(up)] == [Kind.SEND, Kind.SETTLE, Kind.SEND, Kind.UNSUBSCRIBE, Kind.SETTLE]


def test_a_fence_rides_on_what_is_there() -> None:
    """One number for a batch, however many ask; an envelope of its own only where there is none."""
    up, same = upward(), plan()
    alone = up.fence()
    up.send(same, [b"1"])
    batch = up.fence()
    up.send(same, [b"2"])
    again = up.fence()
    up.settle(1, [1], Outcome.ACKNOWLEDGED)
    settled = up.fence()
    after = up.fence()

    assert (alone, batch, again, settled, after) == (1, 2, 2, 3, 4)
    assert [(e.kind, e.number) for e in take(up)] == [
        (Kind.FENCE, 1),
        (Kind.SEND, 2),
        (Kind.SETTLE, 3),
        (Kind.FENCE, 4),
    ]


def test_a_fence_does_not_ride_on_an_answer() -> None:
    """Its number is the offer's."""
    up = upward()
    up.answer(Kind.CLAIMED, 1, 77)
    up.fence()

    assert [(e.kind, e.number) for e in take(up)] == [(Kind.CLAIMED, 77), (Kind.FENCE, 1)]


@pytest.mark.parametrize("kind", sorted(HEEDED))
def test_a_fence_does_not_ride_on_what_the_parent_keeps(kind: Kind) -> None:
    """Only the router answers fences: the client that says DISCONNECT right behind CONNECT waits for its RECEIPT."""
    up = upward()
    up.request(pack(kind))
    up.fence()

    assert [(e.kind, e.number) for e in take(up)] == [(kind, 0), (Kind.FENCE, 1)]


def test_only_a_claim_is_not_urgent() -> None:
    """The semaphore has decided: the parent can wait for it."""
    up = upward()
    up.answer(Kind.CLAIMED, 1, 1)
    claimed = (up.is_urgent, up.has_claimed)
    up.answer(Kind.PASSED, 1, 2)
    passed = up.is_urgent
    up.take()

    assert claimed == (False, True)
    assert passed
    assert not up.is_urgent
    assert not up.has_claimed


def told(up: Upward) -> list[tuple[Kind, int, int, int]]:
    """Kind, token, number and serial of what the parent is told."""
    return [(one.kind, one.token, one.number, one.serial) for one in take(up)]


def test_a_claim_goes_with_what_is_settled_behind_it() -> None:
    """In one envelope, if both are of one subscription; with a fence, if one is asked for."""
    up, auto = upward(), upward()
    up.answer(Kind.CLAIMED, 1, 76)
    up.answer(Kind.CLAIMED, 1, 77)
    up.settle(1, [5], Outcome.ACKNOWLEDGED)
    fence = up.fence()
    auto.answer(Kind.CLAIMED, 1, 77)
    auto.settle_run(1, 5, 3)
    auto.settle_run(1, 8, 1)

    assert told(up) == [(Kind.CLAIMED, 1, 76, 0), (Kind.SETTLE, 1, fence, 77)]
    assert told(auto) == [(Kind.SETTLE, 1, 0, 77), (Kind.SETTLE, 1, 0, 0)]


@pytest.mark.parametrize(
    "between",
    [
        lambda up: up.answer(Kind.LOST, 1, 78),
        lambda up: up.request(pack(Kind.READY)),
        lambda up: up.fence(),
        lambda up: up.settle(2, [9], Outcome.ACKNOWLEDGED),
        lambda up: up.settle_with_reason(1, [9], Outcome.REJECTED, b"broken"),
        take,
    ],
)
def test_a_claim_with_something_behind_it_goes_alone(between: Callable[[Upward], object]) -> None:
    """All is told in its order."""
    up = upward()
    up.answer(Kind.CLAIMED, 1, 77)
    between(up)
    up.settle(1, [5], Outcome.ACKNOWLEDGED)

    assert all(serial == 0 for _, _, _, serial in told(up))


def test_what_is_being_collected_is_urgent() -> None:
    """Messages and settlements are told in the turn in which they came."""
    sends, settles = upward(), upward()
    sends.send(plan(), [b"1"])
    settles.settle(1, [5], Outcome.ACKNOWLEDGED)

    assert (sends.is_urgent, settles.is_urgent) == (True, True)
