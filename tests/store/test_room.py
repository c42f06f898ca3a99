"""What of the disk and of the database can still be written."""

from __future__ import annotations

import os

from forkbroker.store import room
from forkbroker.store.api import Delete
from forkbroker.store.sqlite import SqliteStore
from store.databases import make_message, query


def test_what_was_deleted_counts_as_free(tmp_path) -> None:
    """The file does not shrink, but what is written next needs no more of the disk."""
    path = tmp_path / "q.db"
    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    store.write([make_message(n, 100_000) for n in range(1, 301)])
    used = int(str(query(path, "PRAGMA freelist_count")[0][0]))
    store.write([Delete(1, 300)])
    system = os.statvfs(tmp_path)
    reusable = store.free() - system.f_bavail * system.f_frsize
    store.close(in_order=True)

    assert used < 10
    assert reusable > 20_000_000


def test_room_in_the_file_is_no_use_without_room_for_the_log(tmp_path, monkeypatch) -> None:
    """What is written goes through it."""
    store = SqliteStore(f"sqlite://{tmp_path}/q.db")
    store.open(is_fresh=True)

    class Full:
        f_bavail, f_frsize = 1000, 4096

    monkeypatch.setattr(room.os, "statvfs", lambda _: Full)
    found = store.free()
    monkeypatch.undo()
    store.close(in_order=True)

    assert found == 4_096_000
