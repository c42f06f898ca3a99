"""Processor time and memory of processes, as the system tells them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forkbroker.metrics.figures import measure
from forkbroker.posix.usage import PROC

LATER = float("inf")


@pytest.mark.skipif(not (PROC / "self" / "smaps_rollup").exists(), reason="this system has no /proc/self/smaps_rollup")
def test_real_processes_have_time_and_memory() -> None:
    """Sum and maximum of a role; one that is gone counts for nothing."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        rows = [{"role": "client", "pid": os.getpid()}, {"role": "client", "pid": child.pid}]
        use = measure([*rows, {"role": "store", "pid": 2**22 + 1}], LATER)["client"]
        assert child.stdin is not None
        child.stdin.close()

    assert use.processes == 2
    assert use.cpu_s is not None and use.cpu_s >= use.cpu_max_s > 0
    assert use.pss is not None and use.pss > use.pss_max > 1_000_000
    assert measure([rows[1]], LATER)["client"].processes == 0


def test_what_can_not_be_read_is_not_known(tmp_path: Path) -> None:
    """No right to the memory; and nothing at all on another system, or when it takes too long."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "stat").write_text("1 (a b) c) S " + " ".join("0" for _ in range(10)) + " 200 100 0")
    use = measure([{"role": "store", "pid": 1}], LATER, tmp_path)["store"]
    ticks = os.sysconf("SC_CLK_TCK")
    assert (use.processes, use.cpu_s, use.pss) == (1, 300 / ticks, None)

    for proc, until in ((tmp_path / "none", LATER), (tmp_path, time.monotonic() - 1)):
        use = measure([{"role": "store", "pid": 1}], until, proc)["store"]
        assert (use.processes, use.cpu_s, use.pss) == (1, None, None)
