"""Large blocks of memory: used again while there is work, and given back when there is none.

A read, an envelope, a gather write of many messages is a block of some hundred KiB. glibc maps each one from 128 KiB on
for itself alone, has its pages zero-filled as they are touched, and unmaps it when it is freed. These page faults were
the largest cost of a message of 1 KiB, and two thirds of that of a body of 1 MiB. So blocks up to 4 MiB are taken from
the heap instead, of which up to 8 MiB stay for the next ones. A process that has nothing to do gives back what it can.

Where the C library is another one, or Python can't call it, nothing happens.
"""

from __future__ import annotations

from forkbroker.posix.c_library import find_function

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""The parameters of mallopt(3) have these numbers in malloc.h."""
_KEPT = 8_388_608
"""Octets of free heap that stay for the next blocks: several of the largest that a turn uses at the same time."""
_MAPPED_FROM = 4_194_304
"""Octets of a block from which the system is the better place for it: it goes back at once."""

_mallopt, _malloc_trim = find_function("mallopt"), find_function("malloc_trim")


def use_again() -> None:
    """Use blocks again: this process from now on, and all that it forks."""
    if _mallopt is not None:
        _mallopt(_MMAP_THRESHOLD, _MAPPED_FROM)
        _mallopt(_TRIM_THRESHOLD, _KEPT)


def give_back() -> None:
    """Give all free memory of this process back to the system. It takes some 0.1 ms, and more in a large heap."""
    if _malloc_trim is not None:
        _malloc_trim(0)
