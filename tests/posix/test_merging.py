"""Equal memory of processes that ask for it is the kernel's to merge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forkbroker.posix import merging

_PROGRAM = """
import os
from pathlib import Path

from forkbroker.posix.merging import merge

if {asks}:
    merge()
if os.fork():
    os.wait()
else:
    lines = Path("/proc/self/smaps").read_text().splitlines()
    print(any(line.startswith("VmFlags:") and " mg" in line for line in lines), flush=True)
"""


@pytest.mark.skipif(not merging.can_merge(), reason="needs Linux 6.4 with KSM")
@pytest.mark.parametrize("asks", [True, False])
def test_who_is_forked_has_asked_as_well(asks: bool) -> None:
    """And nobody has who does not ask."""
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(asks=asks)], capture_output=True, text=True, check=True
    )

    assert ended.stdout == f"{asks}\n"


def test_a_system_that_cannot_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And to ask it all the same does nothing."""
    monkeypatch.setattr("sys.platform", "freebsd14")

    assert not merging.can_merge()
    merging.merge()


@pytest.mark.parametrize(("text", "is_on"), [("1\n", True), ("0\n", False), ("2\n", False), (None, False)])
def test_whether_the_kernel_merges_now_is_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, is_on: bool
) -> None:
    """Of systems that have one."""
    file = tmp_path / "run"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(merging, "_RUNS", file)

    assert merging.is_merging() is is_on
