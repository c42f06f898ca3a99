"""Files without a name: made once, never changed, gone with their last descriptor."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.files import needs_memory_files

from forkbroker.wire.memory_file import MOST, VARIABLE, MemoryFile


@contextmanager
def limited(limit: int, soft: int) -> Iterator[None]:
    """A lower limit for this process."""
    before = resource.getrlimit(limit)
    resource.setrlimit(limit, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(limit, before)


def lowest_free() -> int:
    """The descriptor that would be opened next."""
    fd = os.dup(0)
    os.close(fd)
    return fd


@needs_memory_files
def test_it_has_all_octets_of_all_buffers() -> None:
    """Of more buffers than one call takes; it can be read in parts."""
    buffers = [b"%d " % number for number in range(1000)]
    made = MemoryFile.make([bytearray(b"begin "), *buffers, memoryview(b"end")])
    assert made is not None
    whole = b"begin " + b"".join(buffers) + b"end"

    assert made.size == len(whole)
    assert made.read(0, made.size) == whole
    assert made.read(6, 4) == b"0 1 "


@needs_memory_files
def test_nobody_can_change_it() -> None:
    """Whoever else has a descriptor."""
    made = MemoryFile.make([b"octets"])
    assert made is not None

    for change in (
        lambda: os.pwrite(made.fd, b"x", 0),
        lambda: os.ftruncate(made.fd, 3),
        lambda: os.ftruncate(made.fd, 9),
    ):
        with pytest.raises(PermissionError):
            change()
    assert made.read(0, 9) == b"octets"


@needs_memory_files
def test_it_is_closed_with_the_last_reference() -> None:
    """As one that came from another process is."""
    made = MemoryFile.make([b"octets"])
    assert made is not None
    came = MemoryFile(os.dup(made.fd), made.size)
    fds = (made.fd, came.fd)
    del made, came

    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@needs_memory_files
def test_only_so_many_are_open_at_the_same_time() -> None:
    """Of those that this process has made."""
    others = [MemoryFile(os.dup(0), 0) for _ in range(MOST)]
    made = [MemoryFile.make([b"x"]) for _ in range(MOST)]
    assert None not in made
    assert MemoryFile.make([b"x"]) is None
    del made, others

    assert MemoryFile.make([b"x"]) is not None


def test_without_a_descriptor_there_is_none() -> None:
    """And no error."""
    before = MemoryFile._made
    with limited(resource.RLIMIT_NOFILE, lowest_free()):
        assert MemoryFile.make([b"x"]) is None

    assert MemoryFile._made == before


def test_without_room_there_is_none() -> None:
    """Half a file would be worse; its descriptor is closed."""
    fd = lowest_free()
    with limited(resource.RLIMIT_FSIZE, 4096):
        assert MemoryFile.make([bytes(3000), bytes(3000)]) is None

    assert lowest_free() == fd


@needs_memory_files
def test_they_can_be_switched_off() -> None:
    """As where the system has none."""
    program = "from forkbroker.wire.memory_file import MemoryFile; print(MemoryFile.make([b'x']) is None)"
    for value, expected in (("off", "True"), ("on", "False")):
        env = {**os.environ, VARIABLE: value}
        assert subprocess.check_output([sys.executable, "-c", program], env=env, text=True).strip() == expected
