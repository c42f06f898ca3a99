"""Memory of a process that is there to be forked, as a file that nobody has written to yet.

A fork copies an entry for each page that the process has, and the end of the new process takes them back, one by one:
about 0.1 µs each for both, and the nursery has 5,700 of them. Of the pages of a file there are entries only for those
that were used, and a page without an entry is found again when it is needed. So the memory of this process is copied
into a file in memory (memfd_create(2)), and the file is mapped in its place, privately: a process that writes to a page
gets a copy of it, as before. 2,900 entries are left, as the kernel maps sixteen pages where one of them is read.

To put memory into the place of memory that the interpreter works with, there must be nothing in between that changes
it: no instruction of Python's. So all copying and mapping is a chain of calls of the C library, of which each leads to
the next one (makecontext(3)), on stacks that are not part of it.

The file itself is in large pages, where Linux (6.1 and newer) has some. Entries are for 4 KiB nonetheless, as this
memory does not begin where a large page does. But who has a page is counted once for sixteen of them, and that is most
of what an entry costs.

This works on Linux with glibc, where it is known how these calls take their arguments. Elsewhere nothing happens, and
nothing is missing but speed. A process that has inherited much is left alone as well: it would have all of that twice.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask
from typing import Any

from forkbroker.posix.signals import ALL_SIGNALS

_MAPS = Path("/proc/self/maps")
_MACHINES = {"x86_64", "aarch64"}
"""Processors that pass a number of 64 bits as an argument of a context's function, where an int is asked for."""
_MOST = 64 << 20
"""Octets: three times what a nursery has that is forked at the broker's start. One that is forked later, from a parent
with many messages, has these as well."""
_DATA = 64 << 10
"""Octets: data of a shared library that is worth it. The interpreter has 1.2 MiB, of which it uses little."""
_ROOM, _CONTEXT = 64 << 10, 8 << 10
"""Octets: what a call has, of which its context takes the beginning (glibc: 1 to 5 KiB), and its stack the rest."""
_LINK, _STACK, _STACK_SIZE = 1, 2, 4
"""Words of a ucontext_t: the context that follows, where the stack begins, and how many octets it has."""
_LARGE = 2 << 20
"""Octets of a large page, where pages have 4 KiB."""
_MAP_FIXED, _MS_ASYNC, _MADV_COLLAPSE = 0x10, 1, 25
"""mmap(2), msync(2), madvise(2): on Linux the same everywhere. What msync does is to tell whether all of a region is
mapped."""

Region = tuple[int, int]
"""Address and size."""


def take() -> None:
    """Have this process's own memory mapped from a file. It takes some 10 ms, and signals wait; threads must not be.

    The process has one descriptor more while this runs, and a mapping as large as its memory.
    """
    if sys.platform != "linux" or platform.machine() not in _MACHINES or sys.maxsize < 1 << 32:
        return
    # not ours to guarantee: an interpreter without ctypes, a C library without contexts, a system without /proc, a
    # limit of memory
    with suppress(ImportError, OSError, AttributeError, ValueError):
        _take()


def _take() -> None:
    regions = list(_list_regions())
    total = sum(size for _, size in regions)
    if total > _MOST:
        return
    import ctypes
    from mmap import MAP_PRIVATE, PROT_READ, PROT_WRITE

    library = ctypes.CDLL(None)
    calls = _Calls(library, 2 * len(regions))
    descriptor = os.memfd_create("image", os.MFD_CLOEXEC)
    try:
        image = _Image(library, descriptor, total)
        offset, rights = 0, PROT_READ | PROT_WRITE
        for start, size in regions:
            calls.add(library.memmove, image.place + offset, start, size)
            calls.add(library.mmap, start, size, rights, MAP_PRIVATE | _MAP_FIXED, descriptor, offset)
            offset += size
        # memory that was given back meanwhile is not there to be copied
        if not any(library.msync(ctypes.c_void_p(start), ctypes.c_size_t(size), _MS_ASYNC) for start, size in regions):
            # what a handler notes in a place that is copied, and not mapped yet, would be lost
            held = pthread_sigmask(SIG_BLOCK, ALL_SIGNALS)
            try:
                calls.do()
            finally:
                pthread_sigmask(SIG_SETMASK, held)
    finally:
        os.close(descriptor)


def _list_regions() -> Iterator[Region]:
    """Give the regions of this process's own that it may write to, but for its stack."""
    # not read_text: it looks for the codec, in files that the user of the broker may not be able to read
    for line in _MAPS.read_bytes().decode("ascii", "replace").splitlines():
        places, rights, _offset, _device, inode, *name = line.split()
        start, _, end = places.partition("-")
        region = int(start, 16), int(end, 16) - int(start, 16)
        if rights == "rw-p" and name != ["[stack]"] and (inode == "0" or region[1] >= _DATA):
            yield region


class _Image:
    """The file, mapped so that what is written there is its content; as long as this object lives."""

    def __init__(self, library: Any, descriptor: int, size: int) -> None:
        """Raises OSError: no memory for it."""
        import ctypes
        from mmap import MAP_SHARED, PROT_READ, PROT_WRITE, mmap

        size += -size % _LARGE
        os.posix_fallocate(descriptor, 0, size)  # or the system would end the process when it has no memory
        self._around = mmap(-1, size + _LARGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._around))
        self.place = start + -start % _LARGE
        """Where it begins: at a multiple of the size of a large page."""
        library.mmap.restype = ctypes.c_void_p
        place, length = ctypes.c_void_p(self.place), ctypes.c_size_t(size)
        how = MAP_SHARED | _MAP_FIXED
        if library.mmap(place, length, PROT_READ | PROT_WRITE, how, descriptor, ctypes.c_long(0)) != self.place:
            raise OSError("no place for the image")
        library.madvise(place, length, _MADV_COLLAPSE)


class _Calls:
    """Calls of the C library, one after the other, without anything of the interpreter's between them.

    Each has a context with a stack of its own, and is followed by the next one's. The first context is the way back.
    """

    def __init__(self, library: Any, count: int) -> None:
        """`count`: how many will be added."""
        import ctypes
        from mmap import mmap

        self._library = library
        self._long, self._pointer = ctypes.c_long, ctypes.c_void_p
        # shared, and so not part of what is copied: these stacks are used meanwhile
        words = ctypes.c_size_t * (_ROOM // ctypes.sizeof(ctypes.c_size_t))
        self._contexts = (words * (count + 1)).from_buffer(mmap(-1, (count + 1) * _ROOM))
        self._places = [ctypes.addressof(context) for context in self._contexts]
        self._added = 0

    def add(self, function: Any, *arguments: int) -> None:
        """Call this one behind those that were added before."""
        self._added += 1
        place, context = self._places[self._added], self._contexts[self._added]
        self._library.getcontext(self._pointer(place))
        context[_LINK] = self._places[(self._added + 1) % len(self._places)]
        context[_STACK], context[_STACK_SIZE] = place + _CONTEXT, _ROOM - _CONTEXT
        self._library.makecontext(self._pointer(place), function, len(arguments), *map(self._long, arguments))

    def do(self) -> None:
        """Do them all."""
        self._library.swapcontext(self._pointer(self._places[0]), self._pointer(self._places[1]))
