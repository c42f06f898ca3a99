"""Files as they come to a child, also where the broker makes none."""

from __future__ import annotations

import os
import tempfile

import pytest

from forkbroker.wire.memory_file import MemoryFile

needs_memory_files = pytest.mark.skipif(MemoryFile.make([b"x"]) is None, reason="the broker makes no files in memory")


def make_file(octets: bytes) -> MemoryFile:
    """Return one that has these octets."""
    with tempfile.TemporaryFile() as made:
        made.write(octets)
        made.flush()
        return MemoryFile(os.dup(made.fileno()), len(octets))
