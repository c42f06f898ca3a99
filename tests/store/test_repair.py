"""Repair: what can be read of a damaged database is saved, whatever the damage."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from forkbroker.store import around, repair
from forkbroker.store.api import Define, Note, Remember
from forkbroker.store.repair import repair_database
from forkbroker.store.schema import MAX_SERIAL, STEPS
from forkbroker.store.sqlite import SqliteStore
from forkbroker.wire.kinds import Matter
from store.databases import (
    PAGE,
    fill,
    find_cell,
    flip,
    lose_column,
    make_message,
    mend_badly,
    overwrite,
    page_of,
    put_into_index,
    query,
    read_plainly,
    read_queue,
    read_singly,
    root_page,
)


def serials_in(path: Path) -> list[int]:
    """Of all rows of a sound database."""
    return [int(str(serial)) for (serial,) in query(path, "SELECT serial FROM messages NOT INDEXED ORDER BY serial")]


# -- what is sound, or not there


def test_what_is_not_there_is_not_repaired(path) -> None:
    """And not made."""
    assert repair_database(path) == f"{path} is not there, nothing to repair"
    assert not path.exists()


def test_a_sound_database_stays(path) -> None:
    """One with rows that break the rules is sound as well."""
    fill(path, range(1, 11))
    mend_badly(path, "UPDATE messages SET priority = 77 WHERE serial = 5")

    assert repair_database(path) == f"{path} is sound, nothing to repair"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["queues.db", "queues.db-lock"]


def test_an_error_that_is_no_damage_is_not_taken_for_damage(path) -> None:
    """A database that somebody has locked for himself alone."""
    fill(path, range(1, 11))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")

        with pytest.raises(sqlite3.OperationalError, match="locked"):
            repair_database(path)
        connection.execute("ROLLBACK")

    assert not list(path.parent.glob("*corrupt*"))


# -- single bits


@pytest.mark.parametrize(("serial", "bit"), [(700, 0), (700, 1), (700, 6), (339, 3), (1551, 0), (130, 5)])
def test_a_serial_that_does_not_rise_costs_no_other_message(path, serial, bit) -> None:
    """A flipped bit in a rowid: all but this one are saved in their places, and its body is saved too."""
    fill(path, range(1, 1552))
    flip(path, find_cell(path, serial)[1] + 1, bit)

    said = repair_database(path)
    saved = dict(query(path, "SELECT serial, body FROM messages"))

    assert f"{len(saved):,} messages saved" in said
    assert [n for n in range(1, 1552) if n != serial and saved.get(n) != make_message(n).body] == []
    assert make_message(serial).body in saved.values()


def test_a_serial_that_is_none_is_replaced(path) -> None:
    """The message comes to the end: a serial below 1, or beyond all."""
    fill(path, range(1, 301))
    for serial, wrong in ((150, -5), (200, MAX_SERIAL + 1)):
        mend_badly(path, f"UPDATE messages SET serial = {wrong} WHERE serial = {serial}")
    overwrite(path, root_page(path, "messages_in_queues"))

    repair_database(path)
    saved = dict(query(path, "SELECT serial, body FROM messages"))

    assert sorted(saved) == [n for n in range(1, 303) if n not in (150, 200)]
    assert {saved[301], saved[302]} == {make_message(150).body, make_message(200).body}


def test_the_only_message_comes_to_the_begin(path) -> None:
    """There is no serial behind which it could be, and the first one is 1."""
    fill(path, [7])
    mend_badly(path, "UPDATE messages SET serial = -5")
    overwrite(path, root_page(path, "messages_in_queues"))

    repair_database(path)

    assert query(path, "SELECT serial, body FROM messages") == [(1, make_message(7).body)]


@pytest.mark.parametrize("seed", range(12))
def test_everything_that_can_be_read_is_saved(path, seed) -> None:
    """Bits are flipped all over the file: what a plain SELECT reads is there afterwards, and nothing wrong is given."""
    chance = random.Random(seed)
    fill(path, range(1, 601), size=chance.choice([50, 1000, 9000]))
    size = len(make_message(1).body) and int(str(query(path, "SELECT max(octets) FROM messages")[0][0]))
    for _ in range(chance.choice([1, 5, 30])):
        flip(path, chance.randrange(PAGE, path.stat().st_size), chance.randrange(8))
    plain = read_plainly(path)

    said = repair_database(path)
    saved = dict(query(path, "SELECT serial, body FROM messages NOT INDEXED"))
    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    served = read_queue(store)
    store.close(in_order=True)

    assert "nothing to repair" in said or set(plain.values()) <= set(saved.values()), said
    right = {make_message(n, size).body for n in range(1, 601)}
    assert [message.serial for message in served if bytes(message.body) not in right] == []
    assert len(served) > (0 if size == 9000 else 300)


def test_everything_that_can_be_read_one_by_one_is_saved(path) -> None:
    """Octets are changed at the beginning of every fourth page, where its structure is, and in the indexes as well."""
    chance = random.Random(9)
    fill(path, range(1, 2001))
    for page in range(1, path.stat().st_size // PAGE, 4):
        for _ in range(40):
            flip(path, page * PAGE + chance.randrange(200), chance.randrange(8))
    there = read_singly(path, range(1, 2001))

    repair_database(path)
    saved = set(serials_in(path))
    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    served = [(message.serial, int(message.headers[2:])) for message in read_queue(store)]
    store.close(in_order=True)

    assert [n for n in there if n not in saved] == []
    assert [n for n, header in served if n != header] == []
    assert 1600 < len(there) < 1900


def test_of_two_with_one_serial_the_sound_one_keeps_it(path) -> None:
    """A damaged row that comes first does not push it to the end."""
    fill(path, range(1, 301))
    flip(path, find_cell(path, 149)[1] + 1, 0)  # 149 becomes 148
    flip(path, path.read_bytes().index(make_message(149).body) + 5)
    overwrite(path, root_page(path, "messages_in_queues"))

    repair_database(path)

    assert query(path, "SELECT body FROM messages WHERE serial = 148") == [(make_message(148).body,)]
    assert serials_in(path) == [n for n in range(1, 302) if n != 149]


# -- pages


def test_the_messages_around_damaged_pages_are_saved(path) -> None:
    """In the middle, at both ends; lost are those on the pages, and that is said."""
    fill(path, range(1, 2001))
    pages = {page_of(path, serial) for serial in (1, 700, 1300, 2000)}
    for page in pages:
        overwrite(path, page)
    there = read_singly(path, range(1, 2001))

    said = repair_database(path)

    assert 1960 < len(there) < 1980
    assert serials_in(path) == there
    assert f"{len(there):,} messages saved, {2000 - len(there):,} could not be read" in said


def test_without_an_index_the_messages_around_damaged_pages_are_saved(path) -> None:
    """Then no list of serials tells where to go on."""
    fill(path, range(1, 2001))
    overwrite(path, root_page(path, "messages_in_queues"))
    pages = [page_of(path, serial) for serial in (700, 1300)]
    for page in pages:
        overwrite(path, page)

    said = repair_database(path)
    saved = set(serials_in(path))

    assert len(saved) > 1960
    assert {1, 600, 720, 1200, 1320, 2000} <= saved
    assert "could not be read" not in said


def test_without_an_index_and_both_ends_the_middle_is_saved(path) -> None:
    """What lies beyond the last serial that is known is looked for, too."""
    fill(path, range(1, 1001))
    overwrite(path, root_page(path, "messages_in_queues"))
    for page in {page_of(path, serial) for serial in (1, 500, 1000)}:
        overwrite(path, page)

    repair_database(path)
    saved = set(serials_in(path))

    assert len(saved) > 970
    assert {20, 480, 520, 980} <= saved


def test_what_the_index_has_lost_is_saved_and_served(path) -> None:
    """Entries that are missing are noticed, and the index of the new database has them."""
    fill(path, range(1, 301))
    put_into_index(path, "WHERE 0")
    query(path, "INSERT INTO messages (queue, body) SELECT queue, body FROM messages WHERE serial <= 28")
    put_into_index(path, "WHERE due IS NULL")

    said = repair_database(path)
    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    served = [message.serial for message in read_queue(store)]
    store.close(in_order=True)

    assert "328 messages saved;" in said
    assert served == list(range(1, 329))


def test_more_damage_than_patience_keeps_nobody(path, monkeypatch) -> None:
    """Reading around it ends; what has been read by then is saved."""
    monkeypatch.setattr(around, "_TRIES", 3)
    fill(path, range(1, 2001))
    for page in {page_of(path, serial) for serial in (500, 1000, 1500)}:
        overwrite(path, page)

    repair_database(path)
    saved = set(serials_in(path))

    assert {1, 480, 1520, 2000} <= saved
    assert len(saved) < 1990


# -- what else is in the database


def test_subscriptions_and_dedup_ids_are_saved(path) -> None:
    """And what may have been delivered stays marked."""
    fill(path, range(1, 201), in_order=False)
    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    held = Note(b"/queue/a", Matter.HELD, b"0")
    store.write([Define(b"/dsub/a", b"/topic/a", 5), Remember(b"/queue/a", b"x", 4_000_000_000_000), held])
    store.close(in_order=True)
    overwrite(path, page_of(path, 100))

    repair_database(path)
    again = SqliteStore(f"sqlite://{path}")
    opened = again.open(is_fresh=True)
    found = list(again.durables()), list(again.duplicates())
    notes = list(again.notes())
    again.close(in_order=True)

    assert notes == [held]
    assert found == ([Define(b"/dsub/a", b"/topic/a", 5)], [Remember(b"/queue/a", b"x", 4_000_000_000_000)])
    assert not opened.was_in_order
    assert opened.recovered_before == opened.serial == 201


def test_serials_go_on_behind_those_that_were_given_out(path) -> None:
    """Also of messages that are gone: the number of one that was delivered is no other one's."""
    fill(path, range(1, 201), in_order=False)
    query(path, "UPDATE meta SET value = 5000 WHERE name = 'recovered_before'")
    overwrite(path, page_of(path, 100))

    repair_database(path)
    store = SqliteStore(f"sqlite://{path}")
    opened = store.open(is_fresh=True)
    store.close(in_order=True)

    assert opened.serial == 5000


