"""The tables: each version becomes the next one in place, whatever ends the process meanwhile; and what they forbid."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from forkbroker.posix import children
from forkbroker.store.schema import MAX_INTEGER, MAX_SERIAL, STEPS, VERSION, TooNewError, read_version, upgrade
from forkbroker.store.sqlite import SqliteStore
from store.databases import make_message, query, read_queue


def make_old(path: Path, version: int, count: int = 50) -> None:
    """A database of this version with messages, and what else it has."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for step in range(version):
            connection.executescript(f"BEGIN; {STEPS[step]} PRAGMA user_version = {step + 1}; COMMIT;")
        rows = [(n, f"{n}-s-1", f"n:{n}\n", make_message(n).body) for n in range(1, count + 1)]
        connection.executemany(
            "INSERT INTO messages (serial, queue, message_id, headers, body) VALUES (?, '/queue/a', ?, ?, ?)", rows
        )
        connection.execute(
            "INSERT INTO messages (serial, queue, priority, due, cron, body) "
            "VALUES (90, '/queue/b', 9, 5, '* * * * *', '')"
        )
        if version > 2:
            connection.execute(
                "UPDATE messages SET reason = 'rejected', origin = '/queue/c', checksum = 0 WHERE serial = 90"
            )
        if version > 1:
            connection.execute("INSERT INTO durables VALUES ('/dsub/a', '/topic/a', 7)")
            connection.execute("INSERT INTO duplicates VALUES ('/queue/a', 'x', 4000000000000)")


def test_the_highest_integer_is_that_of_sqlite() -> None:
    """What is checked against it can be written, and serials leave room for what is added to them."""
    with closing(sqlite3.connect(":memory:")) as connection:
        (found,) = connection.execute("SELECT ?", (MAX_INTEGER,)).fetchone()
        with pytest.raises(OverflowError):
            connection.execute("SELECT ?", (MAX_INTEGER + 1,))

    assert found == MAX_INTEGER
    assert 2 * MAX_SERIAL - 1 <= MAX_INTEGER


