"""Fork, and learn of ends.

Between fork and the child's own work the order is:
1. every signal is blocked in the parent before the fork, so that none of its handlers runs in the child;
2. descriptors that are not the child's are closed: as long as it holds a sibling's channel or a client's socket,
   nobody sees the end of that one;
3. signals are reset, and only then let through;
4. what was inherited is frozen: the collector would touch, and so copy, every page it looks at;
5. the child's program runs, and the process ends with `os._exit` whatever that program does: nothing of the
   parent's is flushed, unlinked or closed a second time.

The parent's objects live on in the child, their descriptors do not. They must not be closed or dropped there: the
numbers may belong to something new. As the program runs inside `fork`, its caller's frames keep them alive.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, TypeVar

from forkbroker.errors import Exit
from forkbroker.posix import collector
from forkbroker.posix.signals import ALL_SIGNALS, reset_signals

log = logging.getLogger(__name__)

T = TypeVar("T")

_SOFTWARE = int(Exit.SOFTWARE)
_STANDARD = 3
"""Descriptors below this are the standard streams."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that was reaped."""

    pid: int
    status: int
    """A wait status: forkbroker.posix.exits tells what it means."""
    cpu_s: float
    """Processor time, user and system."""
    peak_kib: int
    """The most memory that it had at once."""


def fork(main: Callable[[], int], keep: Iterable[int]) -> int:
    """Run `main` in a new process, which ends with the exit status that it returns; gives the process's number.

    The child has the standard streams and the descriptors in `keep` (its channel, its client, the log's), and no
    others. An exception in `main` is logged with its traceback and makes the exit status `Exit.SOFTWARE`.

    Raises:
        OSError: the system has no room for a process.
    """
    kept = sorted(set(keep))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            run(partial(_begin, main), kept)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _begin(main: Callable[[], int], kept: list[int]) -> int:
    _close_all_but(kept)
    reset_signals()
    collector.begin()
    return main()


def run(main: Callable[[T], int], argument: T) -> NoReturn:
    """End this process, which was just forked, with the status that `main(argument)` returns.

    An exception in it is logged with its traceback, and makes the exit status `Exit.SOFTWARE`.
    """
    status = _SOFTWARE
    try:
        status = main(argument)
    except MemoryError:
        log.error(
            "process %d: out of memory, exiting; raise --child-memory if it is too low for this client", os.getpid()
        )
    except BaseException:
        log.exception("process %d: unexpected exception, exiting", os.getpid())
    finally:
        os._exit(status)


def _close_all_but(kept: list[int]) -> None:
    """Close every descriptor that is neither a standard stream nor in `kept`, which is in order."""
    first = _STANDARD
    for fd in kept:
        if fd >= first:
            os.closerange(first, fd)
            first = fd + 1
    os.closerange(first, _descriptors())


def _descriptors() -> int:
    """A number that no descriptor of this process reaches."""
    limit = os.sysconf("SC_OPEN_MAX")
    return limit if limit > 0 else 65_536


def kill(pid: int) -> None:
    """End a child at once that has not been reaped."""
    os.kill(pid, signal.SIGKILL)


def reap() -> Iterator[Ended]:
    """Every child that has ended and was not reaped yet, without waiting.

    Each is reaped when it is asked for. Until then its number is its own, and it can be killed because of an end that
    is told before its own.
    """
    return iter(reap_one, None)


def reap_one(pid: int = -1, *, options: int = os.WNOHANG) -> Ended | None:
    """The end of one child, this one or any, without waiting; None when it has not ended, or there is no such child."""
    try:
        reaped, status, usage = os.wait4(pid, options)
    except ChildProcessError:
        return None
    return Ended(reaped, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss) if reaped else None


def is_child(pid: int) -> bool:
    """Whether this is a child that has not been reaped: so its number is its own."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def await_all() -> None:
    """Wait until no child is left."""
    while reap_one(options=0) is not None:
        pass
