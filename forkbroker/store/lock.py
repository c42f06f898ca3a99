"""One broker a store: a lock on a file, and the numbers of the processes that have it.

Two files are locked so. The one beside the database has a name, and says in words which broker is in. The database
itself has an identity: the same file may have several names (a symbolic link, a hard link), and the file beside it can
be deleted. So a byte of it that SQLite never uses is locked as well (`IdentityLock`).

The process of the store holds the locks, and the first number is its broker's: that is the one to stop. They are gone
when the process ends, however that comes.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from forkbroker.errors import Exit
from forkbroker.posix.signals import is_alive
from forkbroker.store.api import StoreError

PATIENCE_S = 10.0
"""How long an earlier store, whose broker is dead, may take to commit what it has heard last."""
_POLL_S = 0.02
_MODE = 0o600
_REMEDY = "stop that one first, or give this one another --store"
_IDENTITY_AT = 1 << 62
"""SQLite locks bytes around 1 GiB, and no file is so long."""
_OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None)
_FLOCK = "hhqqi"
"""The C structure of Linux: type, whence, start, length, process."""


class Lock:
    """The lock of one store by its name, from its taking to `release`.

    It is a record lock, gone as well as soon as the process closes any descriptor of the file.
    """

    def __init__(self, path: Path, *, owner: int, patience_s: float = PATIENCE_S) -> None:
        """Lock `path` for the broker with the process number `owner`.

        Raises:
            StoreError: another broker has it, or the file can't be made.
            OSError: the file can't be written.
        """
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}", Exit.CANTCREAT) from error
        try:
            _wait(lambda: _try_lock(self._fd), lambda: _read_holders(self._fd), path, owner, patience_s)
        except StoreError:
            os.close(self._fd)
            raise
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d %d\n" % (owner, os.getpid()), 0)
        except OSError as error:
            os.close(self._fd)
            error.filename = str(path)
            raise

    def release(self) -> None:
        """Give it up. The file stays: whoever waits for it has it open."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


class IdentityLock:
    """The lock of one store by its file, whatever name it was opened by, from its taking to `release`.

    It belongs to the open descriptor, so it stays when SQLite closes another one of the same file. Linux has such
    locks; elsewhere a second broker is found out by the next group of the first one, see `forkbroker.store.sqlite`.
    """

    def __init__(
        self, path: Path, read_holders: Callable[[], tuple[int, int]], *, owner: int, patience_s: float = PATIENCE_S
    ) -> None:
        """Lock the file. `read_holders` finds out the numbers of broker and store that have it, 0 if it can't.

        Raises:
            StoreError: another broker has it; or it can't be known, as the file has several names.
            OSError: the file can't be opened.
        """
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if _OFD_SETLK is None and os.fstat(self._fd).st_nlink > 1:
                raise StoreError(
                    f"{path} has other names (hard links), which is not safe here: remove them", Exit.CONFIG
                )
            _wait(lambda: _try_lock_byte(self._fd), read_holders, path, owner, patience_s)
        except StoreError:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Give it up. Only after SQLite has closed the file: this takes all other locks of the process away."""
        os.close(self._fd)


def _wait(
    try_lock: Callable[[], bool],
    read_holders: Callable[[], tuple[int, int]],
    path: Path,
    owner: int,
    patience_s: float,
) -> None:
    """Raises StoreError: another broker has it, and is alive, or its store doesn't end in time."""
    give_up = time.monotonic() + patience_s
    while not try_lock():
        broker, store = read_holders()
        if broker != owner and is_alive(broker):
            raise _make_refusal(
                path, f"process {broker} holds", "stop that one first, or give this one another --store"
            )
        if time.monotonic() >= give_up:
            raise _make_refusal(path, *_describe_orphan(broker, store, patience_s))
        time.sleep(_POLL_S)


def _describe_orphan(broker: int, store: int, patience_s: float) -> tuple[str, str]:
    if not is_alive(store):
        return "an unknown process holds", "find it with fuser(1), and stop it"
    return (
        f"process {store}, the store of broker {broker}, does not end within {patience_s:g} s and holds",
        f"kill process {store} if it does not end by itself",
    )


def _make_refusal(path: Path, holds: str, remedy: str) -> StoreError:
    return StoreError(f"a broker uses this store already ({holds} {path}); {remedy}", Exit.UNAVAILABLE)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _try_lock_byte(fd: int) -> bool:
    if _OFD_SETLK is None:
        return True
    try:
        fcntl.fcntl(fd, _OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _IDENTITY_AT, 1, 0))
    except OSError:
        return False
    return True


def _read_holders(fd: int) -> tuple[int, int]:
    """The numbers in the file, 0 while there is none; brokers before version 0.3 wrote their own alone."""
    numbers = [int(text) for text in os.pread(fd, 64, 0).split() if text.isdigit()]
    return (numbers[0] if numbers else 0), (numbers[1] if len(numbers) > 1 else 0)
