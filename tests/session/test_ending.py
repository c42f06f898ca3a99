"""How a connection ends, and what the parent learns."""

from __future__ import annotations

import math

import pytest

from forkbroker.session.ending import Ending
from forkbroker.wire.fields import MAX_REASON
from forkbroker.wire.kinds import Flag, Kind

from .play import joined


def states(ending: Ending) -> tuple[bool, bool, float]:
    return ending.has_begun, ending.is_over, ending.deadline


def test_an_end_begins_and_then_is_over() -> None:
    """Until then there is a time for it."""
    ending = Ending()
    seen = [states(ending)]
    ending.begin("client sent DISCONNECT", 15.0)
    seen.append(states(ending))
    ending.close()
    seen.append(states(ending))

    assert seen == [(False, False, math.inf), (True, False, 15.0), (True, True, 15.0)]
    assert ending.reason == "client sent DISCONNECT"


def test_the_first_reason_counts_and_the_last_time() -> None:
    """What fails while a connection ends is not why it ends; but what can't be helped is."""
    ending = Ending()
    ending.begin("client sent DISCONNECT", 15.0)
    ending.begin("broker is shutting down", 20.0)
    first = (ending.reason, ending.deadline, ending.is_over)
    ending.finish("slow subscriber")

    assert first == ("client sent DISCONNECT", 20.0, False)
    assert (ending.reason, ending.has_begun, ending.is_over) == ("slow subscriber", True, True)


def test_an_end_without_a_beginning_is_over_at_once() -> None:
    """Nothing was accepted that had to be answered."""
    ending = Ending()
    ending.finish("client left before it connected")

    assert (ending.has_begun, ending.is_over) == (True, True)


@pytest.mark.parametrize(
    ("is_warning", "dropped", "flags"), [(False, 0, 0), (True, 0, Flag.WARNING), (False, 1, Flag.WARNING)]
)
def test_leaving_has_reason_and_figures(is_warning: bool, dropped: int, flags: int) -> None:
    """Lost messages are worth a look in any case."""
    ending = Ending()
    ending.is_warning = is_warning
    ending.finish("x" * MAX_REASON + "yz")
    leaving = joined(ending.pack_leaving(received=5, delivered=6, dropped=dropped))

    assert (leaving.kind, leaving.flags, leaving.count) == (Kind.LEAVING, flags, dropped)
    assert (leaving.number, leaving.serial, bytes(leaving.block)) == (5, 6, b"x" * MAX_REASON)


def test_the_count_of_dropped_messages_ends_where_its_field_does() -> None:
    """The rest of a long life is not worth an error."""
    counts = [joined(Ending().pack_leaving(0, 0, dropped)).count for dropped in (2**32 - 1, 2**32, 2**32 + 5)]

    assert counts == [2**32 - 1] * 3
