"""An envelope becomes a list of changes, or none at all."""

from __future__ import annotations

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.store.api import Define, Delete, Forget, Message, Move, Purge, Remember, Update
from forkbroker.store.changes import Batch, is_lone_delete, unpack_change
from forkbroker.wire.details import DURABLY, Details
from forkbroker.wire.envelope import MAX_SERIAL, Buffer, Envelope, pack, pack_pieces
from forkbroker.wire.kinds import Flag, Kind
from store.driven import delete, move, update, write

A, B = b"/queue/a", b"/queue/b"


def envelope(buffers: list[Buffer]) -> Envelope:
    """As the other side gets it."""
    return Envelope(b"".join(buffers))


def test_the_changes_of_several_envelopes_come_in_their_order() -> None:
    """Messages one by one, everything else as it is."""
    parts = [
        envelope(write(0, [b"x", b"y"], serial=5)),
        envelope(delete(0, 5)),
        envelope(pack(Kind.PURGE, destination=A)),
        envelope(pack(Kind.DEFINE, destination=b"/dsub/d", block=b"/topic/t", serial=7)),
        envelope(pack(Kind.FORGET, destination=b"/dsub/d")),
    ]
    first, second, *rest = unpack_change(parts)

    assert (first[0], second[0]) == (5, 6)
    assert rest == [Delete(5, 5), Purge(A), Define(b"/dsub/d", b"/topic/t", 7), Forget(b"/dsub/d")]


def test_settling_and_moving_name_the_first_and_the_last_serial() -> None:
    """Both of them belong to it."""
    (settled,) = unpack_change([envelope(update(0, 3, 2, deliveries=4, crashes=1))])
    (moved,) = unpack_change([envelope(move(0, 3, 2, 9, queue=B))])

    assert settled == Update(3, 4, 4, 1)
    assert isinstance(moved, Move)
    assert (moved.first, moved.last, moved.new_first, moved.queue) == (3, 4, 9, B)


@pytest.mark.parametrize(("serial", "count"), [(0, 1), (1, 0), (MAX_SERIAL, 2), (MAX_SERIAL + 1, 1)])
def test_serials_that_no_database_has_are_no_change(serial: int, count: int) -> None:
    """And the last one that there is, is."""
    with pytest.raises(EnvelopeError, match="DELETE"):
        unpack_change([envelope(pack(Kind.DELETE, serial=serial, count=count))])

    assert unpack_change([envelope(pack(Kind.DELETE, serial=MAX_SERIAL, count=1))]) == [Delete(MAX_SERIAL, MAX_SERIAL)]


def test_a_time_that_no_database_has_is_no_change() -> None:
    """Of the use of a durable subscription."""
    with pytest.raises(EnvelopeError, match="no time"):
        unpack_change([envelope(pack(Kind.DEFINE, destination=A, serial=MAX_SERIAL + 1))])

    assert unpack_change([envelope(pack(Kind.DEFINE, destination=A, block=b"t", serial=MAX_SERIAL))]) == [
        Define(A, b"t", MAX_SERIAL)
    ]


def test_a_note_of_a_matter_that_nobody_knows_is_no_change() -> None:
    """Another program's, perhaps."""
    with pytest.raises(EnvelopeError, match="NOTE: 3"):
        unpack_change([envelope(pack(Kind.NOTE, destination=A, token=3, count=1))])


def test_what_is_no_change_is_refused() -> None:
    """By its kind."""
    with pytest.raises(EnvelopeError, match="FETCH is no change"):
        unpack_change([envelope(pack(Kind.FETCH, destination=A))])


def test_only_a_delete_by_itself_is_a_lone_one() -> None:
    """Within a transaction something else depends on it."""
    one = envelope(delete(0, 1))

    assert is_lone_delete([one])
    assert not is_lone_delete([one, one])
    assert not is_lone_delete([envelope(pack(Kind.PURGE, destination=A))])


# -- batches


def test_a_batch_becomes_a_row_for_each_message() -> None:
    """Numbers and serials rise side by side; what all share is the same for all."""
    details = Details(persistent=True, priority=7, expires=5)
    batch = Batch(envelope(write(1, [b"a", b"bb"], index=3, deliveries=2, details=details)))

    assert batch.rows_for(b"/queue/x", 9) == [
        Message(9, b"/queue/x", b"3-0123456789abcdef-7", b"destination:/queue/a\n", b"a", 2, details),
        Message(10, b"/queue/x", b"4-0123456789abcdef-7", b"destination:/queue/a\n", b"bb", 2, details),
    ]


def test_messages_with_names_of_their_own_keep_them() -> None:
    """As an administrator copies them that have been put together."""
    flags, payload = pack_pieces([b"3-s-1\na:1\n\nx", b"0-t-9\n\n"])
    flags |= Flag.NAMED | Flag.MIXED | Flag.PERSISTENT
    batch = Batch(envelope(pack(Kind.WRITE, number=1, serial=9, count=2, flags=flags, destination=A, payload=payload)))

    assert batch.rows_for(A, 9) == [
        Message(9, A, b"3-s-1", b"a:1\n", b"x"),
        Message(10, A, b"0-t-9", b"", b""),
    ]


def test_a_dedup_id_is_no_part_of_the_row() -> None:
    """It is remembered for the queue, until its time is over."""
    batch = Batch(envelope(write(1, [b"a"], details=Details(persistent=True, dedup_id=b"d", dedup_until=8))))

    row, reminder = batch.rows_for(b"/queue/x", 9)

    assert isinstance(row, Message)
    assert row.details is DURABLY
    assert reminder == Remember(b"/queue/x", b"d", 8)


def test_rows_for_several_queues_share_their_bodies() -> None:
    """They are not copied for each of them."""
    batch = Batch(envelope(write(1, [b"a" * 1000, b"b" * 1000])))
    one, other = batch.rows_for(b"/dsub/a", 1), batch.rows_for(b"/dsub/b", 3)

    assert [row.body for row in one] == [b"a" * 1000, b"b" * 1000]
    assert all(row.body is twin.body for row, twin in zip(one, other, strict=True))


def test_header_lines_of_a_mixed_batch_are_each_messages_own() -> None:
    """One has none; an empty line in the body is the body's."""
    batch = Batch(envelope(write(1, [b"a:b\n\none\n\n", b"\ntwo", b"\n\n"], flags=Flag.MIXED)))

    assert [(row.headers, bytes(row.body)) for row in batch.rows_for(b"/queue/a", 1)] == [
        (b"a:b\n", b"one\n\n"),
        (b"", b"two"),
        (b"", b"\n"),
    ]


@pytest.mark.parametrize("piece", [b"a:b\n", b"", b"body"])
def test_a_mixed_piece_without_an_empty_line_is_named(piece) -> None:
    """By its place: it can't be told where the body begins."""
    with pytest.raises(EnvelopeError, match="piece 1 has no empty line"):
        Batch(envelope(write(1, [b"a:b\n\n", piece], flags=Flag.MIXED)))
