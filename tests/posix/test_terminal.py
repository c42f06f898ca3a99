"""The terminal, and its end."""

from __future__ import annotations

import os
import pty
import signal
import time

import pytest

from forkbroker.posix.terminal import watch_terminal


@pytest.mark.parametrize(("ignores", "status"), [(False, 3), (True, 2)])
def test_a_terminal_that_is_gone_is_noticed_unless_its_end_was_to_be_ignored(ignores: bool, status: int) -> None:
    """The status has a bit for what was said before the end, and one for what was said after it."""
    near, far = os.pipe()
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if not ignores:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        has_hung_up = watch_terminal()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        before = has_hung_up()
        os.write(far, b"!")
        give_up = time.monotonic() + 10
        while not has_hung_up() and time.monotonic() < give_up and not ignores:
            time.sleep(0.002)
        os._exit(2 * (not before) + has_hung_up())
    os.close(far)
    os.read(near, 1)
    os.close(near)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status


def test_without_a_terminal_none_can_go(in_child) -> None:
    """As under a service manager."""

    def look() -> int:
        os.setsid()
        return int(watch_terminal()())

    assert in_child(look) == 0
