"""The pool of semaphores, between real processes."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import posix_ipc
import pytest

from forkbroker.errors import Exit, StartError
from forkbroker.posix import children
from forkbroker.posix.semaphores import MARK, PREFIX, SemaphorePool, sweep

SHARED_MEMORY = Path("/dev/shm")

linux = pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="needs a system that shows its semaphores under /dev/shm")


@pytest.fixture
def pool():
    """Four semaphores."""
    one = SemaphorePool(4)
    yield one
    one.close()


def test_a_fresh_slot_cannot_be_acquired(pool) -> None:
    """All stand at 0 until they are posted."""
    assert pool.size == 4
    assert [pool.try_acquire(slot) for slot in range(4)] == [False] * 4


def test_a_post_is_acquired_once(pool) -> None:
    """The second try is one too many; other slots know nothing of it."""
    pool.post(1)

    assert not pool.try_acquire(0)
    assert pool.try_acquire(1)
    assert not pool.try_acquire(1)


def test_of_many_processes_exactly_one_acquires_a_post(pool) -> None:
    """Eight children try each of 50 posts at the same time."""
    near, far = socket.socketpair()
    starts = []

    def compete(start: socket.socket) -> int:
        won = 0
        while start.recv(1):
            won += pool.try_acquire(2)
            far.send(b".")
        return won

    pids = []
    for _ in range(8):
        here, there = socket.socketpair()
        pids.append(children.fork(lambda there=there: compete(there), [far.fileno(), there.fileno()]))
        there.close()
        starts.append(here)
    for _ in range(50):
        pool.post(2)
        for start in starts:
            start.send(b"!")
        answers = b""
        while len(answers) < 8:
            answers += near.recv(8)
        assert not pool.try_acquire(2)
    for end in (*starts, near, far):
        end.close()

    assert sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids) == 50


def test_what_a_killed_process_acquired_stays_acquired(pool, in_child) -> None:
    """The semaphore still tells that somebody had claimed."""
    pool.post(0)
    pool.post(3)

    def claim_and_die() -> int:
        pool.try_acquire(0)
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert os.WTERMSIG(in_child(claim_and_die)) == signal.SIGKILL
    assert not pool.try_acquire(0)
    assert pool.try_acquire(3)


@linux
def test_nothing_is_left_in_the_system_while_the_pool_is_open(pool) -> None:
    """No process can open one of them by name, as they have none any more."""
    assert not list(SHARED_MEMORY.glob(f"sem{PREFIX.replace('/', '.')}{os.getpid()}*"))


@linux
def test_what_a_broker_left_that_was_killed_while_it_opened_one_is_removed(in_child) -> None:
    """Under its number, or without a name of its own: with the mark of ours, or without any content."""

    def die_with_a_name() -> int:
        posix_ipc.Semaphore(f"{PREFIX}{os.getpid()}", posix_ipc.O_CREX, initial_value=MARK)
        posix_ipc.Semaphore("/fbTst1", posix_ipc.O_CREX, initial_value=MARK)
        (SHARED_MEMORY / "sem.fbTst2").touch()
        for name in ("sem.fbTst1", "sem.fbTst2"):
            os.utime(SHARED_MEMORY / name, (1, 1))
        return 0

    in_child(die_with_a_name)
    left = {path.name for path in SHARED_MEMORY.glob("sem.*") if "fbTst" in path.name or PREFIX[1:] in path.name}
    assert len(left) == 3

    SemaphorePool(1).close()

    assert not left & {path.name for path in SHARED_MEMORY.iterdir()}


@linux
@pytest.mark.parametrize(
    ("name", "value", "is_old"),
    [("/fbTst3", 1, True), ("/fbTst4", MARK, False), ("/fbTest5", MARK, True), (f"{PREFIX}1", MARK, True)],
    ids=["another value", "just made", "another form of name", "of a process that lives"],
)
def test_what_may_be_another_programs_stays(name: str, value: int, is_old: bool) -> None:
    """One thing that is different is enough."""
    path = SHARED_MEMORY / f"sem.{name[1:]}"
    semaphore = posix_ipc.Semaphore(name, posix_ipc.O_CREX, initial_value=value)
    if is_old:
        os.utime(path, (1, 1))
    try:
        sweep()

        assert path.exists()
    finally:
        semaphore.unlink()
        semaphore.close()


def test_a_system_without_room_for_semaphores_is_a_start_error(in_child) -> None:
    """With no more address space than it has, a process gets no pool, and a message that says why."""
    import resource

    def open_too_many() -> int:
        resource.setrlimit(resource.RLIMIT_AS, (1, 1))
        try:
            SemaphorePool(100_000)
        except StartError as error:
            return error.status if "of 100000 POSIX semaphores" in str(error) else 1
        return 0

    assert os.WEXITSTATUS(in_child(open_too_many)) == Exit.OSERR
