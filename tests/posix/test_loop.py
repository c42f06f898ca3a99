"""The loop: readiness, deadlines, ends of turns."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from forkbroker.posix.loop import AWAITED, Loop


@pytest.fixture(params=[{}, {"for_many": True}, {"spin_s": 0.001}], ids=["poll", "epoll", "spinning"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    """A loop of each kind."""
    one = Loop(**request.param)
    yield one
    one.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends that don't block."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


def test_a_readable_descriptor_is_called_and_a_silent_one_is_not(loop, pair) -> None:
    """Only the end at which an octet waits is called."""
    near, far = pair
    called = []
    loop.watch(near.fileno(), lambda: called.append("near"), None)
    loop.watch(far.fileno(), lambda: called.append("far"), None)
    far.send(b"x")

    loop.turn()

    assert called == ["near"]


def test_a_writable_descriptor_is_called_only_while_that_is_wanted(loop, pair) -> None:
    """Writing is asked for and given up; asking twice changes nothing."""
    near, _far = pair
    fd = near.fileno()
    called = []
    loop.watch(fd, lambda: called.append("read"), lambda: called.append("write"))
    loop.want_writable(fd, True)
    loop.want_writable(fd, True)

    loop.turn()
    loop.want_writable(fd, False)
    loop.want_writable(fd, False)
    loop.call_at(loop.now, lambda: called.append("deadline"))
    loop.turn()

    assert called == ["write", "deadline"]


def test_held_reading_goes_on_when_it_is_resumed(loop, pair) -> None:
    """What came meanwhile is still there."""
    near, far = pair
    called = []
    loop.watch(near.fileno(), lambda: called.append(near.recv(1)), None)
    loop.want_readable(near.fileno(), False)
    far.send(b"x")
    loop.call_at(loop.now, lambda: None)
    loop.turn()
    held = list(called)
    loop.want_readable(near.fileno(), True)

    loop.turn()

    assert held == []
    assert called == [b"x"]


def test_a_hang_up_does_not_wake_a_loop_that_wants_nothing_of_the_descriptor(loop, pair) -> None:
    """The wait lasts until the deadline."""
    near, far = pair
    loop.watch(near.fileno(), lambda: pytest.fail("reading is held"), None)
    loop.want_readable(near.fileno(), False)
    far.close()
    until = time.monotonic() + 0.03
    called = []
    loop.call_at(until, lambda: called.append("deadline"))

    loop.turn()

    assert called == ["deadline"]
    assert loop.now >= until


def test_end_of_file_is_readable(loop, pair) -> None:
    """The other end's closing calls the reader."""
    near, far = pair
    read = []
    loop.watch(near.fileno(), lambda: read.append(near.recv(1)), None)
    far.close()

    loop.turn()

    assert read == [b""]


def test_a_descriptor_that_is_forgotten_in_its_turn_is_not_called(loop, pair) -> None:
    """Of two ready ones, whichever comes first forgets the other."""
    near, far = pair
    called = []

    def forget(other: socket.socket) -> None:
        called.append(other)
        loop.forget(other.fileno())

    loop.watch(near.fileno(), lambda: forget(far), None)
    loop.watch(far.fileno(), lambda: forget(near), None)
    near.send(b"x")
    far.send(b"x")

    loop.turn()

    assert len(called) == 1


def test_a_number_that_is_watched_anew_in_the_same_turn_is_not_called_for_the_old_event(loop) -> None:
    """A descriptor is closed and its number taken by another, all while its event waits in the list."""
    pairs = [socket.socketpair(), socket.socketpair()]
    called = []

    def replace(index: int) -> None:
        called.append(index)
        victim = pairs[1 - index][0]
        fd = victim.fileno()
        loop.forget(fd)
        fresh, other = socket.socketpair()
        os.dup2(fresh.fileno(), fd)
        fresh.close()
        pairs.append((other, other))
        loop.watch(fd, lambda: called.append("fresh"), None)

    for index, (near, far) in enumerate(list(pairs)):
        loop.watch(near.fileno(), lambda index=index: replace(index), None)
        far.send(b"x")

    loop.turn()

    assert len(called) == 1
    assert "fresh" not in called
    for ends in pairs:
        for end in ends:
            end.close()


def test_forgetting_in_the_readable_callback_spares_the_writable_one(loop, pair) -> None:
    """Both directions were ready; the first callback closes shop."""
    near, far = pair
    fd = near.fileno()
    loop.watch(fd, lambda: loop.forget(fd), lambda: pytest.fail("was forgotten"))
    loop.want_writable(fd, True)
    far.send(b"x")

    loop.turn()


def test_forgetting_the_unknown_is_harmless_and_watching_twice_is_not(loop, pair) -> None:
    """The second owner of a descriptor is a bug."""
    near, _far = pair
    loop.forget(near.fileno())
    loop.watch(near.fileno(), None, None)

    with pytest.raises(AssertionError):
        loop.watch(near.fileno(), None, None)


def test_deadlines_are_called_in_the_order_of_their_times(loop) -> None:
    """Equal times keep the order of asking."""
    called = []
    for when, word in ((0.002, "c"), (0.001, "a"), (0.001, "b")):
        loop.call_at(loop.now + when, lambda word=word: called.append(word))
    loop.call_at(loop.now + 0.003, loop.stop)

    loop.run()

    assert called == ["a", "b", "c"]


