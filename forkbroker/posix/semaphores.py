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
- Collecting the object does not close the semaphore; `close` does.
"""

from __future__ import annotations

import posix_ipc

from forkbroker.errors import Exit, StartError


class SemaphorePool:
    """Semaphores by number, `range(size)`, each at 0 until it is posted."""

    def __init__(self, size: int) -> None:
        """Open and unlink `size` semaphores. Call before the first fork.

        Raises:
            StartError: the system has no more of them, or none at all.
        """
        self.size = size
        self._semaphores: list[posix_ipc.Semaphore] = []
        try:
            for _ in range(size):
                self._semaphores.append(_open_unlinked())
        except (posix_ipc.Error, OSError, MemoryError) as error:
            opened = len(self._semaphores)
            self.close()
            raise StartError(_refusal(error, opened, size), Exit.OSERR) from error
        self._acquire = [semaphore.acquire for semaphore in self._semaphores]
        self._post = [semaphore.release for semaphore in self._semaphores]

    def try_acquire(self, slot: int) -> bool:
        """Take the slot's one post without waiting; True for exactly one process for each post."""
        try:
            self._acquire[slot](0)
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
    semaphore = posix_ipc.Semaphore(None, posix_ipc.O_CREX, mode=0o600, initial_value=0)
    semaphore.unlink()
    return semaphore


def _refusal(error: BaseException, opened: int, size: int) -> str:
    reason = str(error) or type(error).__name__
    return (
        f"the system gave {opened} of {size} POSIX semaphores, then: {reason}; "
        "see that the shared memory file system is mounted, writable and not full (on Linux /dev/shm, on FreeBSD /tmp)"
    )
