"""The table of the programs that run: whom the guard has to end when the runner has died."""

from __future__ import annotations

import os
import signal

import pytest
from support.deadline import wait_until

from forkbroker.authenticator.groups import Groups, kill_group
from forkbroker.posix.exits import describe

PLACES = 3


def begin(groups: Groups, place: int, runner: int | None = None) -> int:
    """A program that has entered its group, and waits; one whose runner has ended leaves with 3."""
    runner = os.getpid() if runner is None else runner
    pid = os.fork()
    if not pid:
        try:
            if groups.enter(place, runner):
                signal.pause()
        finally:
            os._exit(3)
    return pid


def end(pid: int) -> str:
    return describe(os.waitpid(pid, 0)[1])


def test_who_notes_itself_is_ended_by_others_that_share_the_table() -> None:
    """Each with the whole of its group, and once."""
    groups = Groups(PLACES)
    pids = [begin(groups, groups.take_place()) for _ in range(2)]
    for pid in pids:
        wait_until(lambda pid=pid: pid in groups._table.tolist(), "its number in the table")
    groups.kill_all()

    assert [end(pid) for pid in pids] == ["signal SIGKILL"] * 2
    assert groups._table.tolist() == [0] * PLACES
    groups.kill_all()  # and finds nobody


def test_who_notes_itself_too_late_ends_by_itself() -> None:
    """The runner has another number than the process that is its parent now."""
    groups = Groups(PLACES)
    pid = begin(groups, groups.take_place(), runner=1 if os.getpid() != 1 else 2)

    assert end(pid) == "exit status 3"


def test_a_place_is_free_again_when_its_program_has_ended() -> None:
    """What it noted there is struck out."""
    groups = Groups(PLACES)
    places = [groups.take_place() for _ in range(PLACES)]
    groups._table[places[0]] = 4711
    groups.give_back(places[0])

    assert sorted(places) == list(range(PLACES))
    assert groups._table[places[0]] == 0
    assert groups.take_place() == places[0]
    with pytest.raises(IndexError):
        groups.take_place()


def test_turns_are_counted_where_others_see_it() -> None:
    """Beside the table, which they leave as it is."""
    groups = Groups(PLACES)
    pid = os.fork()
    if not pid:
        groups.note_turn()
        groups.note_turn()
        os._exit(0)

    assert end(pid) == "exit status 0"
    assert groups.turns == 2
    assert groups._table.tolist() == [0] * PLACES


def test_a_group_that_has_ended_is_no_error() -> None:
    """The runner may have been killed before it could strike it out."""
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        os._exit(0)
    os.waitpid(pid, 0)
    kill_group(pid)
