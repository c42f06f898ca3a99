"""The pool of POSIX semaphores in which children claim what they are offered.

A slot's semaphore stands at 0 while the slot is free. The parent posts it once and offers a run of messages to
several children; whichever process then brings it back to 0 has claimed the run, and the kernel sees to it that this
is one process only.

How posix_ipc behaves, and what follows:
- `acquire(0)` is sem_trywait(3). When the value is 0 it raises `BusyError`, which is no `OSError`.
- A waiting `acquire` ends at a signal and is not taken up again. Nothing here ever waits.
- A semaphore is not robust: one that a killed process had acquired stays at 0, and nobody is told. This is what the
  broker relies on. After a candidate's death without an answer, the parent tries the semaphore itself: it gets it, and
  nobody had claimed; it does not, and somebody had. What the dead child knew, the semaphore still tells.
- Opening one and removing it takes about a hundred times as long as a claim. So all are opened before the first fork,
  and children inherit them.
- Each is unlinked as soon as it is open. The mapping goes on living in the processes that have it, and however the
  broker ends, nothing stays in the system.
- Only a broker that is killed between the two calls leaves something: a name that tells its process number, or a file
  that the C library (glibc) had not named yet. The next pool removes both (`sweep`). The second kind has a random name,
  but nobody else's initial value.
- Collecting the object does not close the semaphore; `close` does.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import posix_ipc

from forkbroker.errors import Exit, StartError
from forkbroker.posix.signals import is_alive

PREFIX = "/forkbroker-"
"""Of names; the number of the process follows."""
MARK = 77
"""Initial value of every semaphore: a file of the C library that has it is one of ours. Acquired so many times, it
stands at 0."""

_PLACES = ((Path("/dev/shm"), "sem."), (Path("/tmp"), "SEMD"))
"""Where the systems keep named semaphores, and what they put in front of the names."""
_UNNAMED = re.compile(r"[A-Za-z0-9]{6}")
_SETTLED_S = 2.0
"""A file that is younger may be another program's that is just opening it."""


class SemaphorePool:
    """Semaphores by number, `range(size)`, each at 0 until it is posted."""

    def __init__(self, size: int) -> None:
        """Open and unlink `size` semaphores, after a look for what dead brokers have left. Call before the first fork.

        Raises:
            StartError: the system has no more of them, or none at all.
        """
        self.size = size
        self._semaphores: list[posix_ipc.Semaphore] = []
        sweep()
        try:
            for _ in range(size):
                self._semaphores.append(_open_unlinked())
        except (posix_ipc.Error, OSError, MemoryError) as error:
            opened = len(self._semaphores)
            self.close()
            raise StartError(_refusal(error, opened, size), Exit.OSERR) from error
        self._post = [semaphore.release for semaphore in self._semaphores]

    def try_acquire(self, slot: int) -> bool:
        """Take the slot's one post without waiting; True for exactly one process for each post.

        A look first: where there is none, an exception would take eight times as long as that, and of a message that
        several workers share all but one of them come too late.
        """
        semaphore = self._semaphores[slot]
        if not semaphore.value:
            return False
        try:
            semaphore.acquire(0)
        except posix_ipc.BusyError:
            return False
        return True

    def post(self, slot: int) -> None:
        """Let one process acquire the slot. The parent's alone, and only while the slot is free."""
        self._post[slot]()

    def close(self) -> None:
        """Unmap the semaphores of this process; other processes keep theirs."""
        for semaphore in self._semaphores:
            semaphore.close()
        self._semaphores.clear()


def _open_unlinked() -> posix_ipc.Semaphore:
    """A semaphore at 0 under a name that was free, and is free again."""
    semaphore = posix_ipc.Semaphore(f"{PREFIX}{os.getpid()}", posix_ipc.O_CREX, mode=0o600, initial_value=MARK)
    with suppress(posix_ipc.ExistentialError):
        semaphore.unlink()
    for _ in range(MARK):
        semaphore.acquire(0)
    return semaphore


def sweep() -> None:
    """Remove what brokers of this user that were killed while they opened a semaphore have left in the system."""
    for path, name in _list_names():
        with suppress(OSError, posix_ipc.Error, ValueError):
            if path.stat().st_uid == os.geteuid() and _is_left(path, name):
                posix_ipc.unlink_semaphore(f"/{name}")


def _list_names() -> Iterator[tuple[Path, str]]:
    for place, front in _PLACES:
        with suppress(OSError):
            for path in place.glob(f"{front}*"):
                yield path, path.name.removeprefix(front)


def _is_left(path: Path, name: str) -> bool:
    """Whether a broker that is dead has left this."""
    if f"/{name}".startswith(PREFIX):
        pid = int(name[len(PREFIX) - 1 :])
        return pid == os.getpid() or not is_alive(pid)
    found = path.stat()
    if _UNNAMED.fullmatch(name) is None or time.time() - found.st_mtime < _SETTLED_S:
        return False
    # without content it is no semaphore, nor will it become one
    return found.st_size == 0 or _read_value(f"/{name}") == MARK


def _read_value(name: str) -> int:
    semaphore = posix_ipc.Semaphore(name)
    try:
        return int(semaphore.value)
    finally:
        semaphore.close()


def _refusal(error: BaseException, opened: int, size: int) -> str:
    reason = str(error) or type(error).__name__
    return (
        f"the system gave {opened} of {size} POSIX semaphores, then: {reason}; "
        "see that the shared memory file system is mounted, writable and not full (on Linux /dev/shm, on FreeBSD /tmp)"
    )
