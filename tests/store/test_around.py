"""Reading around what a statement can't read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from forkbroker.store import around
from forkbroker.store.around import read_ranges, read_single, read_to_damage

ONE = "SELECT serial, body FROM t WHERE serial = ?"
RANGE = "SELECT serial, body FROM t WHERE serial BETWEEN ? AND ? ORDER BY serial"


class Damaged:
    """A table in which reading some serials ends the statement, as SQLite does at a damaged page."""

    def __init__(self, connection: sqlite3.Connection, bad: set[int], code: int = sqlite3.SQLITE_CORRUPT) -> None:
        self._connection = connection
        self._bad = bad
        self._code = code

        self.executed = 0

    def execute(self, statement: str, parameters: tuple[int, ...]) -> Damaged:
        self.executed += 1
        self._rows = self._read(statement, parameters)
        return self

    def _read(self, statement: str, parameters: tuple[int, ...]) -> Iterator[tuple[int, bytes]]:
        for row in self._connection.execute(statement, parameters):
            if row[0] in self._bad:
                error = sqlite3.DatabaseError("database disk image is malformed")
                error.sqlite_errorcode = self._code
                raise error
            yield row

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return self._rows

    def fetchone(self) -> tuple[int, bytes] | None:
        return next(self._rows, None)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """Serials 1 to 40 but for 17."""
    with sqlite3.connect(":memory:") as made:
        made.execute("CREATE TABLE t (serial INTEGER PRIMARY KEY, body BLOB)")
        made.executemany("INSERT INTO t VALUES (?, ?)", [(n, b"%d" % n) for n in range(1, 41) if n != 17])
        yield made
    made.close()


def test_only_what_is_damaged_is_missing(connection) -> None:
    """However the range is cut."""
    found = {row[0] for row in read_ranges(Damaged(connection, {1, 20, 21, 40}), RANGE, range(1, 41))}

    assert found == set(range(1, 41)) - {1, 17, 20, 21, 40}


def test_one_by_one_what_is_lost_is_named_with_the_reason(connection) -> None:
    """Damage, or an index that has what the table has not."""
    lost: dict[int, str] = {}
    found = [row[0] for row in read_single(Damaged(connection, {20}), ONE, [16, 17, 19, 20, 22], lost)]

    assert found == [16, 19, 22]
    assert lost == {17: "only the index has it", 20: "database disk image is malformed"}


def test_up_to_the_damage_is_told_from_the_whole(connection) -> None:
    """The generator's value says which it was."""

    def read(bad: set[int]) -> tuple[list[int], bool]:
        rows, serials = read_to_damage(Damaged(connection, bad), RANGE, (1, 5)), []
        while True:
            try:
                serials.append(next(rows)[0])
            except StopIteration as end:
                return serials, end.value

    assert read(set()) == ([1, 2, 3, 4, 5], True)
    assert read({4}) == ([1, 2, 3], False)


def test_what_is_all_there_is_read_once(connection) -> None:
    """If serials that are known are missing, the halves are read as well: a damaged serial hides what follows it."""
    sound, hidden = Damaged(connection, set()), Damaged(connection, set())
    known, seen = [5, 6, 16, 18, 40], set[int]()
    for row in read_ranges(sound, RANGE, range(5, 41), known=known, seen=seen):
        seen.add(row[0])
    found = [row[0] for row in read_ranges(hidden, RANGE, range(16, 19), known=[16, 17, 18], seen={16, 18})]

    assert sound.executed == 1
    assert seen == set(range(5, 41)) - {17}
    assert hidden.executed == 5
    assert set(found) == {16, 18}


@pytest.mark.parametrize(("tries", "serials"), [(1, {16}), (4, {16, 18}), (5, {16, 18}), (6, {16, 18})])
def test_so_many_reads_are_made_and_no_more(connection, monkeypatch, tries, serials) -> None:
    """Large ranges come first, so what is left out is single messages."""
    monkeypatch.setattr(around, "_TRIES", tries)
    hidden = Damaged(connection, {17, 18} if tries == 1 else set())

    found = {row[0] for row in read_ranges(hidden, RANGE, range(16, 19), known=[16, 17, 18], seen={16, 18})}

    assert hidden.executed == min(tries, 5)
    assert found == serials


@pytest.mark.parametrize("read", [lambda c: read_single(c, ONE, [20], {}), lambda c: read_ranges(c, RANGE, [19, 20])])
def test_what_is_no_damage_is_raised(connection, read) -> None:
    """A locked database is read again later, and nothing is said to be lost."""
    with pytest.raises(sqlite3.DatabaseError):
        list(read(Damaged(connection, {20}, sqlite3.SQLITE_BUSY)))
