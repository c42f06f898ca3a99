"""Signals as events of the loop, and a child's fresh start."""

from __future__ import annotations

import os
import signal

import pytest

from forkbroker.posix import children
from forkbroker.posix.loop import Loop
from forkbroker.posix.signals import Signals, Wakeup, is_alive, reset_signals


@pytest.fixture
def loop():
    """A loop."""
    one = Loop()
    yield one
    one.close()


def test_a_signal_calls_back_from_the_loop_not_from_the_handler(loop) -> None:
    """Nothing happens when the signal comes, everything in the turn after it."""
    called = []
    signals = Signals(loop, {signal.SIGUSR1: lambda: called.append("usr1"), signal.SIGUSR2: lambda: called.append(2)})
    os.kill(os.getpid(), signal.SIGUSR1)
    before = list(called)

    loop.turn()
    signals.close()

    assert before == []
    assert called == ["usr1"]


def test_a_signal_ends_the_wait(loop) -> None:
    """A child's end wakes a loop that has nothing else to wait for."""
    called = []
    signals = Signals(loop, {signal.SIGCHLD: lambda: called.append("child")})
    pid = children.fork(lambda: 0, ())

    loop.turn()
    signals.close()
    os.waitpid(pid, 0)

    assert called == ["child"]


def test_many_signals_of_one_kind_call_once_in_a_turn(loop) -> None:
    """They say one thing."""
    called = []
    signals = Signals(loop, {signal.SIGUSR1: lambda: called.append(1)})
    for _ in range(100):
        os.kill(os.getpid(), signal.SIGUSR1)

    loop.turn()
    signals.close()

    assert called == [1]


def test_closing_puts_the_old_handlers_back(loop) -> None:
    """Also the descriptor that the interpreter wakes."""
    before = signal.getsignal(signal.SIGUSR1)
    signals = Signals(loop, {signal.SIGUSR1: lambda: None})

    signals.close()

    assert before == signal.getsignal(signal.SIGUSR1)
    assert signal.set_wakeup_fd(-1) == -1


def test_a_handler_that_is_there_is_enough_to_be_called_back(loop) -> None:
    """From the loop, once for many; other signals that have a handler are none of its business."""
    called: list[str] = []
    before = [signal.signal(number, lambda *_: called.append("handler")) for number in (signal.SIGUSR1, signal.SIGUSR2)]
    wakeup = Wakeup(loop, signal.SIGUSR1, lambda: called.append("loop"))
    for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
    at_once = called.count("loop")

    loop.turn()
    os.kill(os.getpid(), signal.SIGUSR2)
    loop.turn()
    wakeup.close()
    for number, handler in zip((signal.SIGUSR1, signal.SIGUSR2), before, strict=True):
        signal.signal(number, handler)

    assert (at_once, called.count("loop"), called.count("handler")) == (0, 1, 4)
    assert signal.set_wakeup_fd(-1) == -1


def test_a_child_starts_without_the_parents_handlers_and_nothing_blocked(loop, in_child) -> None:
    """The parent has handlers, a wake-up descriptor and a blocked signal; the child none."""
    signals = Signals(loop, {signal.SIGTERM: lambda: None, signal.SIGCHLD: lambda: None})
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})

    def look() -> int:
        fresh = (
            signal.getsignal(signal.SIGTERM) == signal.SIG_IGN and signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
        )
        open_mask = signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
        return 7 if fresh and open_mask and signal.set_wakeup_fd(-1) == -1 else 1

    status = in_child(look)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    signals.close()

    assert os.waitstatus_to_exitcode(status) == 7


def test_a_child_ignores_what_is_meant_for_the_parent(in_child) -> None:
    """Ctrl-C reaches the whole foreground group; the parent then ends its children in order."""

    def survive() -> int:
        reset_signals()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), number)
        return 7

    assert os.waitstatus_to_exitcode(in_child(survive)) == 7


def test_a_process_is_there_until_it_is_reaped() -> None:
    """No number below 1 is one: those of kill(2) mean groups."""
    pid = os.fork()
    if not pid:
        os._exit(0)
    was_alive = is_alive(pid)
    os.waitpid(pid, 0)

    assert was_alive and is_alive(os.getpid()) and is_alive(1)
    assert not any(map(is_alive, (pid, 0, -1)))
