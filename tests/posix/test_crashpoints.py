"""CrashPoints points: armed by a variable, nothing without it."""

from __future__ import annotations

import os
import signal

import pytest

from forkbroker.errors import ConfigurationError
from forkbroker.posix import crashpoints
from forkbroker.posix.crashpoints import CrashPoints

KILLED = signal.SIGKILL
ALIVE = 0

REACH = "from forkbroker.posix.crashpoints import reach; print(reach is None)"


def test_without_the_variable_there_is_nothing_to_call(run_script) -> None:
    """The hot path compares with None."""
    assert run_script(REACH, variables={"FORKBROKER_CRASH": ""}).stdout == "True\n"


def test_with_the_variable_there_is(run_script) -> None:
    """It is read when the module is imported."""
    assert run_script(REACH, variables={"FORKBROKER_CRASH": "child.claimed"}).stdout == "False\n"


def test_a_mistake_in_the_variable_ends_the_program_at_its_start(run_script) -> None:
    """One line on standard error, no traceback."""
    ended = run_script(REACH, variables={"FORKBROKER_CRASH": "child.sneezed"})

    assert ended.returncode != 0
    assert ended.stderr.startswith(
        "stomp-broker: FORKBROKER_CRASH=child.sneezed: no such crash point; there are child."
    )
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "reached", "end"),
    [
        ("child.claimed", [("child.claimed", "alice")], KILLED),
        ("child.claimed", [("child.settled", "alice")], ALIVE),
        ("child.claimed@alice", [("child.claimed", "bob")], ALIVE),
        ("child.claimed@alice", [("child.claimed", "bob"), ("child.claimed", "alice")], KILLED),
        ("child.claimed:3", [("child.claimed", "alice")] * 2, ALIVE),
        ("child.claimed:3", [("child.claimed", "alice")] * 3, KILLED),
        ("child.claimed@al:ice:2", [("child.claimed", "al:ice")] * 2, KILLED),
        ("child.claimed@alice:2", [("child.claimed", "alice"), ("child.claimed", "bob")], ALIVE),
        ("child.delivered, child.settled", [("child.settled", "")], KILLED),
        ("child.claimed@a,child.claimed@b", [("child.claimed", "b")], KILLED),
    ],
)
def test_a_process_dies_at_the_point_the_client_and_the_turn_that_were_named(in_child, text, reached, end) -> None:
    """Each row says what is armed, what is reached, and what becomes of the process."""

    def reach_all() -> int:
        crash = CrashPoints(text)
        for point, who in reached:
            crash(point, who)
        return 0

    status = in_child(reach_all)

    assert end == (os.WTERMSIG(status) if os.WIFSIGNALED(status) else ALIVE)


@pytest.mark.parametrize(
    "text", ["", "child", "child.claimed@", "child.claimed:", "child.claimed:0", "child.claimed:x"]
)
def test_what_is_not_of_the_form_is_refused(text) -> None:
    """The message lists the points that there are."""
    with pytest.raises(ConfigurationError, match=r"child\.lost-told"):
        CrashPoints(text)


def test_every_point_says_what_has_happened() -> None:
    """A point without a meaning is of no use."""
    assert all(
        meaning and process in ("child", "parent", "store", "nursery", "spare", "backup")
        for process, meaning in ((point.partition(".")[0], meaning) for point, meaning in crashpoints.POINTS.items())
    )
