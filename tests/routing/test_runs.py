"""Runs of messages."""

from __future__ import annotations

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.runs import ENVELOPE_OVERHEAD, UNSETTLED_OVERHEAD, Run, make_run
from forkbroker.wire.details import Details
from forkbroker.wire.envelope import pack_pieces
from forkbroker.wire.kinds import Flag, Kind

from .simulation import make, make_send

UNIFORM = [b"aa", b"bb", b"cc", b"dd"]
DIFFERENT = [b"a", b"", b"cccc", b"dd"]


def bodies_of(run: Run) -> list[bytes]:
    return [bytes(piece) for piece in run.envelope.pieces()[run.first : run.first + run.count]]


@pytest.mark.parametrize("bodies", [UNIFORM, DIFFERENT])
def test_a_run_is_divided_without_touching_its_envelope(bodies: list[bytes]) -> None:
    """Both parts keep what they have in common, and share serials, bodies and octets."""
    run = make_run(make_send(b"/queue/a", bodies), 100)
    run.deliveries, run.details = 3, Details(origin=b"/queue/o")
    memory = run.memory

    front = run.split(3)

    assert (front.serial, front.count, bodies_of(front)) == (100, 3, bodies[:3])
    assert (run.serial, run.count, bodies_of(run)) == (103, 1, bodies[3:])
    assert (front.octets, run.octets) == (sum(map(len, bodies[:3])), len(bodies[3]))
    assert (front.deliveries, front.details) == (run.deliveries, run.details) == (3, Details(origin=b"/queue/o"))
    assert front.memory + run.memory == memory


@pytest.mark.parametrize(("octets", "expected"), [(0, 1), (1, 1), (4, 2), (5, 3), (6, 3), (7, 4), (100, 4)])
def test_as_many_as_fit_but_one_at_least(octets: int, expected: int) -> None:
    """Counted in octets of bodies."""
    run = make_run(make_send(b"/queue/a", [b"a", b"bbb", b"c", b"dd"]), 1)

    assert run.fitting(4, octets) == expected
    assert make_run(make_send(b"/queue/a", UNIFORM), 1).fitting(3, 4) == 2


def test_empty_bodies_use_memory_too() -> None:
    """Else a queue of them had no limit."""
    run = make_run(make_send(b"/queue/a", [b""] * 10), 1)

    assert run.octets == 0
    assert run.memory >= ENVELOPE_OVERHEAD


def test_lengths_that_do_not_add_up_are_an_error() -> None:
    """At once, not when the messages are offered."""
    with pytest.raises(EnvelopeError):
        make_run(make(Kind.SEND, destination=b"/queue/a", count=2, payload=[b"\0\0\0\1"]), 1)


def test_a_new_run_has_no_past() -> None:
    """Nobody holds it, has lost it, or is suspected for it; and its bodies are there."""
    run = make_run(make_send(b"/queue/a", [b"x"]), 1)

    assert (run.deliveries, run.held_until, run.is_stub, run.avoid, run.alibis) == (0, 0.0, False, (), 0)


def test_both_parts_have_the_same_past() -> None:
    """Who held them until when, who lost them, and how many crashes do not count against them."""
    run = make_run(make_send(b"/queue/a", UNIFORM), 1)
    run.held_until, run.is_stub, run.avoid, run.alibis = 7.5, True, ((Peer(3), 4),), 2

    front = run.split(1)

    for part in (front, run):
        assert (part.held_until, part.is_stub, part.avoid, part.alibis) == (7.5, True, ((Peer(3), 4),), 2)


def test_a_cost_is_memory_and_what_holding_it_takes() -> None:
    """Of each message of the run, be the run as long as it was or a part of it."""
    run = make_run(make_send(b"/queue/a", DIFFERENT), 1)
    whole = run.cost
    assert whole == run.memory + 4 * UNSETTLED_OVERHEAD == run.cost_of(4)
    assert run.cost_of(1) == 1 + run.overhead + UNSETTLED_OVERHEAD

    assert run.split(1).cost + run.cost == whole


def test_as_many_as_can_be_paid_for_perhaps_none() -> None:
    """To the octet, and never more than are asked for."""
    run = make_run(make_send(b"/queue/a", DIFFERENT), 1)

    for count in range(1, 5):
        assert run.affordable(4, run.cost_of(count)) == count
        assert run.affordable(4, run.cost_of(count) - 1) == count - 1
        assert run.affordable(count, 10**6) == count
        assert run.affordable(count, run.cost_of(4) - 1) == min(count, 3)


def test_what_moves_out_leaves_an_empty_run() -> None:
    """The envelope goes with the messages: nothing of it is kept by the place where they stood."""
    run = make_run(make_send(b"/queue/a", DIFFERENT), 7, Details(priority=2))
    run.deliveries = 3
    run.split(1)
    envelope, memory = run.envelope, run.memory

    moved = run.move_out()

    assert (moved.envelope, moved.first, moved.count, moved.serial) == (envelope, 1, 3, 8)
    assert (moved.octets, moved.memory, moved.deliveries, moved.details) == (6, memory, 3, Details(priority=2))
    assert (run.count, run.octets, run.memory) == (0, 0, 0)
    assert run.envelope is not envelope


@pytest.mark.parametrize("recovered", [0, Flag.RECOVERED])
def test_a_stub_keeps_the_place_and_the_size_and_no_body(recovered: int) -> None:
    """And whether it may have been delivered, as well: that stood in the envelope."""
    flags, payload = pack_pieces(DIFFERENT)
    page = make(Kind.PAGE, destination=b"/queue/a", count=4, index=30, flags=flags | recovered, payload=payload)
    run = make_run(page, 9)
    run.split(2)
    octets, memory = run.octets, run.memory

    run.drop_bodies()

    assert run.is_stub
    assert len(run.envelope.raw) < 100
    assert run.envelope.flags & Flag.RECOVERED == recovered
    assert (run.serial, run.count, run.octets, run.memory) == (11, 2, octets, memory)
    front = run.split(1)
    assert (front.octets, run.octets) == (octets // 2, octets // 2)


def test_a_revived_run_is_as_the_store_says() -> None:
    """Sizes are exact again; what became of the messages is kept."""
    run = make_run(make_send(b"/queue/a", [b"aa", b"bb"]), 5)
    run.deliveries = 4
    guessed = run.memory
    run.drop_bodies()
    page = make_run(make_send(b"/queue/a", [b"a", b"b" * 700, b"c" * 500]), 4)
    page.split(1)

    more = run.revive(page)

    assert not run.is_stub
    assert (bodies_of(run), run.octets, run.overhead) == ([b"b" * 700, b"c" * 500], 1200, page.overhead)
    assert (run.memory, more) == (page.memory, page.memory - guessed)
    assert (run.serial, run.count, run.deliveries) == (5, 2, 4)
