"""Long work in steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import pytest

from forkbroker.routing.chores import Chores, advance, drop


def note(done: list[str], *names: str) -> Iterator[None]:
    for name in names:
        done.append(name)
        yield


def test_a_short_chore_is_done_at_once() -> None:
    """Nothing is left for the next turn."""
    chores, done = Chores(10), list[str]()
    chores.add(note(done, "a", "b"))

    assert done == ["a", "b"]
    assert not chores.all


def test_a_turn_does_its_part_of_all_chores_and_no_more() -> None:
    """The end of a chore is a step as well; they are done in the order of their coming."""
    chores, done = Chores(3), list[str]()
    chores.add(note(done, "a", "b", "c", "d"))
    chores.add(note(done, "e"))
    assert done == ["a", "b", "c"]

    chores.go_on()
    assert done == ["a", "b", "c", "d", "e"]
    assert chores
    chores.go_on()
    assert not chores.all


def test_a_chore_may_make_another_one() -> None:
    """It comes behind."""
    chores, done = Chores(10), list[str]()

    def work() -> Iterator[None]:
        chores.add(note(done, "second"))
        yield
        done.append("first")

    chores.add(work())

    assert done == ["first", "second"]


def test_an_error_of_one_does_not_stop_all_later_ones() -> None:
    """It leaves, and what comes then is done."""
    chores, done = Chores(10), list[str]()

    def work() -> Iterator[None]:
        raise ValueError("no")
        yield

    with pytest.raises(ValueError, match="no"):
        chores.add(work())
    chores.go_on()
    chores.add(note(done, "a"))

    assert done == ["a"]


def test_what_is_dropped_is_dropped_in_portions() -> None:
    """From the end, until nothing is left."""
    row = deque(range(50))
    work = drop(row)

    assert not advance(work)
    assert row == deque(range(30))
    while not advance(work):
        pass
    assert not row
