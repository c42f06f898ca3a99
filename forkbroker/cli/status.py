"""Tell whether a broker runs: `stomp-broker --pidfile FILE --status`, for people and for init scripts.

The lock of the pidfile is asked, not the number in it: a broker that was killed leaves the number behind, and the
system gives it to a stranger. Exit statuses are those of the Linux Standard Base for the verb `status`.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

from forkbroker.posix.pidfile import find_holder


class Status(IntEnum):
    """Exit statuses of `--status`."""

    RUNNING = 0
    DEAD = 1
    """It was killed, and its pidfile is left."""
    NOT_RUNNING = 3
    UNKNOWN = 4
    """The pidfile cannot be read."""


def find_status(pidfile: Path) -> tuple[Status, str]:
    """Return what there is to say; if a broker runs, its process number is the last word."""
    try:
        holder = find_holder(pidfile)
        is_empty = holder is None and pidfile.stat().st_size == 0
    except FileNotFoundError:
        return Status.NOT_RUNNING, "stomp-broker is not running"
    except OSError as error:
        return Status.UNKNOWN, f"cannot read {pidfile}: {error.strerror}"
    if holder:
        return Status.RUNNING, f"stomp-broker is running, process {holder}"
    if holder == 0:
        return Status.RUNNING, "stomp-broker is running in another container"
    if is_empty:  # its end was in good order, but the directory was not its own
        return Status.NOT_RUNNING, "stomp-broker is not running"
    return Status.DEAD, f"stomp-broker is dead, and its pidfile {pidfile} is left"
