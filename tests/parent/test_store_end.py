"""The end of the broker, as far as the store is concerned: it is told everything, and ends last, in bounded time."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

import pantry
import pytest
from driven import Starter, is_alive, wait_until

from forkbroker.parent.setup import ParentPolicy


def test_a_store_is_closed_when_the_last_child_is_gone(start: Starter, tmp_path: Path) -> None:
    """What the router makes of the end of a child comes before CLOSE; and the parent waits for the store's end."""
    book, path = tmp_path / "book", tmp_path / "ready"
    path.touch()
    broker = start(ParentPolicy(shutdown_timeout_s=60.0), store=pantry.heeding_when(path, book))
    pid = broker.store_pid()
    for login in ("alice", "bob"):
        broker.logged_in(login).tell("kind SETTLE")
    broker.await_log("router: COMMITTED 2 of the store")
    broker.signal(signal.SIGTERM)

    assert broker.wait() == 0
    assert book.read_text().split("\n") == ["DELETE 1", "DELETE 2", "UPDATE 3", "UPDATE 4", "CLOSE", ""]
    assert not is_alive(pid)
    # the status may be said at any time
    lines = [line for line in broker.log.splitlines() if "status: " not in line]
    assert lines[-2:] == ["INFO router: the store ended: no reason", "INFO ended"]
    assert "ERROR" not in broker.log


def test_last_words_of_a_child_come_before_the_close(start: Starter, tmp_path: Path) -> None:
    """A child that was held dies with QUIESCED unread: what the router makes of its end is told to the store, too."""
    book, path = tmp_path / "book", tmp_path / "ready"
    broker = start(ParentPolicy(shutdown_timeout_s=60.0), store=pantry.heeding_when(path, book))
    alice = broker.logged_in("alice")
    alice.tell("kind SETTLE", "flood store 10000")
    wait_until(lambda: broker.measure()["pending"] > 1 << 20, "the store's channel to fill")
    alice.tell("calm")
    broker.signal(signal.SIGTERM)
    assert alice.line().startswith("got QUIESCE ")
    alice.count()
    os.kill(alice.pid, signal.SIGKILL)
    broker.await_log("router: 1 ended")
    path.touch()

    assert broker.wait() == 0
    assert book.read_text().split("\n") == ["DELETE 1", "UPDATE 2", "CLOSE", ""]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_store_that_does_not_end_is_killed(start: Starter, number: int) -> None:
    """In bounded time, and reaped; nobody is blamed who was not there."""
    broker = start(ParentPolicy(shutdown_timeout_s=0.3), store=pantry.deaf)
    pid = broker.store_pid()
    broker.signal(number)

    assert broker.wait() == 0
    assert "ERROR store: killed, still running at the end of --shutdown-timeout" in broker.log
    assert "killed, still running after" not in broker.log
    assert "left behind" not in broker.log
    assert not is_alive(pid)


def test_children_and_store_have_the_time_together(start: Starter) -> None:
    """A child that does not end costs the store its part: only what is left is the store's."""
    broker = start(ParentPolicy(shutdown_timeout_s=4.0), store=pantry.deaf)
    alice = broker.logged_in("alice")
    alice.tell("stop")
    assert alice.line() == "stopping"
    broker.signal(signal.SIGTERM)
    broker.await_log("shutdown: ")
    began = time.monotonic()
    broker.await_log("killed, still running after 3.2 s")
    killed_s = time.monotonic() - began
    broker.await_log("ERROR store: killed, still running at the end of --shutdown-timeout")

    assert time.monotonic() - began - killed_s < 0.4 * 4.0
    assert broker.wait() == 0


def test_a_store_that_dies_while_it_closes_is_started_anew(start: Starter) -> None:
    """Only an end in good order is the last one."""
    broker = start(store=pantry.dying_at_the_end)
    broker.signal(signal.SIGTERM)

    assert broker.wait() == 0
    assert "ERROR store: exited, signal SIGKILL; restarting in 0.1 s" in broker.log
    assert "INFO store: open again" in broker.log
    assert broker.log.count("router: the store ended") == 2
    assert "--shutdown-timeout" not in broker.log