@pytest.mark.parametrize("column", ["queue", "message_id", "headers", "body", "priority", "deliveries"])
def test_a_row_that_has_lost_a_column_is_kept(path, column) -> None:
    """An administrator may know what it was."""
    fill(path, range(1, 201))
    lose_column(path, column, 5)
    overwrite(path, page_of(path, 150))

    said = repair_database(path)

    assert "damaged: kept, and not delivered" in said
    assert serials_in(path)[:6] == [1, 2, 3, 4, 5, 6]


def test_rows_that_break_the_rules_are_kept(path) -> None:
    """The new database does not refuse them; they are counted."""
    fill(path, range(1, 201))
    mend_badly(path, "UPDATE messages SET priority = 77 WHERE serial = 5")
    mend_badly(path, "UPDATE messages SET checksum = checksum + 1 WHERE serial = 6")
    overwrite(path, root_page(path, "messages_in_queues"))

    said = repair_database(path)

    assert "200 messages saved (2 of them damaged: kept, and not delivered);" in said
    assert query(path, "SELECT priority FROM messages WHERE serial = 5") == [(77,)]


def test_an_older_database_is_saved_into_the_present_version(path) -> None:
    """It has no checksums."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA page_size = 8192")
        connection.executescript(STEPS[0] + "PRAGMA user_version = 1;")
        rows = [(n, f"n:{n}\n", make_message(n).body) for n in range(1, 201)]
        connection.executemany("INSERT INTO messages (serial, queue, headers, body) VALUES (?, '/queue/a', ?, ?)", rows)
    overwrite(path, root_page(path, "messages_in_queues"))

    said = repair_database(path)

    assert "200 messages saved;" in said
    assert query(path, "SELECT count(*), count(checksum) FROM messages") == [(200, 0)]


def test_a_database_without_its_table_is_an_empty_one(path) -> None:
    """As one whose schema can't be read."""
    fill(path, range(1, 11))
    overwrite(path, 0, path.read_bytes()[:100] + bytes(PAGE - 100))

    said = repair_database(path)

    assert "0 messages saved;" in said
    assert serials_in(path) == []


