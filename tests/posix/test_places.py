"""Places that several processes share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from copy import copy

import pytest
from support.deadline import wait_until

from forkbroker.posix.places import Places, count_processors


@pytest.fixture
def places() -> Iterator[Places]:
    """Two."""
    made = Places(2)
    yield made
    made.close()


def spawn(work: Callable[[], None]) -> int:
    """Run something in another process, which then waits for its end."""
    pid = os.fork()
    if not pid:
        try:
            work()
            signal.pause()
        finally:
            os._exit(1)
    return pid


def hold(places: Places) -> tuple[int, bool]:
    """A process that has tried to take a place: its number, and whether it has one."""
    ours, theirs = os.pipe()
    pid = spawn(lambda: (os.write(theirs, b"y" if places.try_take() else b"n"), None)[1])
    os.close(theirs)
    answer = os.read(ours, 1)
    os.close(ours)
    return pid, answer == b"y"


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_there_are_so_many_places(places: Places) -> None:
    """The third one gets none, until one of the others gives its place back."""
    first, second = hold(places), hold(places)
    try:
        assert (first[1], second[1], places.try_take()) == (True, True, False)
    finally:
        kill(first[0])
        kill(second[0])


def test_a_killed_process_loses_no_place(places: Places) -> None:
    """The kernel frees it, each time."""
    for _ in range(10):
        pids = [hold(places) for _ in range(2)]

        assert [has for _, has in pids] == [True, True]
        for pid, _ in pids:
            kill(pid)
    wait_until(places.try_take, "a place")


def test_a_place_is_given_back(places: Places) -> None:
    """Whoever wants it gets it then."""
    assert places.try_take()
    other, has = hold(places)
    assert has
    third, has_none = hold(places)
    places.give_back()
    fourth, has_again = hold(places)
    for pid in (other, third, fourth):
        kill(pid)

    assert (has_none, has_again) == (False, True)


def test_a_process_can_leave_a_place_to_others(places: Places) -> None:
    """The one that there is at least it may use."""
    few = copy(places)
    few.leave_one()
    first, second = hold(few), hold(few)
    third = hold(places)
    for pid in (first[0], second[0], third[0]):
        kill(pid)
    few.leave_one()

    assert (first[1], second[1], third[1]) == (True, False, True)
    wait_until(few.try_take, "the only place")


def test_there_are_as_many_places_as_processors() -> None:
    """One at least."""
    places = Places()
    assert places.count == count_processors() >= 1
    places.close()
