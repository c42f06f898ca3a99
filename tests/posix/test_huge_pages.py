"""Memory that is put into large pages has what it had, and is one entry for 2 MiB."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import mmap
from pathlib import Path

from forkbroker.posix.huge_pages import collapse

place = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE)
for at in range(0, len(place), 4096):
    place[at : at + 8] = at.to_bytes(8, "big")


def large():
    sums = Path("/proc/self/smaps_rollup").read_text().split()
    return int(sums[sums.index("AnonHugePages:") + 1])


if {collapses}:
    collapse()
whole = all(place[at : at + 8] == at.to_bytes(8, "big") for at in range(0, len(place), 4096))
print(whole, large() >= 12 << 10)
"""


def _can_collapse() -> bool:
    version = tuple(int(part) for part in platform.release().split(".")[:2]) if sys.platform == "linux" else (0, 0)
    return version >= (6, 1) and Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").exists()


@pytest.mark.skipif(not _can_collapse(), reason="needs Linux 6.1 with large pages")
@pytest.mark.parametrize("collapses", [True, False])
def test_memory_is_in_large_pages_and_has_what_it_had(collapses: bool) -> None:
    """Most of 16 MiB, and none of it where nobody has asked for it."""
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(collapses=collapses)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )

    assert ended.stdout == f"True {collapses}\n"


def test_where_it_cannot_be_done_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another system, or one that does not show what a process has."""
    monkeypatch.setattr("forkbroker.posix.huge_pages._MAPS", Path("/nonexistent"))

    from forkbroker.posix.huge_pages import collapse

    collapse()
    monkeypatch.setattr("sys.platform", "freebsd14")
    collapse()
