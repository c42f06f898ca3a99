"""A group that is written change by change: what is there already, and what stands on damaged pages."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from forkbroker.store.again import apply_again
from forkbroker.store.api import Delete, Message, Move, SerialTakenError, Update, is_same
from forkbroker.store.table import list_serials
from forkbroker.wire.details import DURABLY, Details
from forkbroker.wire.kinds import Kind
from store.databases import QUEUE, fill, make_message, overwrite, page_of, query, read_queue, read_singly
from store.driven import delete, write

OTHER = b"/queue/b"


# -- taken serials


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"queue": OTHER}, True),
        ({"deliveries": 5}, True),
        ({"serial": 9}, True),
        ({"message_id": b"77-s-1"}, True),
        ({"details": Details(persistent=True, due=5)}, True),
        ({"message_id": b"1-s-2"}, False),
        ({"message_id": b"1-t-1"}, False),
        ({"headers": b"n:2\n"}, False),
        ({"body": b"other"}, False),
    ],
)
def test_what_makes_a_message_the_same(change, same) -> None:
    """What does not change in its life."""
    assert is_same(make_message(1), make_message(1)._replace(**change)) is same


def test_nothing_of_a_group_with_a_taken_serial_is_written(store, path) -> None:
    """And the next group is written as if it had not been there."""
    store.open(is_fresh=True)
    store.write([make_message(1), make_message(2)])
    with pytest.raises(SerialTakenError, match=r"serial 2 of a message for /queue/b .* in /queue/a"):
        store.write([make_message(3), Delete(1, 1), Message(2, OTHER, b"2-t-9", b"", b"other"), make_message(4)])
    store.write([make_message(5)])

    assert [message.serial for message in read_queue(store)] == [1, 2, 5]
    assert query(path, "SELECT body FROM messages WHERE serial = 2") == [(make_message(2).body,)]


@pytest.mark.parametrize("details", [DURABLY, Details(persistent=True, priority=4, expires=5)])
def test_a_chain_of_changes_may_be_told_again(store, details) -> None:
    """Written, moved, moved on, updated: all of it, or from any change on."""
    store.open(is_fresh=True)
    message = make_message(1)._replace(details=details)
    chain = [
        message,
        Move(1, 1, new_first=5, new_number=3, queue=OTHER, deliveries=1, details=details),
        Move(5, 5, new_first=9, new_number=4, queue=QUEUE, deliveries=2, details=details),
        Update(9, 9, deliveries=3, crashes=0),
    ]
    store.write(chain)
    expected = read_queue(store)

    for first in range(len(chain)):
        store.write(chain[first:])
        assert read_queue(store) == expected
        assert read_queue(store, OTHER) == []
    assert [item.serial for item in expected] == [9]


def test_a_scheduled_message_that_fires_onto_another_one_is_refused(start_store, path) -> None:
    """However it came to that: the process says which serial, and both queues; neither message is lost."""
    store = start_store(f"sqlite://{path}")
    store.hear(Kind.OPENED)
    later = Details(persistent=True, due=1_900_000_000_000)
    store.tell(write(1, [b"keep"], serial=1), write(2, [b"later"], serial=2, queue=OTHER, details=later))
    store.hear(Kind.COMMITTED, 2)

    with pytest.raises(SerialTakenError, match=r"serial 1 of a message for /queue/b .* in /queue/a"):
        _write_as_another_process(
            path, Move(2, 2, new_first=1, new_number=0, queue=OTHER, deliveries=0, details=DURABLY)
        )

    assert query(path, "SELECT serial, body FROM messages") == [(1, b"keep"), (2, b"later")]


def _write_as_another_process(path: Path, change: Move) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.text_factory = bytes
        apply_again(connection, [change], lambda _: None)


# -- damage


def test_what_stands_on_a_damaged_page_does_not_keep_others_from_being_settled(store, path, caplog) -> None:
    """All messages but those are deleted; these are named, and stay."""
    fill(path, range(1, 301))
    overwrite(path, page_of(path, 100))
    there = read_singly(path, range(1, 301))
    store.open(is_fresh=True)
    caplog.set_level(logging.ERROR)

    store.write([make_message(301), *(Delete(serial, serial) for serial in range(1, 301)), make_message(302)])
    left = [message.serial for message in read_queue(store)]

    assert {301, 302} <= set(left)
    assert len(left) < 2 + 20
    stuck = (set(left) - {301, 302}) | {serial for serial in range(1, 301) if serial not in there}
    named = f"{len(stuck)} messages with the serials {list_serials(stuck)} cannot be deleted or updated"
    assert f"{named} and stay as they are" in caplog.text


def test_ranges_are_deleted_around_damage(store, path) -> None:
    """One deletion of all."""
    fill(path, range(1, 301))
    overwrite(path, page_of(path, 100))
    store.open(is_fresh=True)

    store.write([Delete(1, 300), Update(1, 300, deliveries=1, crashes=0)])

    assert len(read_queue(store)) < 20


def test_the_process_lives_through_deletions_on_a_damaged_page(start_store, path) -> None:
    """And commits what else it is told."""
    fill(path, range(1, 301))
    overwrite(path, page_of(path, 100))
    store = start_store(f"sqlite://{path}")
    store.hear(Kind.OPENED)

    store.tell(*(delete(number, number) for number in range(1, 301)), write(301, [b"new"], serial=301))
    store.hear(Kind.COMMITTED, 301)

    assert store.close() == 0
