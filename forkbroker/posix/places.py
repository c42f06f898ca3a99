"""A few places for work that not all processes may do at the same time.

A place is one byte of a file without a name, and whoever has a record lock on it has the place (fcntl(2), F_SETLK). The
kernel frees the locks of a process however it ends: a semaphore would lose a place with each process that is killed
while it has one. Nothing waits here: whoever gets no place asks again.

Record locks belong to a process, and not to a descriptor. So the processes share one that they inherit, and none of
them closes it while it has a place.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from copy import copy
from pathlib import Path

from forkbroker.errors import Exit, StartError


class Places:
    """So many places as there are processors that this process may use. A process can have one of them."""

    def __init__(self, count: int | None = None) -> None:
        """Make the file. Call before the first fork.

        Raises:
            StartError: there is no directory for temporary files.
        """
        self.count = count or count_processors()
        self._first = 0
        try:
            self.descriptor = _open_unnamed()
            """What a process needs to have a place."""
        except OSError as error:
            raise StartError(f"cannot make a temporary file: {error.strerror}", Exit.CANTCREAT) from error

    def beside(self, count: int) -> Places:
        """Other places, in the same file. A process can have one of these as well."""
        other = copy(self)
        other._first, other.count = self._first + self.count, count
        return other

    def leave_one(self) -> None:
        """Use one place less in this process, if there are several: others have it for themselves."""
        self.count = max(1, self.count - 1)

    def try_take(self) -> bool:
        """Take a place, if one is free."""
        # not all of them begin with the same one
        first = os.getpid()
        for place in range(first, first + self.count):
            with suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._first + place % self.count)
                return True
        return False

    def give_back(self) -> None:
        """Free the place that this process has."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN, self.count, self._first)

    def close(self) -> None:
        """Close the file; this process has no place any more."""
        os.close(self.descriptor)


def _open_unnamed() -> int:
    """The descriptor of a file without a name, in memory if there are such files (memfd_create(2))."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("places", os.MFD_CLOEXEC)
    # with it come modules that nobody else needs
    import tempfile

    descriptor, path = tempfile.mkstemp()
    Path(path).unlink()
    return descriptor


def count_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
