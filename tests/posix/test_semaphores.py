"""The pool of semaphores, between real processes."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from forkbroker.errors import Exit, StartError
from forkbroker.posix import children
from forkbroker.posix.semaphores import SemaphorePool


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


def test_nothing_is_left_in_the_system_while_the_pool_is_open(pool, wait_until) -> None:
    """Nobody can open one of them by name, as they have none. Other brokers may be opening theirs at this moment."""
    place = Path("/dev/shm")
    if not place.is_dir():
        pytest.skip("needs a system that shows its semaphores under /dev/shm")

    wait_until(lambda: not list(place.glob("sem.posix_ipc*")), "no named semaphore")


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
