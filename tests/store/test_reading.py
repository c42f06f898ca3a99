"""Reading a database in which something is wrong: everything else is served, and the log says what is not."""

from __future__ import annotations

import random

import pytest

from forkbroker.errors import Exit
from forkbroker.store import findings, reading
from forkbroker.store.api import Backlog, Chunk, Define, Message, Note, Remember, StoreError
from forkbroker.store.sqlite import SqliteStore
from forkbroker.wire.details import Details
from forkbroker.wire.kinds import Flag, Kind, Matter
from store.databases import (
    PAGE,
    QUEUE,
    fill,
    find_cell,
    flip,
    make_message,
    mend_badly,
    overwrite,
    page_of,
    query,
    read_queue,
    read_singly,
    root_page,
)
from store.driven import serials_of, write

OTHER = b"/queue/b"


def serials(store: SqliteStore, queue: bytes = QUEUE) -> list[int]:
    """Of all messages in a queue."""
    return [message.serial for message in read_queue(store, queue)]


def test_the_backlog_is_counted_from_the_index_alone(store, path) -> None:
    """However large the messages are: pages of the table are not needed for it."""
    fill(path, range(1, 301))
    for page in {page_of(path, serial) for serial in range(1, 290)}:
        overwrite(path, page)
    store.open(is_fresh=True)

    assert store.backlog() == [Backlog(QUEUE, 4, 300, 300_000, 300)]


def test_a_queue_is_read_by_the_index(store) -> None:
    """And each of its rows by its serial."""
    store.open(is_fresh=True)
    plan = [row[3].decode() for row in store._connection.execute(f"EXPLAIN QUERY PLAN {reading._READ}", (0, QUEUE, 4))]

    assert len(plan) == 2
    assert "INDEX messages_in_queues (queue=? AND priority=? AND serial>?)" in plan[0]
    assert "SEARCH m USING INTEGER PRIMARY KEY" in plan[1]


def test_a_queue_that_the_index_has_twice_is_damage(store, path) -> None:
    """A flipped bit in the index: what follows it could not be found."""
    fill(path, range(1, 101))
    start = root_page(path, "messages_in_queues") * PAGE
    octets = path.read_bytes()
    for _ in range(50):
        start = octets.index(b"/queue/a", start) + 1
    flip(path, start - 1, 7)
    store.open(is_fresh=True)

    with pytest.raises(StoreError, match=r"out of order.*--store-repair") as caught:
        store.backlog()

    assert caught.value.status is Exit.DATAERR


# -- rows that are no messages

_BAD = {
    3: "priority = 77",
    5: "deliveries = -1",
    6: "expires = 'never'",
    7: "reason = 'because'",
    8: "message_id = '1-a' || char(10) || 'b:c'",
    9: "checksum = NULL, headers = char(10) || 'a:b'",
    10: "body = 7, checksum = NULL",
    11: "crashes = 70000",
    12: "repeat = -7",
    13: "queue = 'nowhere'",
    14: "serial = -14",
    15: "serial = 9223372036854775807",
    16: "queue = x'2f71756575652f61'",
    17: "priority = 'high'",
    18: "due = 'tomorrow'",
    19: "cron = '" + 70_000 * "*" + "', due = 5",
    20: "due = -5",
}


def test_rows_that_break_a_rule_stop_nothing(start_store, path) -> None:
    """Neither the start nor reading; each is named, and stays; its place is not given to another one."""
    fill(path, range(1, 31))
    for serial, change in _BAD.items():
        mend_badly(path, f"UPDATE messages SET {change} WHERE serial = {serial}")
    before = query(path, "SELECT * FROM messages")

    store = start_store(f"sqlite://{path}")
    opening = store.hear(Kind.OPENING)
    store.hear(Kind.OPENED)
    found = serials_of(store.fetch())
    store.tell(write(1, [b"new"], serial=opening.serial))
    store.hear(Kind.COMMITTED, 1)
    after = store.fetch()

    assert opening.serial == 31
    assert found == [1, 2, 4, *range(21, 31)]
    assert serials_of(after) == [*found, 31]
    assert after[-1].flags & Flag.FINAL
    assert store.close() == 0
    assert query(path, "SELECT * FROM messages WHERE serial <> 31") == before