def test_a_store_that_cannot_be_opened_again_is_waited_for_in_bounded_time(start: Starter) -> None:
    """The end comes though something is not committed."""
    broker = start(ParentPolicy(shutdown_timeout_s=0.5), store=pantry.opened_only_once)
    broker.logged_in("alice").tell("kind SETTLE")
    broker.await_log("ERROR store: exited, the shelves are rotten; restarting in")
    broker.signal(signal.SIGTERM)

    assert broker.wait() == 0
    assert "ERROR store: not opened again before the end of --shutdown-timeout" in broker.log


def test_a_store_that_is_away_is_closed_when_it_is_back(start: Starter) -> None:
    """An end that is asked for between two stores waits for the second."""
    broker = start()
    os.kill(broker.store_pid(), signal.SIGKILL)
    broker.await_log("ERROR store: exited, signal SIGKILL; restarting in 0.1 s")
    broker.signal(signal.SIGTERM)

    assert broker.wait() == 0
    assert broker.log.count("router: OPENED") == 2
    assert "--shutdown-timeout" not in broker.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_an_end_that_is_asked_for_while_the_store_is_opened(start: Starter, tmp_path: Path, number: int) -> None:
    """A store is not to be left half open: it is waited for, then closed; nobody is accepted."""
    path = tmp_path / "open"
    broker = start(store=pantry.opened_when(path), is_awaited=False)
    broker.store_pid()
    broker.signal(number)
    broker.await_log("shutdown: ")
    with pytest.raises(ConnectionRefusedError):
        broker.dial()
    path.touch()

    assert broker.wait() == 0
    assert "ready" not in broker.log
    assert "router: OPENED" in broker.log
    assert "ERROR" not in broker.log


def test_a_store_that_is_opened_for_too_long_is_killed_at_the_end(start: Starter, tmp_path: Path) -> None:
    """The time of an end is bounded from the first moment on."""
    policy = ParentPolicy(shutdown_timeout_s=0.3)
    broker = start(policy, store=pantry.opened_when(tmp_path / "never"), is_awaited=False)
    broker.store_pid()
    broker.signal(signal.SIGTERM)

    assert broker.wait() == 0
    assert "ERROR store: killed, still running at the end of --shutdown-timeout" in broker.log


def test_nobody_says_goodbye_before_all_is_committed(start: Starter, tmp_path: Path) -> None:
    """Receipts that wait for the commit are to arrive before the end of the connection."""
    path = tmp_path / "commit"
    broker = start(ParentPolicy(shutdown_timeout_s=60.0), store=pantry.heeding_when(path))
    alice = broker.logged_in("alice")
    alice.tell("kind SETTLE", "count")
    alice.line()
    broker.signal(signal.SIGTERM)
    assert alice.line().startswith("got QUIESCE ")
    alice.count()
    # QUIESCED is in the channel now: in two turns the parent has read it.
    broker.measure()
    broker.measure()
    assert select.select([alice.socket], [], [], 0) == ([], [], [])
    path.touch()

    assert alice.line().startswith("got CLOSE ")
    assert broker.wait() == 0
    assert broker.log.index("router: COMMITTED 1") < broker.log.index("disconnected, the broker is shutting down")


def test_a_commit_is_waited_for_three_fifths_of_the_time(start: Starter, tmp_path: Path) -> None:
    """Then all say goodbye without it."""
    path = tmp_path / "late"
    broker = start(ParentPolicy(shutdown_timeout_s=1.5), store=pantry.heeding_when(path))
    alice = broker.logged_in("alice")
    alice.tell("kind SETTLE", "count")
    alice.line()
    broker.signal(signal.SIGTERM)
    began = time.monotonic()
    assert alice.line().startswith("got QUIESCE ")
    assert alice.line().startswith("got CLOSE ")
    assert time.monotonic() - began > 0.8
    path.touch()

    assert broker.wait() == 0
    assert "--shutdown-timeout" not in broker.log


def test_a_slow_store_may_take_longer_than_killing(start: Starter, tmp_path: Path) -> None:
    """After a kill of the children the store still has its whole time, and nobody is called left behind."""
    path = tmp_path / "late"
    broker = start(ParentPolicy(shutdown_timeout_s=30.0), store=pantry.heeding_when(path))
    broker.logged_in("alice")
    broker.signal(signal.SIGQUIT)
    broker.await_log("router: 1 ended")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 5.2, "what is still alive after a kill to be given up")
    assert is_alive(broker.pid)
    path.touch()

    assert broker.wait() == 0
    assert "left behind" not in broker.log
    assert "ERROR" not in broker.log
