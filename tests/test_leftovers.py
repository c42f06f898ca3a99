"""What the tests take for something that a broker has left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import leftovers


def test_only_what_has_a_name_of_the_broker_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared memory and semaphores of another program come and go as they like."""
    monkeypatch.setattr(leftovers, "_SHARED_MEMORY", tmp_path)
    before = leftovers.Leftovers()
    for name in ("PostgreSQL.1234", "sem.other", "forkbroker", "sem.forkbroker-1-2"):
        (tmp_path / name).touch()

    assert before.find() == {"sem.forkbroker-1-2"}
