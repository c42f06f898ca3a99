"""Processor time and memory of a process, where the system tells them (Linux: proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_UTIME_AT = 11
"""Of the fields of stat behind the name, which may have spaces: utime, stime."""


def read_cpu(place: Path) -> float | None:
    """Seconds of a processor that a process has used; None: not known. `place`: its directory below `PROC`."""
    try:
        fields = (place / "stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[_UTIME_AT]) + int(fields[_UTIME_AT + 1])) / _TICKS_PER_S
    except (OSError, ValueError, IndexError):
        return None


def read_pss(place: Path) -> int | None:
    """Octets of memory of a process, each page divided by the number of processes that have it; None: not known."""
    try:
        lines = (place / "smaps_rollup").read_bytes().splitlines()
    except OSError:
        return None  # another system, an older kernel, or no right to it
    return next(_octets(lines), None)


def _octets(lines: Iterable[bytes]) -> Iterator[int]:
    for line in lines:
        if line.startswith(b"Pss:"):
            yield int(line.split()[1]) * 1024
