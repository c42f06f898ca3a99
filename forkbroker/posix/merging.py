"""Equal pages of all processes as one page (KSM): memory for processor time, where the administrator wants that.

The processes of clients write to the same pages in the same way, so most of these are equal again. Linux (6.4 and
newer) looks for such pages in processes that ask for it, in a thread of the kernel (ksmd) that the administrator has to
start. A process that is forked has asked as well.

What speaks against it, and why it is an option: ksmd needs processor time, and 0.3 MiB of the kernel's memory for the
processes that it watches, each. And whoever writes to a page can tell by the time that takes whether another process
has an equal one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from forkbroker.posix.c_library import find_function

_RUNS = Path("/sys/kernel/mm/ksm/run")
_PR_SET_MEMORY_MERGE, _PR_GET_MEMORY_MERGE = 67, 68


def can_merge() -> bool:
    """Whether the kernel can do it for whole processes."""
    call = _find_prctl()
    return call is not None and call(_PR_GET_MEMORY_MERGE, 0, 0, 0, 0) >= 0


def is_merging() -> bool:
    """Whether the kernel looks for equal pages now."""
    with suppress(OSError):
        return _RUNS.read_text(encoding="ascii").strip() == "1"
    return False


def merge() -> None:
    """Let the kernel have equal pages of this process, and of all that it forks, as one. Where `can_merge` is true."""
    call = _find_prctl()
    if call is not None:
        call(_PR_SET_MEMORY_MERGE, 1, 0, 0, 0)


def _find_prctl() -> Callable[..., int] | None:
    return find_function("prctl") if sys.platform == "linux" else None
