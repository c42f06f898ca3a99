"""One broker a store: a lock beside the database, and the number of the process that has it.

The process of the store holds the lock, and the number is its broker's: that is the one to stop. Like that of the
pidfile it is a record lock, gone when its process ends however that comes, and gone as well as soon as the process
closes any descriptor of the file.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from forkbroker.errors import Exit
from forkbroker.store.api import StoreError

PATIENCE_S = 10.0
"""How long an earlier store, whose broker is dead, may take to commit what it has heard last."""
_POLL_S = 0.02
_MODE = 0o600


class Lock:
    """The lock of one store, from its taking to `release`."""

    def __init__(self, path: Path, *, owner: int, patience_s: float = PATIENCE_S) -> None:
        """Lock `path` for the broker with the process number `owner`.

        Raises:
            StoreError: another broker has it, or the file can't be made.
        """
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}", Exit.CANTCREAT) from error
        give_up = time.monotonic() + patience_s
        while not _try_lock(self._fd):
            holder = _read_holder(self._fd)
            if time.monotonic() >= give_up or (holder != owner and _is_alive(holder)):
                os.close(self._fd)
                raise StoreError(
                    f"a broker uses this store already (process {holder or 'unknown'} holds {path}); "
                    "stop that one first, or give this one another --store",
                    Exit.UNAVAILABLE,
                )
            time.sleep(_POLL_S)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{owner}\n".encode(), 0)

    def release(self) -> None:
        """Give it up. The file stays: whoever waits for it has it open."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read_holder(fd: int) -> int:
    """The number in the file; 0 while there is none."""
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
