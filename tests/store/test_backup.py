"""A copy of the database of one moment, made while it is written."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from forkbroker.store import backup
from forkbroker.store.api import Opened, StoreError
from forkbroker.store.memory import MemoryStore
from forkbroker.store.sqlite import SqliteStore
from store.databases import fill, make_message, query


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of several steps."""
    path = tmp_path / "queues.db"
    fill(path, range(1, 15_001))
    return path


def files(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir())


def test_the_copy_is_of_one_moment_and_commits_do_not_wait(path: Path) -> None:
    """Between two steps the store writes and deletes; nothing of that is in the copy."""
    store, steps = SqliteStore(f"sqlite://{path}"), 0
    store.open(is_fresh=True)

    def is_wanted() -> bool:
        nonlocal steps
        steps += 1
        store.write([make_message(20_000 + steps)])
        query(path, "DELETE FROM messages WHERE serial <= ?", 100 * steps)
        return True

    saved = SqliteStore(f"sqlite://{path}").back_up("copy", is_wanted)
    store.close(in_order=True)

    target = path.with_name("copy")
    assert steps > 4
    assert (saved.messages, saved.octets, saved.where) == (15_000, target.stat().st_size, str(target))
    assert query(target, "SELECT min(serial), max(serial), count(*) FROM messages") == [(1, 15_000, 15_000)]
    assert query(path, "SELECT count(*) FROM messages WHERE serial > 20000")[0][0] == steps
    assert target.stat().st_mode & 0o777 == 0o600
    assert "queues.db-backup" not in files(path)


def test_a_copy_is_opened_as_a_database_that_was_left_in_order(path: Path, tmp_path: Path) -> None:
    """By another broker; nobody knows which of its messages were delivered."""
    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    SqliteStore(f"sqlite://{path}").back_up("copy.db", lambda: True)
    copy = SqliteStore(f"sqlite://{tmp_path}/copy.db")

    assert copy.open(is_fresh=True) == Opened(serial=15_001, was_in_order=True, recovered_before=15_001)
    copy.write([make_message(15_001)])
    store.write([make_message(15_001)])
    copy.close(in_order=True)
    store.close(in_order=True)


@pytest.mark.parametrize("name", ["queues.db", "queues.db-wal", "queues.db.old", "other.db-journal", "x-wal"])
def test_a_name_of_a_databases_own_files_is_refused(path: Path, name: str) -> None:
    """SQLite would take it for a part of that one."""
    with pytest.raises(StoreError, match="could be taken for a file of a database in use"):
        SqliteStore(f"sqlite://{path}").back_up(name, lambda: True)


@pytest.mark.parametrize("make", [lambda p: p.write_text("mine"), lambda p: p.symlink_to("nowhere"), Path.mkdir])
def test_nothing_is_replaced(path: Path, make) -> None:  # type: ignore[no-untyped-def]
    """No file, and no link."""
    target = path.with_name("copy")
    make(target)
    before = target.lstat()
    with pytest.raises(StoreError, match="copy exists; remove it"):
        SqliteStore(f"sqlite://{path}").back_up("copy", lambda: True)

    assert target.lstat() == before


def test_what_comes_there_meanwhile_is_not_replaced_either(path: Path) -> None:
    """Nor does the copy stay."""
    target = path.with_name("copy")

    def is_wanted() -> bool:
        target.write_text("mine")
        return True

    with pytest.raises(StoreError, match="copy exists"):
        SqliteStore(f"sqlite://{path}").back_up("copy", is_wanted)

    assert target.read_text() == "mine"
    assert "queues.db-backup" not in files(path)


def test_what_a_death_has_left_is_removed(path: Path) -> None:
    """A link in its place is not followed."""
    other = path.with_name("other")
    other.write_text("mine")
    path.with_name("queues.db-backup").symlink_to(other)
    path.with_name("queues.db-backup-journal").write_text("old")
    saved = SqliteStore(f"sqlite://{path}").back_up("copy", lambda: True)

    assert saved.messages == 15_000
    assert other.read_text() == "mine"
    assert not [name for name in files(path) if name.startswith("queues.db-backup")]


@pytest.mark.parametrize("step", [1, 3, 20])
def test_a_copy_that_nobody_wants_is_given_up(path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is copied and while it is checked. Nothing of it is left."""
    monkeypatch.setattr(backup, "_INSTRUCTIONS", 1000)
    steps = 0

    def is_wanted() -> bool:
        nonlocal steps
        steps += 1
        return steps < step

    with pytest.raises(StoreError, match="nobody waits"):
        SqliteStore(f"sqlite://{path}").back_up("copy", is_wanted)

    assert files(path) == [name for name in files(path) if "copy" not in name and "backup" not in name]


def test_without_room_nothing_is_begun(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker needs what there is."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096))
    with pytest.raises(StoreError, match="has 4,096 bytes free"):
        SqliteStore(f"sqlite://{path}").back_up("copy", lambda: True)

    assert not [name for name in files(path) if "backup" in name]


def test_a_damaged_database_makes_no_backup(path: Path) -> None:
    """It is no use to find that out when it is needed."""
    with path.open("r+b") as file:
        file.seek(8192 * 600)
        file.write(b"\xff" * 8192)
    with pytest.raises(StoreError, match="is damaged"):
        SqliteStore(f"sqlite://{path}").back_up("copy", lambda: True)

    assert not [name for name in files(path) if "backup" in name or name == "copy"]


def test_a_backend_without_backups_says_so() -> None:
    """By its scheme."""
    with pytest.raises(StoreError, match=r"this store \(memory\) cannot be backed up"):
        MemoryStore("memory:").back_up("copy", lambda: True)
