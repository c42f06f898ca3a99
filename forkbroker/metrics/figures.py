"""Processor time and memory of the broker's processes, role by role."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkbroker.posix.usage import PROC, read_cpu, read_pss


@dataclass(slots=True)
class Use:
    """What the processes of one role use."""

    processes: int = 0
    cpu_s: float | None = 0.0
    """None: it is not known of one of them."""
    cpu_max_s: float = 0.0
    pss: int | None = 0
    """Octets of memory, each page divided by the number of processes that have it; None: as `cpu_s`."""
    pss_max: int = 0


def measure(processes: Iterable[dict[str, Any]], until: float, proc: Path = PROC) -> dict[str, Use]:
    """The use of each role. `processes`: rows with `role` and `pid`; one that is gone counts for nothing.

    `until`: a moment of the monotonic clock, from which on nothing is read any more.
    """
    found: dict[str, Use] = {}
    for row in processes:
        use = found.setdefault(row["role"], Use())
        place = proc / str(row["pid"])
        is_late = time.monotonic() > until
        cpu_s = None if is_late else read_cpu(place)
        pss = None if is_late else read_pss(place)
        if cpu_s is None and pss is None and not is_late and not place.exists() and proc.exists():
            continue
        use.processes += 1
        use.cpu_s = None if cpu_s is None or use.cpu_s is None else use.cpu_s + cpu_s
        use.pss = None if pss is None or use.pss is None else use.pss + pss
        use.cpu_max_s, use.pss_max = max(use.cpu_max_s, cpu_s or 0.0), max(use.pss_max, pss or 0)
    return found
