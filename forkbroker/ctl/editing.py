"""Changing a password file, so that each reader finds the old one or the new one as a whole.

The new file has the owner and the mode of the old one (`forkbroker.posix.files.replace`). Whoever changes the file has
a record lock on it meanwhile, so two changes at a time come one after the other: the second waits, finds that the name
means another file by then, and locks that one. A lock file would stay behind; this leaves nothing.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from forkbroker.posix.files import replace

Change = Callable[[list[bytes]], list[bytes]]
"""Makes of the lines of a file the lines that it is to have."""


def edit(path: Path, change: Change, *, create: bool = False) -> None:
    """Give a file other lines; `create`: with mode 0600 if there is none.

    Raises:
        OSError: the file cannot be read or replaced; it is as it was.
        Whatever `change` raises; the file is as it was.
    """
    path = path.resolve()  # a link stays, and the file that it leads to changes
    with _lock(path, create=create) as fd:
        before = _read(fd)
        lines = before.split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        after = b"".join(line + b"\n" for line in change(lines))
        if after != before:
            old = os.fstat(fd)
            replace(path, after, mode=stat.S_IMODE(old.st_mode), owner=(old.st_uid, old.st_gid))


@contextmanager
def _lock(path: Path, *, create: bool) -> Iterator[int]:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX)
            if _is_named(path, fd):
                yield fd
                return
        finally:
            os.close(fd)


def _is_named(path: Path, fd: int) -> bool:
    """Whether the name still means the open file: another process may have replaced it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(fd))
    return False


def _read(fd: int) -> bytes:
    octets = bytearray()
    while part := os.read(fd, 65_536):
        octets += part
    return bytes(octets)