def test_rows_that_break_a_rule_are_named(store, path, caplog) -> None:
    """Each once: at the start those that belong to no queue, the others with their queue when it is read."""
    fill(path, range(1, 31))
    for serial, change in _BAD.items():
        mend_badly(path, f"UPDATE messages SET {change} WHERE serial = {serial}")
    store.open(is_fresh=True)

    store.backlog()
    list(store.scheduled())
    at_start = caplog.text
    caplog.clear()
    for _ in range(2):
        serials(store)

    assert "with the serials -14, 3, 13, 16-17, 9223372036854775807 passed over, but kept" in at_start
    assert "with the serials 18-20 passed over" in at_start
    assert caplog.text.count("/queue/a: 8 messages with the serials 5-12 passed over, but kept") == 1


def test_odd_rows_of_other_tables_stop_nothing(store, path, caplog) -> None:
    """Durable subscriptions and dedup-ids."""
    store.open(is_fresh=True)
    later = 4_000_000_000_000
    store.write([Define(b"/dsub/a", b"/topic/a", 5), Remember(QUEUE, b"x", later), Note(QUEUE, Matter.HELD, b"5")])
    for values in (
        "('/queue/a', '/topic/a', 5)",
        "('/dsub/b', 'x', 5)",
        "('/dsub/c', '/topic/a', 'now')",
        "('/dsub/d', '/topic/a', -1)",
    ):
        mend_badly(path, f"INSERT INTO durables VALUES {values}")
    for values in ("('/queue/a', x'', 4000000000000)", "('/queue/a', 'z', 'long')", "('', 'z', 4000000000000)"):
        mend_badly(path, f"INSERT INTO duplicates VALUES {values}")

    assert list(store.durables()) == [Define(b"/dsub/a", b"/topic/a", 5)]
    for values in (
        "('/topic/a', 'owner', 'alice')",
        "('/queue/a', 'shape', 'round')",
        "('/queue/b', 'held', 'long')",
        "('/queue/c', 'held', '')",
        "('/queue/d', 'held', '1234567890123456789')",
        "('/queue/e', 'owner', 5)",
    ):
        mend_badly(path, f"INSERT INTO notes VALUES {values}")

    assert list(store.duplicates()) == [Remember(QUEUE, b"x", later)]
    assert sorted(store.notes()) == [Note(QUEUE, Matter.HELD, b"5"), Note(b"/queue/e", Matter.OWNER, b"5")]
    assert caplog.text.count("passed over, but kept") == 3


def test_odd_values_of_meta_stop_nothing(store, path) -> None:
    """They count as if they were not there."""
    fill(path, range(1, 11))
    mend_badly(path, "UPDATE meta SET value = 'x' WHERE name = 'recovered_before'")
    mend_badly(path, "UPDATE meta SET value = -7 WHERE name LIKE 'owner%'")

    opened = store.open(is_fresh=True)

    assert (opened.serial, opened.recovered_before) == (11, 0)


# -- checksums


def test_an_altered_message_is_set_aside(start_store, path) -> None:
    """One bit in a body, one in a header: both stay in the file, all others are served."""
    fill(path, range(1, 101))
    flip(path, path.read_bytes().index(make_message(40).body) + 500, 3)
    flip(path, path.read_bytes().index(b"n:60\n") + 2, 0)

    store = start_store(f"sqlite://{path}")
    store.hear(Kind.OPENED)
    pages = store.fetch()

    assert serials_of(pages) == [n for n in range(1, 101) if n not in (40, 60)]
    assert pages[-1].flags & Flag.FINAL
    assert store.close() == 0
    assert query(path, "SELECT count(*) FROM messages") == [(100,)]


def test_an_altered_message_is_named(store, path, caplog) -> None:
    """As an error: it was receipted, and is not delivered."""
    fill(path, range(1, 101))
    flip(path, path.read_bytes().index(make_message(40).body) + 500, 3)
    store.open(is_fresh=True)

    serials(store)
    (record,) = caplog.records

    assert record.levelname == "ERROR"
    assert "queue /queue/a: 1 message with the serials 40 not delivered, but kept" in record.message


def test_scheduled_messages_have_checksums_too(store, path) -> None:
    """And those that were written with details."""
    store.open(is_fresh=True)
    later = Details(priority=4, persistent=True, due=1_900_000_000_000)
    store.write([make_message(n)._replace(details=later) for n in (1, 2, 3)])
    mend_badly(path, "UPDATE messages SET checksum = checksum + 1 WHERE serial = 2")

    assert [message.serial for message in store.scheduled()] == [1, 3]
    assert query(path, "SELECT count(*) FROM messages WHERE checksum IS NULL") == [(0,)]


