"""Persistent messages that a topic without subscribers loses."""

from __future__ import annotations

from forkbroker.routing.topics.strays import Strays

from .twins import carry


def test_each_name_is_told_once() -> None:
    """With what the administrator, or the client, can do about it."""
    notes: list[str] = []
    strays = Strays(notes)
    for _ in range(3):
        strays.note(b"/topic/jobs")
    strays.note(b"/topic/other")

    assert len(notes) == 2
    assert notes[0] == (
        "topic /topic/jobs: a persistent message had no subscriber and was dropped; if jobs is meant to be a queue, "
        "send to /queue/jobs, or see --bare-destinations"
    )


def test_names_without_end_take_no_memory() -> None:
    """A client that invents names may hear of one twice."""
    strays = Strays([])
    for number in range(2_000):
        strays.note(b"/topic/%01000d" % number)

    assert 100 < len(strays._told) < 300


def test_another_router_tells_of_a_name_once_more() -> None:
    """What was told is not worth handing it over."""
    notes: list[str] = []
    strays = Strays(notes)
    strays.note(b"/topic/jobs")

    carry(strays, Strays(notes)).note(b"/topic/jobs")

    assert len(notes) == 2
