"""Room on the disk that is kept for what makes room: a file beside the database that can be given up.

To delete a message SQLite has to write. On a disk without a free octet consumers could not settle anything, and so
nothing would ever become free. When that happens the file is removed; it is made again when there is plenty.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

RESERVE_OCTETS = 8_388_608
"""A whole write-ahead log of SQLite, as long as nobody reads the database for long."""
_PART = 16
"""Of the file system, at most: a small one has less to write, too."""
_PLENTY = 2
"""So many times the reserve has to be free before it is made: it must not be what fills the disk."""
_MODE = 0o600


class Reserve:
    """The reserve of one store."""

    def __init__(self, path: Path) -> None:
        """Nothing is touched."""
        self._path = path

    @property
    def octets(self) -> int:
        """Its size; 0: there is none."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def keep(self) -> bool:
        """Make the file if it is not there and there is plenty of room; tell whether it is there."""
        try:
            found = os.statvfs(self._path.parent)
        except OSError:
            return False
        size = min(RESERVE_OCTETS, found.f_blocks * found.f_frsize // _PART)
        if self.octets >= size:
            return True
        return found.f_bavail * found.f_frsize >= _PLENTY * size and self._make(size)

    def give_up(self) -> bool:
        """Remove the file; tell whether there was one."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def _make(self, size: int) -> bool:
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _MODE)
        except OSError:
            return False
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError:
            with suppress(OSError):
                self._path.unlink()
            return False
        finally:
            os.close(descriptor)
        return True
