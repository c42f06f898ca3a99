"""A disk that fails: the broker promises nothing that it could not write, says what is wrong, and goes on when it can.

The calls with which SQLite reads, writes and syncs the store's files fail at a chosen place (`failing_io.c`), in each
process of the store anew, while clients go on as in a storm.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from faults.storm import Storm

_SOURCE = Path(__file__).with_name("failing_io.c")

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler (Debian: gcc)"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the failing calls are those of Linux"),
]

CASES = {
    "the disk is full, once": ("pwrite", errno.ENOSPC, 60, 1, ""),
    "the disk is full, for long": ("pwrite", errno.ENOSPC, 30, 1_000_000, "full"),
    "a write fails": ("pwrite", errno.EIO, 60, 1, ""),
    "all writes fail": ("pwrite", errno.EIO, 30, 1_000_000, "disk"),
    "a sync fails": ("fdatasync", errno.EIO, 10, 1, "disk"),
    "all syncs fail": ("fdatasync", errno.EIO, 5, 1_000_000, "disk"),
    "a read fails": ("pread", errno.EIO, 3, 1, "disk"),
}
"""Call, errno, after how many calls, how many fail, and a word of the reason; without one the next try succeeds."""


@pytest.fixture(scope="session")
def failing_io(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes calls fail."""
    library = tmp_path_factory.mktemp("failing") / "failing_io.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
    return library


class FailingStorm(Storm):
    """A storm in which the disk fails, and clients may be refused for that reason."""

    def _look_at(self, broker: object) -> None:
        for party in self._parties():
            self.refusals += [text for text in party.errors if text.startswith("refused: ")]
            party.errors = [text for text in party.errors if not text.startswith("refused: ")]
        super()._look_at(broker)  # type: ignore[arg-type]


@pytest.mark.parametrize("is_deep", [False, True], ids=["in memory", "deep"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_nothing_is_promised_that_could_not_be_written(tmp_path, failing_io, case, is_deep) -> None:
    """The book balances, whatever failed, and whether or not memory has room for all; and the log has the reason."""
    call, number, after, count, word = case
    switch = tmp_path / "fails"
    env = {"LD_PRELOAD": str(failing_io), "FAILING_IO": f"{call}:{number}:{after}:{count}:{switch}"}
    with FailingStorm(tmp_path / "store", 1, env=env, is_deep=is_deep) as storm:
        storm.load(0.5)
        switch.touch()
        if call == "pread":
            # the next process has nothing in its cache
            storm.kill_store()
        storm.load_until((tmp_path / "fails.failed").exists, "a failure")
        storm.load_until(lambda: any(word in line for line in storm.broker.log if "store" in line), "the reason")
        switch.unlink()
        storm.load_until(lambda: storm.broker.store_pid, "a store that works")
        before = sum(sent.is_confirmed for sent in storm.book.sent.values())
        storm.load_until(
            lambda: sum(sent.is_confirmed for sent in storm.book.sent.values()) > before + 20, "receipts again"
        )
        storm.finish()

    assert storm.faults == []
