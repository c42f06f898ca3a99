"""Octets in a file without a name (memfd_create(2)): written once, and sent by many processes from there (sendfile(2)).

The file is memory. It has no place on any disk, and is gone with its last descriptor, be it in a process or on its way
between two of them: nothing is left of it when processes are killed.

The processes that get it serve different clients. So it is sealed: none of them can change what the others send.

FORKBROKER_MEMORY_FILES=off makes the broker do without, as on systems that have no such files, so that tests can have
both.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from typing import ClassVar

from forkbroker.wire.envelope import Buffer

VARIABLE = "FORKBROKER_MEMORY_FILES"

MOST = 32
"""So many of one process's own making at the same time: each is a descriptor that others may need."""

_IS_POSSIBLE = hasattr(os, "memfd_create") and hasattr(os, "sendfile") and os.environ.get(VARIABLE) != "off"
_FLAGS = getattr(os, "MFD_CLOEXEC", 0) | getattr(os, "MFD_ALLOW_SEALING", 0)
_SEALS = sum(getattr(fcntl, f"F_SEAL_{name}", 0) for name in ("SEAL", "SHRINK", "GROW", "WRITE"))
_GATHER = min(256, os.sysconf("SC_IOV_MAX"))


class MemoryFile:
    """An open descriptor of such a file, closed with the last reference to this."""

    __slots__ = ("_is_made", "fd", "size")

    _made: ClassVar[int] = 0

    def __init__(self, fd: int, size: int) -> None:
        """Take over the descriptor of a file with so many octets."""
        self._is_made = False
        self.fd = fd
        self.size = size

    @classmethod
    def make(cls, buffers: Sequence[Buffer]) -> MemoryFile | None:
        """Return a file with these octets; None: the system has no such files, or no room for one, or there are `MOST`.

        It never blocks.
        """
        if not _IS_POSSIBLE or cls._made >= MOST:
            return None
        size = sum(map(len, buffers))
        try:
            made = cls(os.memfd_create("frames", _FLAGS), size)
            for at in range(0, len(buffers), _GATHER):
                size -= os.writev(made.fd, buffers[at : at + _GATHER])
            if size:
                return None  # a full file system, or a limit on the size of files, met in the middle
            if _SEALS:
                fcntl.fcntl(made.fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:
            return None
        made._is_made = True
        cls._made += 1
        return made

    def read(self, offset: int, octets: int) -> bytes:
        """Return so many octets from there on.

        Raises:
            OSError: there is no memory for it.
        """
        return os.pread(self.fd, octets, offset)

    def __del__(self) -> None:
        """Close it."""
        os.close(self.fd)
        if self._is_made:
            MemoryFile._made -= 1