# -- pages that can't be read


def test_a_damaged_page_costs_its_messages_alone(start_store, path) -> None:
    """The process lives, the other messages and the other queue are served, and new ones are written."""
    fill(path, range(1, 1001))
    fill(path, range(1001, 1051), queue=OTHER)
    overwrite(path, page_of(path, 500))
    there = read_singly(path, range(1, 1001))

    store = start_store(f"sqlite://{path}")
    store.hear(Kind.OPENED)
    found = store.fetch(octets=100_000_000)
    store.tell(write(1, [b"new"], serial=1051))
    store.hear(Kind.COMMITTED, 1)

    assert 980 < len(there) < 1000
    assert serials_of(found) == there
    assert found[-1].flags & Flag.FINAL
    assert found[-1].count == len(there)
    assert serials_of(store.fetch(OTHER)) == list(range(1001, 1051))
    assert serials_of(store.fetch(after=1050)) == [1051]
    assert store.close() == 0


@pytest.mark.parametrize("octets", [1, 3000, 1 << 20])
def test_reading_goes_on_behind_damage_in_portions(store, path, octets) -> None:
    """However small: nothing comes twice, nothing is left out, and the end is told."""
    fill(path, range(1, 301))
    for serial in (1, 100, 108, 116):
        overwrite(path, page_of(path, serial))
    there = read_singly(path, range(1, 301))
    store.open(is_fresh=True)

    assert [message.serial for message in read_queue(store, octets=octets)] == there
    assert len(there) < 280


def test_what_is_lost_is_named_once(store, path, caplog) -> None:
    """With its queue, its serials, and what to do."""
    fill(path, range(1, 301))
    overwrite(path, page_of(path, 100))
    there = read_singly(path, range(1, 301))
    store.open(is_fresh=True)

    for _ in range(2):
        serials(store)
    lost = [n for n in range(1, 301) if n not in there]
    (record,) = caplog.records

    assert record.levelname == "ERROR"
    assert (
        f"queue /queue/a: {len(lost)} messages with the serials {lost[0]}-{lost[-1]} cannot be read" in record.message
    )
    assert "--store-repair" in record.message


def test_more_than_one_portion_of_lost_messages_is_not_the_end(store, path, monkeypatch) -> None:
    """A hundred in a row, eight at a time."""
    monkeypatch.setattr(reading, "_AT_ONCE", 8)
    fill(path, range(1, 301))
    for page in {page_of(path, serial) for serial in range(100, 200)}:
        overwrite(path, page)
    there = read_singly(path, range(1, 301))
    store.open(is_fresh=True)

    assert serials(store) == there
    assert len(there) < 210


def test_an_error_that_is_no_damage_is_not_passed_over(store, path, monkeypatch) -> None:
    """It may be over in a moment: the next process looks again, and for all of it."""
    fill(path, range(1, 11))
    monkeypatch.setattr(reading, "_BEYOND", "SELECT serial FROM no_table")
    store.open(is_fresh=True)

    with pytest.raises(StoreError, match="no such table"):
        store.backlog()


@pytest.mark.parametrize("octets", [4000, 1 << 20])
def test_chunks_are_read_around_damage_in_their_order(store, path, monkeypatch, octets) -> None:
    """Between the messages that are left."""
    monkeypatch.setattr(reading, "_AT_ONCE", 8)
    fill(path, range(10, 3000, 10))
    overwrite(path, page_of(path, 1000))
    there = read_singly(path, range(10, 3000, 10))
    store.open(is_fresh=True)
    chunks = [Chunk(serial, QUEUE, 4, 1, b"octets") for serial in range(5, 3000, 10)]
    store.write(chunks)

    found: list[int] = []
    has_more = True
    while has_more:
        items, has_more = store.read(QUEUE, 4, found[-1] if found else 0, octets)
        found += [item.serial for item in items]

    assert found == sorted(there + [chunk.serial for chunk in chunks])


