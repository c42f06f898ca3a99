"""Forks for a process that does little else: without the interpreter's hooks, and where possible as a sibling.

`os.fork` runs what modules have registered (threading, logging, random) in parent and child, and so writes to some
500 KiB of pages that the child has shared with its parent until then. A process with one thread, whose locks are free
and whose children keep no secrets in `random`, needs none of that.

There are three methods:

- SIBLING (Linux, where the processor's number for clone(2) is known): the new process is a child of the caller's
  parent, which reaps it, and hears of its end by SIGCHLD, as if it had forked it itself.
- RAW: fork(2) by the C library. The new process is the caller's child.
- HOOKED: `os.fork`, where Python can't call the C library.

FORKBROKER_BIRTHS=sibling, raw or hooked makes the broker take another one than the best, so that tests can have
them all.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Callable
from enum import Enum
from functools import partial

VARIABLE = "FORKBROKER_BIRTHS"

_CLONE_PARENT = 0x8000
_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220, "ppc64le": 120}
"""Numbers of clone(2), where its flags come first. Of 64-bit programs: a 32-bit one may run on the same machine."""


class Method(Enum):
    """How a process is made."""

    SIBLING = "sibling"
    RAW = "raw"
    HOOKED = "hooked"


def _raw_fork() -> Callable[[], int] | None:
    """fork(2) of the C library; None if it can't be called."""
    try:
        import ctypes

        # PyDLL keeps the interpreter's lock: nothing of the interpreter runs between the fork and the return
        fork: Callable[[], int] = ctypes.PyDLL(None, use_errno=True).fork
    except (ImportError, OSError, AttributeError, MemoryError):
        return None
    return fork


def _sibling_fork() -> Callable[[], int] | None:
    """clone(2) with CLONE_PARENT; None if this system has none, or is not known well enough."""
    number = _CLONE.get(platform.machine())
    if sys.platform != "linux" or number is None or sys.maxsize < 1 << 32:
        return None
    try:
        import ctypes

        call: Callable[..., int] = ctypes.PyDLL(None, use_errno=True).syscall
    except (ImportError, OSError, AttributeError, MemoryError):
        return None
    # small numbers: as int each of them fills a register
    return partial(call, number, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)


def _choose() -> tuple[Method, Callable[[], int]]:
    methods: dict[Method, Callable[[], int] | None] = {
        Method.SIBLING: _sibling_fork(),
        Method.RAW: _raw_fork(),
        Method.HOOKED: os.fork,
    }
    wanted = os.environ.get(VARIABLE)
    for method, fork in methods.items():
        if fork is not None and wanted in (None, "", method.value):
            return method, fork
    known = ", ".join(method.value for method, fork in methods.items() if fork is not None)
    raise SystemExit(f"stomp-broker: {VARIABLE}={wanted}: there are {known}")


def refusal() -> OSError:
    """Why `bear` has just given a negative number."""
    import ctypes

    return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


METHOD, bear = _choose()
"""The best method, and its function: as fork(2), it gives 0 in the new process and that one's number in the caller. If
the system has no room for a process, it gives a negative number (`refusal`), or raises OSError. No function of
Python's, as each of those would be written to in the new process."""
