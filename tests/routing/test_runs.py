"""Runs of messages."""

from __future__ import annotations

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.routing.runs import ENVELOPE_OVERHEAD, Run, make_run
from forkbroker.wire.details import Details
from forkbroker.wire.kinds import Kind

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
