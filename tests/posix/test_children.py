"""Fork: what a child has, how it ends, and what the parent learns."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys

from support.deadline import wait_until

from forkbroker.errors import Exit
from forkbroker.posix import children
from forkbroker.posix.exits import describe


def test_a_child_ends_with_the_status_that_its_program_returns(in_child) -> None:
    """And nothing else of it."""
    assert describe(in_child(lambda: 42)) == "exit status 42"


def test_a_child_has_the_standard_streams_what_it_keeps_and_nothing_else(in_child) -> None:
    """A hundred descriptors of the parent are closed, two between them are not."""
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]
    kept = {opened[20], opened[70]}

    def look() -> int:
        still = {fd for fd in range(opened[-1] + 50) if _is_open(fd)}
        return 7 if still - {0, 1, 2} == kept else 1

    status = in_child(look, *kept, 1)
    for fd in opened:
        os.close(fd)

    assert describe(status) == "exit status 7"


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_the_end_of_a_sibling_is_seen_while_others_live() -> None:
    """No child holds another one's channel."""
    near, far = socket.socketpair()
    hold, held = socket.socketpair()
    first = children.fork(lambda: 0 if far.recv(1) else 1, [far.fileno()])
    second = children.fork(lambda: 0 if held.recv(1) else 2, [held.fileno()])
    far.close()
    held.close()

    near.send(b"x")
    near.settimeout(10)
    end_of_first = near.recv(1)
    hold.close()

    assert end_of_first == b""
    assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == 0
    assert os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]) == 2
    near.close()


def test_an_exception_in_a_child_is_logged_and_ends_it_alone(in_child, tmp_path) -> None:
    """The traceback is in the log, the status says whose fault it is."""
    path = tmp_path / "log"
    handler = logging.FileHandler(path)
    logging.getLogger().addHandler(handler)

    def fail() -> int:
        raise LookupError("nobody expected this")

    status = in_child(fail, handler.stream.fileno())
    logging.getLogger().removeHandler(handler)
    handler.close()
    text = path.read_text()

    assert os.waitstatus_to_exitcode(status) == Exit.SOFTWARE
    assert "unexpected exception, exiting" in text
    assert "LookupError: nobody expected this" in text


def test_a_child_that_leaves_by_sys_exit_does_not_run_the_parents_code(in_child) -> None:
    """There is one way out: the return value."""
    assert os.waitstatus_to_exitcode(in_child(lambda: sys.exit(0))) == Exit.SOFTWARE


def test_nothing_that_the_parent_had_buffered_is_written_twice(run_script) -> None:
    """Two children, one line."""
    ended = run_script(
        "import os, sys\n"
        "from forkbroker.posix import children\n"
        "sys.stdout.write('once\\n')\n"
        "for _ in range(2): os.waitpid(children.fork(lambda: 0, ()), 0)\n"
    )

    assert ended.stdout == "once\n"


def test_the_parents_signal_mask_survives_a_fork() -> None:
    """What was blocked is, what was not is not."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
    with_winch = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    pid = children.fork(lambda: 0, ())
    after = signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.waitpid(pid, 0)

    assert with_winch == after


def test_what_a_child_inherits_is_frozen(in_child) -> None:
    """The collector leaves the parent's objects alone, and their pages shared."""
    assert describe(in_child(lambda: 7 if gc.get_freeze_count() > 1000 else 1)) == "exit status 7"


def test_reaping_tells_status_and_costs(wait_end) -> None:
    """Processor time and memory are those of the child."""

    def work() -> int:
        block = bytearray(64 << 20)
        while os.times().user < 0.05:
            block[:4096] = bytes(4096)
        return 3

    ended = wait_end(children.fork(work, ()))

    assert describe(ended.status) == "exit status 3"
    assert ended.cpu_s >= 0.05
    assert ended.peak_kib > 64 << 10


def test_reaping_takes_all_that_have_ended_and_waits_for_none() -> None:
    """Three have ended, one has not; without children there is nothing."""
    near, far = socket.socketpair()
    assert list(children.reap()) == []
    living = children.fork(lambda: len(far.recv(1)), [far.fileno()])
    far.close()
    dead = {children.fork(lambda: 0, ()) for _ in range(3)}
    seen: set[int] = set()

    wait_until(lambda: seen.update(ended.pid for ended in children.reap()) or len(seen) == 3, "three ends")
    near.close()

    assert dead == seen
    assert living == os.waitpid(living, 0)[0]
