"""What all backends have in common, and what one has that defines no more than it must."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from forkbroker.errors import Exit
from forkbroker.store.api import (
    MESSAGE_OVERHEAD,
    Change,
    Chunk,
    Delete,
    Message,
    Opened,
    SerialTakenError,
    Store,
    StoreError,
    is_same,
    renumber,
    weigh,
)
from forkbroker.wire.details import Details

MESSAGE = Message(7, b"/queue/a", b"12-session-3", b"a:b\n", b"body")


class Plain(Store):
    """A backend of what is abstract, and nothing else."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.written: list[list[Change]] = []

    def open(self, *, is_fresh: bool) -> Opened:
        return Opened(1)

    def backlog(self) -> list:
        return []

    durables = duplicates = scheduled = notes = backlog

    def write(self, changes: Sequence[Change]) -> None:
        self.written.append(list(changes))

    def read(self, queue: bytes, priority: int, after: int, octets: int) -> tuple[list, bool]:
        return [], False

    def free(self) -> int:
        return 1

    def close(self, *, in_order: bool) -> None:
        pass


def test_what_a_backend_need_not_define() -> None:
    """It keeps no room, has no place for what is set aside, and nothing to repair; each has a text for the log."""
    store = Plain("plain:here")

    assert store.url == "plain:here"
    assert store.repair() == "nothing to repair in plain:here"
    assert store.set_aside(1, b"octets") == "nowhere: this store has no place for it"
    assert store.make_room() is False
    assert store.keep_room() is True
    assert store.kept == 0


def test_changes_that_come_one_by_one_are_written_at_once() -> None:
    """By a backend that does not tell them apart."""
    store = Plain("plain:")

    store.write_one_by_one(iter([[MESSAGE, Delete(1, 2)], [], [Delete(3, 4)]]))

    assert store.written == [[MESSAGE, Delete(1, 2), Delete(3, 4)]]


def test_what_a_store_was_before_anybody_had_it() -> None:
    """In order, and nothing of it was delivered."""
    assert Opened(1) == Opened(serial=1, was_in_order=True, recovered_before=0)


def test_an_error_says_how_the_process_ends_and_whether_the_broker_does() -> None:
    """Usually another process is started."""
    usual, final = StoreError("why", Exit.IOERR), StoreError("why", Exit.UNAVAILABLE, is_final=True)

    assert (str(usual), usual.status, usual.is_final) == ("why", Exit.IOERR, False)
    assert final.is_final


def test_a_serial_that_is_taken_names_both_queues() -> None:
    """Whatever octets they are."""
    error = SerialTakenError(7, b"/queue/\xff", b"/queue/b")

    assert str(error).startswith(
        "serial 7 of a message for /queue/\\xff is the serial of another message, in /queue/b; nothing was written."
    )
    assert error.status == Exit.SOFTWARE


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (MESSAGE, True),
        (MESSAGE._replace(serial=8, queue=b"/queue/b", deliveries=3, details=Details(crashes=1)), True),
        (MESSAGE._replace(message_id=b"99-session-3"), True),
        (MESSAGE._replace(body=memoryview(b"body")), True),
        (MESSAGE._replace(headers=b"a:c\n"), False),
        (MESSAGE._replace(body=b"bodi"), False),
        (MESSAGE._replace(message_id=b"12-session-4"), False),
        (MESSAGE._replace(message_id=b"12-sessions-3"), False),
    ],
)
def test_one_message_at_two_moments_of_its_life(other: Message, expected: bool) -> None:
    """What the broker changes is not compared, what the client has sent is."""
    assert is_same(MESSAGE, other) is expected
    assert is_same(other, MESSAGE) is expected


def test_a_message_gets_another_number() -> None:
    """In front; session and batch stay. One that somebody has written by hand may have none of these."""
    assert renumber(b"12-session-3", 4) == b"4-session-3"
    assert renumber(b"odd", 4) == b"4odd"


def test_what_counts_when_octets_are_read() -> None:
    """An empty message is not for nothing; a chunk is what it is."""
    assert weigh(MESSAGE) == 4 + 4 + MESSAGE_OVERHEAD
    assert weigh(MESSAGE._replace(body=b"")) == 4 + MESSAGE_OVERHEAD
    assert weigh(Chunk(1, b"/queue/a", 4, 9, b"octets")) == 6
