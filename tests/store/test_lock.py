"""Locks: one broker a store, by name and by identity; and which process is named to the second one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forkbroker.errors import Exit
from forkbroker.posix import children
from forkbroker.store import lock
from forkbroker.store.api import StoreError
from forkbroker.store.lock import IdentityLock, Lock, is_alive

Hold = Callable[[Callable[[], object]], int]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Have another process take a lock, and keep it until the test ends; returns its number."""
    holders: list[int] = []
    ready, told = os.pipe()

    def start(take: Callable[[], object]) -> int:
        def main() -> int:
            taken = take()
            os.write(told, b"x")
            signal.pause()
            return 1 if taken is None else 0

        holders.append(children.fork(main, [told]))
        assert os.read(ready, 1) == b"x"
        return holders[-1]

    yield start
    for pid in holders:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.close(ready)
    os.close(told)


def dead_process() -> int:
    """The number of a process that has ended."""
    pid = children.fork(lambda: 0, ())
    os.waitpid(pid, 0)
    return pid


def test_the_lock_has_the_numbers_of_broker_and_store(tmp_path: Path) -> None:
    """In its file, which is empty again afterwards, and stays."""
    path = tmp_path / "lock"

    taken = Lock(path, owner=4711)
    text = path.read_text()
    taken.release()

    assert text == f"4711 {os.getpid()}\n"
    assert path.read_text() == ""
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_living_broker_is_named(tmp_path: Path, hold: Hold) -> None:
    """It is the one to stop, not its store; nobody waits for it."""
    path = tmp_path / "lock"
    hold(lambda: Lock(path, owner=os.getppid()))

    with pytest.raises(StoreError, match=rf"process {os.getpid()} holds {path}\); stop that one first") as caught:
        Lock(path, owner=1)

    assert caught.value.status is Exit.UNAVAILABLE


def test_the_store_of_a_dead_broker_is_named(tmp_path: Path, hold: Hold) -> None:
    """When it does not end in time: it is what holds the lock, and there is no broker to stop."""
    path, dead = tmp_path / "lock", dead_process()
    holder = hold(lambda: Lock(path, owner=dead))

    with pytest.raises(StoreError) as caught:
        Lock(path, owner=os.getpid(), patience_s=0.1)

    assert f"process {holder}, the store of broker {dead}, does not end within 0.1 s" in str(caught.value)
    assert f"kill process {holder}" in str(caught.value)
    assert f"stop process {dead}" not in str(caught.value)
    assert caught.value.status is Exit.UNAVAILABLE


def test_the_hung_store_of_the_same_broker_is_named(tmp_path: Path, hold: Hold) -> None:
    """It is waited for, as it was killed perhaps."""
    path = tmp_path / "lock"
    holder = hold(lambda: Lock(path, owner=os.getppid()))

    with pytest.raises(StoreError, match=f"process {holder}, the store of broker {os.getpid()}"):
        Lock(path, owner=os.getpid(), patience_s=0.1)


def test_a_holder_that_is_not_known_is_looked_for_otherwise(tmp_path: Path, hold: Hold) -> None:
    """Somebody has emptied the file."""
    path = tmp_path / "lock"
    hold(lambda: Lock(path, owner=os.getppid()))
    path.write_text("")

    with pytest.raises(StoreError, match=r"an unknown process holds .* fuser"):
        Lock(path, owner=os.getpid(), patience_s=0.1)


def test_a_lock_of_an_older_broker_is_read(tmp_path: Path, hold: Hold) -> None:
    """It had its own number alone."""
    path = tmp_path / "lock"
    hold(lambda: Lock(path, owner=os.getppid()))
    path.write_text(f"{os.getpid()}\n")

    with pytest.raises(StoreError, match=f"process {os.getpid()} holds"):
        Lock(path, owner=1)


def test_the_lock_of_a_dead_broker_is_waited_for(tmp_path: Path) -> None:
    """Its store is still there and ends soon; then the lock is ours."""
    path, dead = tmp_path / "lock", dead_process()
    locked, released = os.pipe()

    def old_store() -> int:
        Lock(path, owner=dead)
        os.write(released, b"x")
        signal.sigtimedwait((), 0.3)
        return 0

    pid = children.fork(old_store, [released])
    os.read(locked, 1)
    taken = Lock(path, owner=os.getpid())
    holder = path.read_text()
    taken.release()
    os.waitpid(pid, 0)
    os.close(locked)
    os.close(released)

    assert holder == f"{os.getpid()} {os.getpid()}\n"


def test_a_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """With why."""
    with pytest.raises(StoreError, match=r"cannot write .*/none/lock: No such file") as caught:
        Lock(tmp_path / "none" / "lock", owner=1)

    assert caught.value.status is Exit.CANTCREAT


# -- identity


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_the_same_file_by_another_name_is_locked(tmp_path: Path, hold: Hold, link: Callable[..., None]) -> None:
    """A symbolic or a hard link to it; a copy is another one."""
    path, other = tmp_path / "queues.db", tmp_path / "other.db"
    path.write_bytes(b"x")
    link(path, other)
    (tmp_path / "copy.db").write_bytes(b"x")
    hold(lambda: IdentityLock(path, lambda: (0, 0), owner=1))

    with pytest.raises(StoreError, match=f"process {os.getpid()} holds {other}") as caught:
        IdentityLock(other, lambda: (os.getpid(), 1), owner=1)
    IdentityLock(tmp_path / "copy.db", lambda: (0, 0), owner=1).release()

    assert caught.value.status is Exit.UNAVAILABLE


def test_another_descriptor_that_is_closed_does_not_end_the_lock(tmp_path: Path, hold: Hold) -> None:
    """Other than a record lock: SQLite closes some."""
    path = tmp_path / "queues.db"
    path.write_bytes(b"x")

    def take() -> IdentityLock:
        taken = IdentityLock(path, lambda: (0, 0), owner=1)
        path.read_bytes()
        return taken

    hold(take)

    with pytest.raises(StoreError, match="an unknown process"):
        IdentityLock(path, lambda: (0, 0), owner=1, patience_s=0.1)


def test_a_released_file_can_be_locked_again(tmp_path: Path) -> None:
    """By the same process as well."""
    path = tmp_path / "queues.db"
    path.write_bytes(b"x")

    for _ in range(2):
        IdentityLock(path, lambda: (0, 0), owner=1, patience_s=0.1).release()


def test_where_files_have_no_such_locks_several_names_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SQLite has a log for each of them."""
    monkeypatch.setattr(lock, "_OFD_SETLK", None)
    path = tmp_path / "queues.db"
    path.write_bytes(b"x")
    IdentityLock(path, lambda: (0, 0), owner=1).release()
    os.link(path, tmp_path / "other.db")

    with pytest.raises(StoreError, match="hard links"):
        IdentityLock(path, lambda: (0, 0), owner=1)


def test_who_is_alive() -> None:
    """Processes of others are, too; numbers below 1 are none."""
    assert is_alive(os.getpid())
    assert is_alive(1)
    assert not is_alive(dead_process())
    assert not is_alive(0)
    assert not is_alive(-1)