# -- files


def test_what_a_repair_before_has_left_does_not_matter(path) -> None:
    """One that was killed: its half-made database goes, the damaged one is read again."""
    fill(path, range(1, 201))
    overwrite(path, root_page(path, "messages_in_queues"))
    for end in ("", "-wal", "-shm"):
        Path(f"{path}-salvage{end}").write_bytes(b"half a database")

    repair_database(path)

    assert serials_in(path) == list(range(1, 201))
    assert not list(path.parent.glob("*salvage*"))


def test_the_damaged_file_is_aside_with_its_log(path, monkeypatch) -> None:
    """A second repair in the same second has another name for it."""
    monkeypatch.setattr(repair.time, "strftime", lambda _: "20260101-000000")
    for _ in range(2):
        path.unlink(missing_ok=True)
        fill(path, range(1, 201))
        overwrite(path, root_page(path, "messages_in_queues"))
        # the log of a broker that was killed: whoever has it open keeps it there
        with closing(sqlite3.connect(path)) as holder:
            holder.execute("SELECT count(*) FROM meta").fetchone()
            repair_database(path)

    assert {entry.name for entry in path.parent.glob("*corrupt*-wal")} == {
        "queues.db.corrupt-20260101-000000-wal",
        "queues.db.corrupt-20260101-000000-1-wal",
    }
    assert not Path(f"{path}-wal").exists()
    assert {entry.name for entry in path.parent.glob("*corrupt*")} >= {
        "queues.db.corrupt-20260101-000000",
        "queues.db.corrupt-20260101-000000-1",
    }


def test_a_repair_that_cannot_be_written_changes_nothing(path, monkeypatch) -> None:
    """Half a database never takes the place of a damaged one."""
    fill(path, range(1, 201))
    overwrite(path, root_page(path, "messages_in_queues"))
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(repair._Saver, "finish", fail)

    with pytest.raises(sqlite3.OperationalError, match="full"):
        repair_database(path)

    assert path.read_bytes() == before
    assert path.stat().st_nlink == 1
