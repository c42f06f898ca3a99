"""The pool of POSIX semaphores in which children claim what they are offered.

A slot's semaphore stands at 0 while the slot is free. The parent posts it once and offers a run of messages to
several children; whichever process then brings it back to 0 has claimed the run, and the kernel sees to it that this
is one process only.

The semaphores are unnamed (sem_init(3), shared between processes), in memory that is mapped before the first fork and
that children inherit. Named ones (sem_open(3)) work as well, but have a name for some microseconds: a broker that is
killed just then leaves a file behind, and the C library's part of these files has random names which no later start
could tell from those of other programs. What has no name leaves nothing behind, however the broker ends.

How they behave, and what follows:
- sem_trywait(3) never waits, and nothing here ever does. EINTR says nothing about the semaphore: it is tried again.
- A semaphore is not robust: one that a killed process had acquired stays at 0, and no other process is told. This is
  what the broker relies on. After a candidate's death without an answer, the parent tries the semaphore itself: if it
  gets it, the candidate had not claimed; otherwise it had. What the dead child knew, the semaphore still tells.
- The type's size differs between systems (16 to 32 bytes); each has a cell of its own, which no other processor's
  claims disturb.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable

from forkbroker.errors import Exit, StartError

_CELL = 128
"""Bytes for one semaphore: more than any system needs, and two cache lines."""
_SHARED = 1

_Call = Callable[[int], int]
"""A function of the C library on the address of a semaphore: 0, or -1 and errno."""


class SemaphorePool:
    """Semaphores by number, `range(size)`, each at 0 until it is posted."""

    def __init__(self, size: int) -> None:
        """Map and initialise `size` semaphores. Call before the first fork.

        Raises:
            StartError: there is no memory for them, or the system has no such semaphores.
        """
        self.size = size
        try:
            library = ctypes.CDLL(None, use_errno=True)
            self._try: _Call = _declare(library, "sem_trywait")
            self._post: _Call = _declare(library, "sem_post")
            self._memory = mmap.mmap(-1, size * _CELL)
        except (OSError, MemoryError, AttributeError) as error:
            raise StartError(_refusal(error, size), Exit.OSERR) from error
        # The address stays valid as long as `_first` lives, which keeps the memory from being unmapped.
        self._first = ctypes.c_char.from_buffer(self._memory)
        start = ctypes.addressof(self._first)
        self._addresses = range(start, start + size * _CELL, _CELL)
        try:
            self._initialise(library)
        except OSError as error:
            self.close()
            raise StartError(_refusal(error, size), Exit.OSERR) from error

    def _initialise(self, library: ctypes.CDLL) -> None:
        initialise = library.sem_init
        initialise.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint]
        for address in self._addresses:
            if initialise(address, _SHARED, 0):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def try_acquire(self, slot: int) -> bool:
        """Take the slot's one post without waiting; True for exactly one process for each post."""
        address = self._addresses[slot]
        while self._try(address):
            if ctypes.get_errno() != errno.EINTR:
                return False
        return True

    def post(self, slot: int) -> None:
        """Let one process acquire the slot. The parent's alone, and only while the slot is free."""
        self._post(self._addresses[slot])

    def close(self) -> None:
        """Unmap the semaphores of this process; other processes keep theirs. Harmless if that is done already."""
        if not self._memory.closed:
            self._addresses = range(0)
            del self._first
            self._memory.close()


def _declare(library: ctypes.CDLL, name: str) -> _Call:
    function = library[name]
    function.argtypes = [ctypes.c_void_p]
    return function


def _refusal(error: BaseException, size: int) -> str:
    reason = str(error) or type(error).__name__
    return (
        f"the system has no room for {size} POSIX semaphores: {reason}; the broker needs unnamed semaphores that "
        "processes share, as Linux, FreeBSD, NetBSD and illumos have them"
    )
