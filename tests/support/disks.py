"""Small file systems, which fill up without harm."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.deadline import wait_until


@contextmanager
def mounted(directory: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a file system in memory at `directory`, which is made, and unmount it when nobody uses it any more.

    The test is skipped where that is not permitted.
    """
    directory.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only, and not in every container")
    try:
        yield directory
    finally:
        wait_until(lambda: not subprocess.run(["umount", directory], check=False).returncode, "the end of the mount")
