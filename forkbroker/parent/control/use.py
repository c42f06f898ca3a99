"""What processes use, as rows have it."""

from __future__ import annotations

from forkbroker.parent.control.asked import Asked, Row
from forkbroker.posix.usage import PROC, read_cpu, read_pss

USE = ("cpu", "memory")
"""The members that are added."""
_STEPS = 4
"""To read it takes as long as so many steps: the kernel goes through all memory of the process."""


def add_use(asked: Asked, row: Row) -> Row:
    """Add seconds of a processor and octets of memory of the process `pid`; None where the system does not tell."""
    place = PROC / str(row["pid"])
    asked.spent += _STEPS
    row["cpu"], row["memory"] = read_cpu(place), read_pss(place)
    return row
