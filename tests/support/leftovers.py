"""What a test must not leave behind: descriptors, semaphores, processes, a store where the machine's broker has it."""

from __future__ import annotations

import gc
import os
import subprocess
from pathlib import Path

from support.deadline import wait_until

_SHARED_MEMORY = Path("/dev/shm")
_SYSTEMS_STORE = Path("/var/lib/forkbroker/queues.db")
_GRACE_S = 3.0
"""How long a thread of a client library may take to close its socket, and somebody else's broker to start."""


def descriptors() -> set[str]:
    """The open descriptors of this process, by what they are open for."""
    found = set()
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 (an open directory must not be counted)
        try:
            found.add(f"{name}: {os.readlink(f'/proc/self/fd/{name}')}")  # noqa: PTH115
        except OSError:
            continue
    return found


def semaphores() -> set[str]:
    """The names of the broker's POSIX semaphores, where the system shows them."""
    return {path.name for path in _SHARED_MEMORY.glob("sem.forkbroker-*")}


def processes(group: int) -> list[str]:
    """The processes of a group that have not ended, as `ps` shows them."""
    shown = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pgid=,pid=,stat=,command="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 3) for line in shown.splitlines()]
    return [" ".join(row[1:]) for row in rows if int(row[0]) == group and not row[2].startswith("Z")]


def stores() -> set[str]:
    """The store of a broker that was started without being told where to have it."""
    return {str(_SYSTEMS_STORE)} if os.geteuid() == 0 and _SYSTEMS_STORE.exists() else set()


class Leftovers:
    """What was there before the test."""

    def __init__(self) -> None:
        self._before = self._look()

    def _look(self) -> set[str]:
        return descriptors() | semaphores() | stores()

    def find(self) -> set[str]:
        """What is there now and was not before."""
        return self._look() - self._before

    def check(self) -> None:
        """Fail when something stays."""
        if self.find():
            gc.collect()
            wait_until(lambda: not self.find(), f"an end of what the test left behind: {self.find()}", _GRACE_S)