@pytest.mark.parametrize("window", [7, 1024])
def test_without_an_index_the_table_is_searched(store, path, monkeypatch, window, caplog) -> None:
    """Two queues whose messages alternate, and a damaged page between them."""
    monkeypatch.setattr(reading, "_WINDOW", window)
    store.open(is_fresh=True)
    store.write([make_message(n, queue=OTHER if n % 2 else QUEUE) for n in range(1, 301)])
    store.close(in_order=True)
    for page in (page_of(path, 100), root_page(path, "messages_in_queues")):
        overwrite(path, page)
    there = read_singly(path, range(1, 301))
    store.open(is_fresh=False)

    assert serials(store) == [n for n in there if n % 2 == 0]
    assert serials(store, OTHER) == [n for n in there if n % 2]
    assert len(there) > 280
    assert caplog.text.count("the index of queue /queue/a cannot be read") == 1


def test_without_an_index_and_the_tables_end_the_process_goes_on(store, path, caplog) -> None:
    """Where the table ends is not known, so nothing is found: the log says what to do."""
    fill(path, range(1, 301))
    store.open(is_fresh=True)
    for page in (page_of(path, 300), root_page(path, "messages_in_queues")):
        overwrite(path, page)
    store._connection.execute("PRAGMA shrink_memory")  # what it has read before is read anew

    assert serials(store) == []
    assert "the index of queue /queue/a cannot be read" in caplog.text
    assert "--store-repair" in caplog.text


def test_who_asks_for_nothing_hears_that_there_may_be_more(store, path) -> None:
    """Also where there is damage."""
    fill(path, range(1, 301))
    overwrite(path, page_of(path, 1))
    store.open(is_fresh=True)

    assert store.read(QUEUE, 4, 0, 0) == ([], True)


def test_an_index_that_leads_to_another_queue_gives_nothing_away(store, path) -> None:
    """A flipped bit in the queue that a row is in, or in the serial that the index has."""
    fill(path, range(1, 51))
    fill(path, range(51, 101), queue=OTHER)
    octets = path.read_bytes()
    cell = find_cell(path, 20)[1]
    flip(path, octets.index(b"/queue/a", cell) + 7, 1)  # a becomes c
    store.open(is_fresh=True)

    assert serials(store) == [n for n in range(1, 51) if n != 20]
    assert serials(store, OTHER) == list(range(51, 101))


@pytest.mark.parametrize("seed", range(16))
def test_nothing_altered_is_read(path, seed) -> None:
    """Bits are flipped all over a database: what is read is what was written, once and in order, or nothing."""
    chance = random.Random(seed)
    size = chance.choice([50, 1000, 9000])
    fill(path, range(1, 401), size=size)
    fill(path, range(401, 501), size=size, queue=OTHER)
    for _ in range(chance.choice([1, 3, 20])):
        flip(path, chance.randrange(PAGE, path.stat().st_size), chance.randrange(8))
    written = {n: make_message(n, size, OTHER if n > 400 else QUEUE) for n in range(1, 501)}

    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    try:
        store.backlog()
    except StoreError as error:
        # then the broker does not start
        assert error.status is Exit.DATAERR
        store.close(in_order=False)
        return
    found = {queue: read_queue(store, queue) for queue in (QUEUE, OTHER)}
    store.close(in_order=False)

    for queue, messages in found.items():
        numbers = [message.serial for message in messages]
        assert numbers == sorted(set(numbers))
        contents = {(wanted.headers, wanted.body) for wanted in written.values() if wanted.queue == queue}
        assert [m for m in messages if (m.headers, bytes(m.body)) not in contents] == []
    assert len(found[QUEUE]) + len(found[OTHER]) > (100 if size == 9000 else 300)


def test_what_has_been_named_is_bounded(path, monkeypatch, caplog) -> None:
    """Serials beyond the bound are named again, rather than remembered."""
    monkeypatch.setattr(findings, "_REMEMBERED", 2)
    found = findings.Findings(path)

    for serial in (1, 2, 3, 1, 2):
        found.note_lost(QUEUE, {serial: "gone"})

    assert len(found._named) == 2
    assert [record.message.split("serials ")[1][0] for record in caplog.records] == ["1", "2", "3"]


def test_a_message_is_read_with_all_that_is_known_of_it(store) -> None:
    """As it was written."""
    store.open(is_fresh=True)
    whole = Message(7, QUEUE, b"7-s-1", b"a:b\n", b"body", 3, Details(4, True, crashes=1, expires=9))
    store.write([whole])

    assert read_queue(store) == [whole]
