"""A file with the broker's process number, and a lock that tells whether it is true.

The lock is a record lock (lockf), which belongs to one process. One of flock would be shared with every child, and
children that outlive a killed parent for a moment would keep the next broker out. It also tells who has it: whoever
wants to signal the broker asks for that (`find_holder`), as the number in a file that a dead broker has left may be a
stranger's by now.

A record lock has a trap of its own: it is gone as soon as the process closes *any* descriptor of the file. So nothing
else in the parent may open the pidfile, not even to read it. Children may: what they close does not count.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path

from forkbroker.errors import Exit, StartError
from forkbroker.posix.files import explain, open_own

_MODE = 0o644
"""Everybody may read it, whatever the umask: init scripts run `status` as any user."""

_FLOCK, _TYPE, _PID = ("hhqqi", 0, 4) if sys.platform.startswith("linux") else ("qqihhi", 3, 2)
"""The C structure flock, and where type and process are in it: Linux has type, whence, start, length, process, the
BSDs start, length, process, type, whence, system."""
_WHOLE_FILE = {"hhqqi": (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0), "qqihhi": (0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET, 0)}


class Pidfile:
    """The pidfile of this process, from its creation to `remove`."""

    def __init__(self, path: Path) -> None:
        """Lock `path` and write this process's number into it. After detaching: the lock is not inherited.

        A file that a dead broker left is taken over.

        Raises:
            StartError: a living broker holds it, or it cannot be written.
        """
        self._path = path
        self._fd = _open_locked(path)
        os.fchmod(self._fd, _MODE)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    @property
    def fd(self) -> int:
        """The descriptor that holds the lock; this process must not close it."""
        return self._fd

    def remove(self) -> None:
        """Unlink the file and give up the lock.

        After privileges were dropped the directory may not be ours to change; an emptied file then says the same.
        """
        try:
            if _stands_under(self._fd, self._path):
                self._path.unlink()
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, 0)
        os.close(self._fd)


def find_holder(path: Path) -> int | None:
    """Return the number of the process that has the pidfile locked; None: no process has.

    0 stands for a process that has no number here, as it is in another container. Nothing is locked by the question,
    so a broker that starts meanwhile is not disturbed.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(_FLOCK, *_WHOLE_FILE[_FLOCK]))
    finally:
        os.close(fd)
    found = struct.unpack(_FLOCK, answer)
    return None if found[_TYPE] == fcntl.F_UNLCK else max(0, found[_PID])


def _open_locked(path: Path) -> int:
    """A descriptor of the file that stands under `path` now, locked."""
    while True:
        try:
            fd = open_own(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise StartError(f"cannot write pidfile {path}: {explain(error)}", Exit.CANTCREAT) from error
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(fd, 32).decode(errors="replace").strip() or "not written yet"
            os.close(fd)
            raise StartError(
                f"a broker is running already (process {holder} holds pidfile {path}); "
                "stop that one first, or give this one another --pidfile",
                Exit.UNAVAILABLE,
            ) from error
        if _stands_under(fd, path):
            return fd
        # The one that held it unlinked it between our open and our lock: this lock is on a file without a name.
        os.close(fd)


def _stands_under(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