def test_a_cancelled_deadline_is_not_called_even_when_it_is_due_in_the_same_turn(loop) -> None:
    """The first of two that are due cancels the second, twice."""
    second = []

    def cancel() -> None:
        deadline.cancel()
        deadline.cancel()

    loop.call_at(loop.now, cancel)
    deadline = loop.call_at(loop.now, lambda: second.append(1))

    loop.turn()

    assert second == []


def test_a_deadline_that_is_added_when_due_waits_for_the_next_turn(loop) -> None:
    """A callback that always asks again does not keep the loop from its descriptors."""
    called = []

    def again() -> None:
        called.append(loop.now)
        loop.call_at(loop.now, again)

    again()

    loop.turn()

    assert len(called) == 2


def test_cancelled_deadlines_do_not_pile_up(loop) -> None:
    """A deadline that is moved 10,000 times leaves no 10,000 entries."""
    kept = loop.call_at(loop.now + 3600, lambda: None)
    for _ in range(10_000):
        loop.call_at(loop.now + 1800, lambda: None).cancel()

    assert len(loop._deadlines) < 1_000
    assert any(entry[2] is kept for entry in loop._deadlines)


def test_the_end_of_a_turn_comes_after_its_events_and_deadlines_and_before_the_first_wait(loop, pair) -> None:
    """One end for each turn, one before all; the last turn has its end as well."""
    near, far = pair
    called = []
    loop.at_turn_end(lambda: called.append("end"))

    def read() -> None:
        near.recv(1)
        called.append("read")
        loop.stop()

    loop.watch(near.fileno(), read, None)
    loop.call_at(loop.now, lambda: called.append("deadline"))
    far.send(b"x")

    loop.run()

    assert called == ["end", "read", "deadline", "end"]


def test_a_loop_that_was_stopped_runs_again(loop) -> None:
    """Stopping counts once."""
    loop.stop()
    loop.run()
    called = []
    loop.call_at(loop.now, lambda: (called.append(1), loop.stop()))

    loop.run()

    assert called == [1]


def test_a_wait_ends_when_the_turn_before_has_said(loop) -> None:
    """Without a deadline, and however often it is another time; a deadline that comes earlier counts."""
    called = []
    loop.wake_at = loop.now + 60.0
    loop.call_at(loop.now + 0.001, lambda: called.append("deadline"))
    loop.turn()
    until = loop.wake_at = loop.now + 0.02

    loop.turn()

    assert called == ["deadline"]
    assert until <= loop.now < until + 30.0


def test_the_clock_stands_still_within_a_turn(loop) -> None:
    """Everything in a turn sees the same time."""
    seen = []
    for _ in range(3):
        loop.call_at(loop.now, lambda: seen.append(loop.now))

    loop.turn()

    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_a_deadline_in_a_year_ends_no_loop(loop, pair) -> None:
    """A system that counts milliseconds in 31 bits refuses to wait so long; what comes earlier is called."""
    near, far = pair
    far.send(b"x")
    loop.watch(near.fileno(), loop.stop, None)
    loop.call_at(loop.now + 366 * 86_400.0, lambda: None)
    loop.run()


@pytest.fixture
def yields(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When this process has let others run."""
    seen: list[float] = []
    give = os.sched_yield

    def note() -> None:
        seen.append(time.monotonic())
        give()

    monkeypatch.setattr(os, "sched_yield", note)
    return seen


def spinning_loop(pair: tuple[socket.socket, socket.socket], spin_s: float) -> Loop:
    """A loop whose last wait was short: something was there at once."""
    near, far = pair
    loop = Loop(spin_s=spin_s)
    loop.watch(near.fileno(), lambda: near.recv(1), None)
    far.send(b"x")
    loop.turn()
    return loop


def test_a_wait_after_a_short_one_polls_before_it_sleeps(pair, yields) -> None:
    """Not for longer than it may, and what comes behind it is found by sleeping."""
    loop = spinning_loop(pair, 0.05)
    before, until = len(yields), loop.now + 1.0
    loop.call_at(until, lambda: None)
    loop.turn()

    assert before == 0
    assert yields[-2:][0] < until - 0.3  # the last one may have lasted as long as others have kept the core
    assert loop.now >= until


def test_what_comes_in_a_spin_is_found_without_sleep(pair, monkeypatch) -> None:
    """Somebody who runs meanwhile answers, here the third one."""
    loop = spinning_loop(pair, 60.0)
    yields = iter([b"", b"", b"y"])
    monkeypatch.setattr(os, "sched_yield", lambda: pair[1].send(next(yields)))
    loop.turn()

    assert list(yields) == []


def test_a_spin_ends_for_a_deadline(pair, yields) -> None:
    """However long it might go on."""
    loop = spinning_loop(pair, 60.0)
    called = []
    loop.call_at(loop.now + 0.1, lambda: called.append(loop.now))
    loop.turn()

    assert called
    assert yields


def test_a_wait_for_an_answer_may_poll_for_longer(pair, yields) -> None:
    """It has a rule of its own: whether other waits were short says nothing."""
    loop = spinning_loop(pair, 0.05)
    loop.awaits = True
    pair[1].send(b"y")
    loop.turn()
    began = loop.now
    loop.call_at(began + 1.0, lambda: None)
    loop.turn()

    assert yields[-1] - began > 0.05 * (AWAITED - 1)
    assert loop.now >= began + 1.0


def test_a_loop_that_is_not_to_spin_sleeps(pair, yields) -> None:
    """Whatever came before."""
    loop = spinning_loop(pair, 0.0)
    loop.call_at(loop.now + 0.01, lambda: None)
    loop.turn()

    assert yields == []
