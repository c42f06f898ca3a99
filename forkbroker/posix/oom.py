"""Which process the kernel ends when memory is used up.

Linux chooses by size and by a number that each process has (oom_score_adj, see proc(5)); a process may always raise its
own. A client's child costs one client, the parent costs all of them and every message that is not persistent: so
children raise theirs. Where there is no such number, nothing happens.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

SCORE = Path("/proc/self/oom_score_adj")
_MORE = 500
"""Half of what memory can weigh: a small child goes before a parent that uses nearly half of the machine."""
_MOST = 1000


def go_first(score: Path = SCORE) -> None:
    """Have the kernel end this process before those that have not called this; for good, and best effort."""
    with suppress(OSError, ValueError):
        raised = min(_MOST, int(score.read_text()) + _MORE)
        score.write_text(f"{raised}\n")
