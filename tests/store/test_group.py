"""What is written together, and what of it need not be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.store.api import Chunk, Define, Delete, Forget, Message, Move, Note, Purge, Remember, Update
from forkbroker.store.group import Group, Told, take_aside
from forkbroker.wire.details import DURABLY, Details
from forkbroker.wire.envelope import Buffer, Envelope, pack, pack_serial
from forkbroker.wire.kinds import Flag, Kind, Matter
from store.driven import delete, fan, move, spill, update, write

TraceFunction = Callable[[FrameType, str, Any], Any]

A, B = b"/queue/a", b"/queue/b"


def envelope(buffers: list[Buffer]) -> Envelope:
    """As the other side gets it."""
    return Envelope(b"".join(buffers))


def told(number: int, *parts: list[Buffer]) -> Told:
    """One change."""
    return Told(number, tuple(map(envelope, parts)))


def group_of(*changes: list[Buffer]) -> Group:
    """All of these in one; each with the number that stands in it."""
    group = Group()
    for change in changes:
        one = envelope(change)
        group.add(Told(one.number, (one,)))
    return group


def test_a_group_knows_its_last_number() -> None:
    """Without any there is nothing to commit."""
    assert not group_of()
    assert group_of(write(3, [b"a"]), delete(4, 1)).number == 4


def test_a_message_that_is_settled_in_its_group_is_not_written() -> None:
    """The deletion stays: a process before this one may have written it."""
    group = group_of(write(1, [b"a", b"b", b"c"]), delete(2, 2), delete(3, 1))

    assert [type(change) for change in group.take_changes()] == [Message, Delete, Delete]
    assert group.cancelled == 2


def test_a_message_that_was_moved_is_written() -> None:
    """Its old serial means nothing any more."""
    group = group_of(write(1, [b"a"]), move(2, 1, 1, 5), delete(3, 5), delete(4, 1))

    assert [type(change) for change in group.take_changes()] == [Message, Move, Delete, Delete]


def test_what_is_no_change_breaks_the_contract() -> None:
    """Also within a transaction."""
    with pytest.raises(EnvelopeError, match="PAGED"):
        Group().add(told(1, delete(0, 1), pack(Kind.PAGED)))


@pytest.mark.parametrize(
    ("buffers", "changes"),
    [
        (delete(1, 5, 3), [Delete(5, 7)]),
        (update(1, 5, 3, deliveries=2, crashes=1), [Update(5, 7, 2, 1)]),
        (move(1, 5, 2, 9, queue=B), [Move(5, 6, 9, 0, B, 0, DURABLY)]),
        (pack(Kind.PURGE, number=1, destination=A), [Purge(A)]),
        (pack(Kind.DEFINE, number=1, destination=A, block=b"/topic/t", serial=7), [Define(A, b"/topic/t", 7)]),
        (pack(Kind.FORGET, number=1, destination=A), [Forget(A)]),
        (pack(Kind.NOTE, number=1, destination=A, token=1, count=1, block=b"7"), [Note(A, Matter.HELD, b"7")]),
        (pack(Kind.NOTE, number=1, destination=A, token=2, count=1), [Note(A, Matter.OWNER, b"")]),
        (pack(Kind.NOTE, number=1, destination=A, token=2), [Note(A, Matter.OWNER, None)]),
        (write(1, [b"x"]), [Message(1, A, b"1-0123456789abcdef-7", b"destination:/queue/a\n", b"x")]),
    ],
)
def test_each_kind_of_change_becomes_what_a_backend_knows(buffers, changes) -> None:
    """All fields in their places."""
    assert group_of(buffers).take_changes() == changes


def test_a_spilled_batch_stays_octets() -> None:
    """The whole envelope, under the serial of its first message."""
    buffers = spill(1, [b"x", b"y"], serial=4)

    assert group_of(buffers).take_changes() == [Chunk(4, A, 4, 2, b"".join(buffers))]


def test_a_fan_is_a_row_for_each_message_and_queue() -> None:
    """With the serials of each queue, and one body for all."""
    batch = write(0, [b"x" * 999, b"y" * 999], queue=b"")
    rows = group_of(fan(3, [(10, A), (20, B)], batch)).take_changes()

    assert [(row.serial, row.queue, row.message_id[:2]) for row in rows] == [
        (10, A, b"1-"),
        (11, A, b"2-"),
        (20, B, b"1-"),
        (21, B, b"2-"),
    ]
    assert rows[0].body is rows[2].body


def test_a_fan_with_a_dedup_id_is_remembered_for_each_queue() -> None:
    """Each judges by itself what is sent again."""
    details = Details(persistent=True, dedup_id=b"d", dedup_until=8)
    rows = group_of(fan(3, [(10, A), (20, B)], write(0, [b"x"], queue=b"", details=details))).take_changes()

    assert [row for row in rows if isinstance(row, Remember)] == [Remember(A, b"d", 8), Remember(B, b"d", 8)]


def test_a_spilled_fan_is_a_chunk_for_each_queue() -> None:
    """As it would have come for this queue alone."""
    batch = spill(0, [b"x", b"yy"], queue=b"")
    group = group_of(fan(3, [(10, A), (20, b"/queue/longer")], batch))

    assert group.take_changes() == [
        Chunk(10, A, 4, 2, b"".join(spill(0, [b"x", b"yy"], serial=10, queue=A))),
        Chunk(20, b"/queue/longer", 4, 2, b"".join(spill(0, [b"x", b"yy"], serial=20, queue=b"/queue/longer"))),
    ]


def test_the_weight_of_a_group_is_what_is_to_be_written() -> None:
    """Not what came: a fan is heavier than its envelope."""
    alone = group_of(write(1, [bytes(1000)])).octets

    assert alone > 1000
    assert group_of(fan(1, [(n, A) for n in range(1, 11)], write(0, [bytes(1000)], queue=b""))).octets == 10 * alone
    assert group_of(delete(1, 1)).octets == 0


BAD = [
    write(1, [b"a:b\n\nx", b"no empty line"], flags=Flag.MIXED),
    pack(Kind.WRITE, number=1, serial=1, destination=A, count=3),
    pack(Kind.WRITE, number=1, serial=1, destination=A, count=0),
    write(1, [b"a"], serial=(1 << 63) - 1 + 1),
    write(1, [b"a", b"b"], serial=(1 << 63) - 1),
    spill(1, [b"a"], serial=1 << 63),
    delete(1, 1 << 63),
    delete(1, 0),
    delete(1, 1, 0),
    update(1, 1 << 63, deliveries=1),
    move(1, 1, 2, (1 << 63) - 1),
    pack(Kind.MOVE, number=1, serial=1, count=1, destination=A),
    pack(Kind.DEFINE, number=1, destination=A, block=b"/topic/t", serial=1 << 63),
    fan(1, [], write(0, [b"x"], queue=b"")),
    fan(1, [(1 << 63, A)], write(0, [b"x"], queue=b"")),
    fan(1, [(0, A)], spill(0, [b"x"], queue=b"")),
    fan(1, [(1, A)], delete(0, 1)),
    pack(Kind.FAN, number=1, count=1, block=b"\0\0\0", payload=write(0, [b"x"])),
    pack(Kind.FAN, number=1, count=1, block=b"\0" * 8 + b"\0\x09/queue", payload=write(0, [b"x"])),
    pack(Kind.FAN, number=1, count=1, block=b"\0" * 9 + b"\1a", payload=[b"no envelope"]),
    pack(Kind.MOVE, number=1, serial=1, count=1, destination=A, section=b"x", payload=[pack_serial(4)]),
]


@pytest.mark.parametrize("buffers", BAD)
def test_what_can_not_be_decoded_leaves_the_group_as_it_was(buffers) -> None:
    """Whatever the kind, alone or behind good parts of its change."""
    group = group_of(write(7, [b"a"]), delete(8, 7))
    before = (group.take_changes(), group.number, group.octets, group.cancelled)

    with pytest.raises(EnvelopeError):
        group.add(told(9, write(0, [b"b"], serial=1), delete(0, 1), buffers))

    assert (group.take_changes(), group.number, group.octets, group.cancelled) == before


def test_the_last_serial_there_is_can_be_used() -> None:
    """Exactly at the limit."""
    assert len(group_of(write(1, [b"a", b"b"], serial=(1 << 63) - 2)).take_changes()) == 2


def test_a_group_can_be_had_without_one_of_its_changes() -> None:
    """What that change had made needless is there again."""
    group = group_of(write(1, [b"a"]), delete(2, 1), write(3, [b"c"]))

    assert [type(change) for change in group.without(2).take_changes()] == [Message, Message]
    assert group.without(2).number == 3
    assert [(one.number, len(changes)) for one, changes in group.each()] == [(1, 0), (2, 1), (3, 1)]


def test_what_only_deletes_may_go_ahead() -> None:
    """Not what belongs to a change with other parts: it stands or falls with them."""
    group = Group()
    group.add(told(1, write(0, [b"a"], serial=1), delete(0, 4)))
    group.add(told(2, delete(2, 5, 2)))
    group.add(told(3, delete(0, 8), delete(0, 9)))

    assert group.find_lone_deletes() == [(2, Delete(5, 6))]
    group.note_deleted()
    group.add(told(4, delete(4, 11)))
    assert group.find_lone_deletes() == [(4, Delete(11, 11))]


def test_what_is_moved_in_a_group_is_not_deleted_ahead_of_it() -> None:
    """In the database it stands where it was: it would come back after a receipt said that it is settled."""
    group = group_of(move(1, 5, 2, 20), delete(2, 20), delete(3, 19, 2), delete(4, 5), delete(5, 22))

    assert [number for number, _ in group.find_lone_deletes()] == [4, 5]


def test_what_was_deleted_ahead_stays_so_without_a_change() -> None:
    """It is not done a second time because another change can't be written; what has still to be done is."""
    group = group_of(write(1, [b"a"]), delete(2, 5))
    group.find_lone_deletes()
    group.note_deleted()
    group.add(told(3, delete(3, 6)))
    group.add(told(4, delete(4, 7)))
    group.find_lone_deletes()

    assert group.without(1).find_lone_deletes() == [(3, Delete(6, 6)), (4, Delete(7, 7))]
    assert group.without(3).find_lone_deletes() == [(4, Delete(7, 7))]