def test_a_new_database_has_the_present_version() -> None:
    """An empty file takes all steps."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        assert upgrade(connection) == (0, VERSION)
        assert read_version(connection) == VERSION == 5
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_an_older_database_is_upgraded_with_all_that_is_in_it(tmp_path, version) -> None:
    """The rows stay where they are; none has a checksum, and all are served."""
    path = tmp_path / "queues.db"
    make_old(path, version)
    pages = query(path, "PRAGMA page_count")

    store = SqliteStore(f"sqlite://{path}")
    opened = store.open(is_fresh=True)
    served = [message.body for message in read_queue(store)]
    scheduled = [message.serial for message in store.scheduled()]
    durables, duplicates = len(list(store.durables())), len(list(store.duplicates()))
    store.close(in_order=True)

    assert opened.serial == 91
    assert served == [make_message(n).body for n in range(1, 51)]
    assert scheduled == [90]
    assert (durables, duplicates) == ((1, 1) if version > 1 else (0, 0))
    assert query(path, "PRAGMA user_version") == [(VERSION,)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert query(path, "SELECT count(*), count(checksum) FROM messages") == [(51, version > 2)]
    assert int(str(query(path, "PRAGMA page_count")[0][0])) < int(str(pages[0][0])) + 10


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4])
def test_the_log_tells_of_an_upgrade_once(tmp_path, caplog, version) -> None:
    """No older broker can use the database any more. A new one was not upgraded."""
    path = tmp_path / "queues.db"
    if version:
        make_old(path, version)
    with caplog.at_level("INFO"):
        for _ in range(2):
            store = SqliteStore(f"sqlite://{path}")
            store.open(is_fresh=True)
            store.close(in_order=True)
    told = [record.message for record in caplog.records if "upgraded" in record.message]

    expected = f"store {path}: version {version} of the tables upgraded to {VERSION}"
    assert told == ([expected] if version else [])


def test_an_upgraded_database_has_the_tables_of_a_new_one(tmp_path) -> None:
    """Word for word."""
    texts = []
    for version in (0, 1, 2, 3, 4):
        path = tmp_path / f"{version}.db"
        if version:
            make_old(path, version)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            upgrade(connection)
        texts.append(query(path, "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"))

    assert [text == texts[0] for text in texts] == [True] * 5


def _upgrade_until(path: Path, statement: int) -> bool:
    """Upgrade in a process that is killed before this statement; whether it came so far."""

    def main() -> int:
        met = 0

        def count(_: str) -> None:
            nonlocal met
            met += 1
            if met == statement:
                os.kill(os.getpid(), signal.SIGKILL)

        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.set_trace_callback(count)
            upgrade(connection)
        return 0

    return os.waitpid(children.fork(main, ()), 0)[1] == signal.SIGKILL


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4])
def test_a_death_between_any_two_statements_leaves_a_whole_version(tmp_path, version) -> None:
    """With all that was in it, and the next process takes the steps that are left."""
    statement = 0
    is_killed = True
    while is_killed:
        statement += 1
        path = tmp_path / f"{statement}.db"
        if version:
            make_old(path, version, 3)
        is_killed = _upgrade_until(path, statement)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            between = read_version(connection)
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            texts = " ".join(sql or "" for (sql,) in connection.execute("SELECT sql FROM sqlite_master"))
            upgrade(connection)
            count = connection.execute("SELECT count(*) FROM messages").fetchone()[0]
            sound = connection.execute("PRAGMA integrity_check").fetchall()

        assert version <= between <= VERSION
        found = ("messages" in names, "durables" in names, "CHECK" in texts, texts.count("reject_reason") > 1)
        assert found == (between > 0, between > 1, between > 2, between > 3)
        assert ("notes" in names) == (between > 4)
        assert count == (4 if version else 0)
        assert sound == [("ok",)]

    assert statement > 5


def test_a_later_version_is_refused_and_left_alone() -> None:
    """Its number is told."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 6")

        with pytest.raises(TooNewError, match="6"):
            upgrade(connection)

        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


# -- what a person with a tool can't write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of the present version, with one message."""
    path = tmp_path / "queues.db"
    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    store.write([make_message(1)])
    store.close(in_order=True)
    return path


@pytest.mark.parametrize(
    "change",
    [
        "serial = 0",
        "serial = -1",
        f"serial = {MAX_SERIAL + 1}",
        "queue = 'queue/a'",
        "queue = '/topic/a'",
        "queue = '/queue/'",
        "queue = x'2f71756575652f61'",
        "queue = '/queue/' || hex(zeroblob(40000))",
        "priority = 10",
        "priority = -1",
        "priority = 'high'",
        "priority = 4.5",
        "deliveries = -1",
        "deliveries = 65536",
        "deliveries = 'twice'",
        "crashes = -1",
        "crashes = 65536",
        "expires = -1",
        "expires = '2026-01-01'",
        "expires = 1e300",
        "due = 0",
        "due = 'tomorrow'",
        "period = -1",
        "period = 'daily'",
        "repeat = -2",
        "repeat = 2147483648",
        "cron = x'2a'",
        "cron = hex(zeroblob(40000))",
        "reason = 'because'",
        "origin = x'2f'",
        "reject_reason = x'2f'",
        "reject_reason = hex(zeroblob(513))",
        "reject_reason = 'a' || char(0)",
        "message_id = '1'",
        "message_id = '-s-1'",
        "message_id = '1-a b'",
        "message_id = '1-s' || char(10)",
        "message_id = '1-s:1'",
        "message_id = '1-ä'",
        "message_id = x'31'",
        "headers = char(10) || 'a:b'",
        "headers = 'a:b' || char(10, 10) || 'c:d'",
        "headers = 'a:b' || char(0)",
        "headers = x'613a62'",
        "body = 5",
        "body = 1.5",
        "checksum = -1",
        "checksum = 4294967296",
        "checksum = 'none'",
    ],
)
def test_what_breaks_a_rule_is_refused(path, change) -> None:
    """Whoever mends a queue learns of it at once, and the row stays as it was."""
    with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
        query(path, f"UPDATE messages SET {change}")

    assert query(path, "SELECT serial, priority, queue FROM messages") == [(1, 4, "/queue/a")]


