"""Memory of a process that is there to be forked, in few large pages.

A fork copies an entry for each page of 4 KiB that a process has, and the end of the new process takes them back, one by
one. Linux (6.1 and newer) can put 2 MiB into one page (MADV_COLLAPSE), which is one entry. The memory is shared as
before: who writes to it gets a copy of 4 KiB. Of the nursery's 20 MiB between 6 and 14 lie so that this is possible,
which depends on where the system has put them. Fork and end of a process, measured on an idle heap: 1,015 µs without
it, 780 to 860 with it.

Elsewhere nothing happens.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

_MAPS = Path("/proc/self/maps")
_MADV_COLLAPSE = 25


def collapse() -> None:
    """Have as much of this process's own memory as possible in large pages. It takes some 10 ms."""
    if sys.platform != "linux":
        return
    # not ours to guarantee: an interpreter without ctypes, a system without /proc, a kernel that knows no such advice
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        advise = ctypes.CDLL(None).madvise
        advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        # not read_text: it looks for the codec, in files that the user of the broker may not be able to read
        for line in _MAPS.read_bytes().decode("ascii", "replace").splitlines():
            places, rights, _offset, _device, inode, *_name = line.split()
            if rights == "rw-p" and inode == "0":
                start, _, end = places.partition("-")
                advise(int(start, 16), int(end, 16) - int(start, 16), _MADV_COLLAPSE)