def test_to_find_what_may_go_ahead_costs_the_same_however_much_waits() -> None:
    """It is asked for in each turn while the disk is full."""

    def count_steps(waiting: int) -> int:
        group = group_of(*(write(number, [b"a"], serial=number) for number in range(1, waiting)))
        group.find_lone_deletes()
        group.note_deleted()
        group.add(told(waiting, delete(waiting, 1_000_000)))
        steps = 0

        def step(_frame: FrameType, event: str, _: object) -> TraceFunction:
            nonlocal steps
            steps += event == "line"
            return step

        before = sys.gettrace()
        sys.settrace(step)
        try:
            found = group.find_lone_deletes()
        finally:
            sys.settrace(before)
        assert found == [(waiting, Delete(1_000_000, 1_000_000))]
        return steps

    assert count_steps(1_000) == count_steps(10)


def test_a_group_knows_whose_messages_it_has() -> None:
    """By queue and priority; what is moved there counts, and what is still in the schedule does not."""
    group = group_of(write(1, [b"a"]), move(2, 7, 1, 8, queue=B, details=Details(persistent=True, priority=9)))
    later = Details(persistent=True, due=5)
    group.add(Told(3, (envelope(write(3, [b"a"], serial=3, queue=B, details=later)),)))
    group.add(Told(4, (envelope(move(4, 2, 1, 2, queue=B, details=later)),)))

    assert group.first_of(A, 4) == 1
    assert group.first_of(B, 9) == 8
    assert group.first_of(B, 4) == 0
    for serial in (9, 7, 8):
        one = envelope(spill(3 + serial, [b"a"], serial=serial, queue=B))
        group.add(Told(3 + serial, (one,)))
    assert group.first_of(B, 4) == 7


def test_a_deletion_of_many_costs_what_the_group_has() -> None:
    """Not a step for each serial that it names."""
    group = group_of(write(1, [b"a"], serial=5), delete(2, 1, 0xFFFF_FFFF))

    assert group.take_changes() == [Delete(1, 0xFFFF_FFFF)]
    assert group.cancelled == 1


@pytest.mark.parametrize("pieces", [[b"abc"], [b"abc", b"def"]])
def test_what_is_set_aside_is_put_together_again(pieces: list[bytes]) -> None:
    """Its octets, and why; a small one has one part."""
    parts = [pack(Kind.SET_ASIDE, block=b"why", payload=[piece]) for piece in pieces]

    assert take_aside(told(1, *parts)) == (b"".join(pieces), "why")