@pytest.mark.parametrize(
    "change",
    [
        f"serial = {MAX_SERIAL}",
        "queue = '/dsub/ä'",
        "queue = CAST(x'2f71756575652fff' AS TEXT)",
        "priority = 0",
        "priority = 9",
        "deliveries = 65535",
        "crashes = 65535",
        "expires = 9223372036854775807",
        "due = 1",
        "repeat = -1",
        "repeat = 2147483647",
        "cron = '0 4 * * *'",
        "reason = 'poison'",
        "origin = '/queue/b'",
        "reject_reason = 'disk full'",
        "reject_reason = hex(zeroblob(512))",
        "message_id = ''",
        "message_id = '0-0123456789abcdef-12'",
        "headers = ''",
        "headers = 'a:b' || char(10) || 'c:' || char(10)",
        "body = 'text'",
        "body = ''",
        "checksum = NULL",
    ],
)
def test_what_keeps_the_rules_is_taken(path, change) -> None:
    """At the very limits, too."""
    query(path, f"UPDATE messages SET {change}")

    assert query(path, f"SELECT count(*) FROM messages WHERE {change.replace('= NULL', 'IS NULL')}") == [(1,)]


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO durables VALUES ('/queue/a', '/topic/a', 5)",
        "INSERT INTO durables VALUES ('/dsub/', '/topic/a', 5)",
        "INSERT INTO durables VALUES ('/dsub/a', '/queue/a', 5)",
        "INSERT INTO durables VALUES ('/dsub/a', '/topic/a', -5)",
        "INSERT INTO durables VALUES ('/dsub/a', '/topic/a', 'today')",
        "INSERT INTO duplicates VALUES ('/queue/a', '', 5)",
        "INSERT INTO duplicates VALUES ('/queue/a', x'00', 5)",
        "INSERT INTO duplicates VALUES ('', 'a', 5)",
        "INSERT INTO duplicates VALUES ('/queue/a', 'a', -1)",
        "INSERT INTO duplicates VALUES ('/queue/a', 'a', 'for ever')",
        "INSERT INTO notes VALUES ('/topic/a', 'owner', 'alice')",
        "INSERT INTO notes VALUES ('/queue/a', 'shape', 'round')",
        "INSERT INTO notes VALUES ('/queue/a', 'owner', x'00')",
        "INSERT INTO notes VALUES ('/queue/a', 'held', '')",
        "INSERT INTO notes VALUES ('/queue/a', 'held', 'long')",
        "INSERT INTO notes VALUES ('/queue/a', 'held', '1234567890123456789')",
        "UPDATE meta SET value = -1",
        "UPDATE meta SET value = 'no'",
    ],
)
def test_the_other_tables_have_their_rules(path, text) -> None:
    """As the messages have."""
    with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
        query(path, text)


def test_a_message_that_is_mended_by_hand_loses_its_checksum(path) -> None:
    """So it is delivered; one whose queue or deliveries are changed keeps it."""
    query(path, "UPDATE messages SET deliveries = 3, queue = '/queue/b'")
    before = query(path, "SELECT checksum IS NULL FROM messages")
    query(path, "UPDATE messages SET body = 'mended'")
    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    (found,) = read_queue(store, b"/queue/b")
    store.close(in_order=True)

    assert before == [(0,)]
    assert query(path, "SELECT checksum IS NULL FROM messages") == [(1,)]
    assert (found.body, found.deliveries) == (b"mended", 3)


def test_a_checksum_that_comes_with_the_change_is_kept(path) -> None:
    """A tool that knows how to make one may do so."""
    query(path, "UPDATE messages SET body = 'mended', checksum = 5")

    assert query(path, "SELECT checksum FROM messages") == [(5,)]
