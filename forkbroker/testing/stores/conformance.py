"""What a backend does with what it is told, as tests: part of `forkbroker.testing.stores`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from forkbroker.posix import children
from forkbroker.store.api import (
    Backlog,
    Change,
    Define,
    Delete,
    Forget,
    Message,
    Move,
    Note,
    Opened,
    Purge,
    Remember,
    SerialTakenError,
    Store,
    StoreError,
    Update,
)
from forkbroker.testing.stores.misfortunes import LastingMisfortuneConformance, MisfortuneConformance
from forkbroker.testing.stores.premises import OTHER, PLENTY, QUEUE, chunk, message, serials
from forkbroker.wire.details import DURABLY, Details, Reason
from forkbroker.wire.kinds import Matter

_HOUR_MS = 3_600_000
_REFUSED = 3


class StoreConformance(MisfortuneConformance):
    """Subclass this, with a name that begins with `Test`."""

    # -- an empty store

    def test_a_new_store_is_empty_and_in_order(self, open_store: Callable[..., tuple[Store, Opened]]) -> None:
        """And its first serial is 1."""
        store, known = open_store()

        assert known == Opened(serial=1, was_in_order=True, recovered_before=0)
        assert list(store.backlog()) == []
        assert list(store.durables()) == []
        assert list(store.duplicates()) == []
        assert list(store.notes()) == []
        assert list(store.scheduled()) == []
        assert store.read(QUEUE, 4, 0, PLENTY) == ([], False)
        assert store.free() > 0

    def test_no_change_at_all_is_no_error(self, store: Store) -> None:
        """An empty group, as when all was settled before it was written."""
        store.write([])

    # -- messages

    def test_a_message_is_read_as_it_was_written(self, store: Store) -> None:
        """All of it, whatever octets it has."""
        details = Details(
            priority=4,
            persistent=True,
            reason=Reason.DELIVERIES,
            crashes=2,
            expires=1_900_000_000_000,
            origin=b"/queue/\xc3\xa4",
            reject_reason="Ä disk\nis full".encode(),
        )
        whole = Message(7, b"/queue/\xff\xfe", b"0-ab-1", b"a:\\n\xff\nb:\n", bytes(range(256)) * 40, 3, details)

        store.write([whole])

        assert store.read(whole.queue, 4, 0, PLENTY) == ([whole], False)

    def test_an_empty_message_is_one(self, store: Store) -> None:
        """No headers, no body."""
        whole = Message(1, QUEUE, b"1-a-1", b"", b"")

        store.write([whole])

        assert store.read(QUEUE, 4, 0, PLENTY) == ([whole], False)

    def test_the_body_may_be_any_buffer_and_change_afterwards(self, store: Store) -> None:
        """It belongs to the caller."""
        buffer = bytearray(b"0123456789")

        store.write([message(1)._replace(body=memoryview(buffer)[2:5]), message(2)._replace(body=buffer)])
        buffer[:] = b"xxxxxxxxxx"
        found = store.read(QUEUE, 4, 0, PLENTY)[0]

        assert [bytes(item.body) for item in found if isinstance(item, Message)] == [b"234", b"0123456789"]

    def test_a_large_message_is_kept(self, store: Store) -> None:
        """Sixteen MiB."""
        body = bytes(range(256)) * 65_536

        store.write([message(1, body)])
        (found,), _ = store.read(QUEUE, 4, 0, 1)

        assert isinstance(found, Message)
        assert bytes(found.body) == body

    def test_messages_are_read_in_the_order_of_their_serials(self, store: Store) -> None:
        """However they were written."""
        store.write([message(serial) for serial in (5, 3, 9, 1)])

        assert serials(store) == [1, 3, 5, 9]

    def test_queues_and_priorities_are_apart(self, store: Store) -> None:
        """Each is read for itself."""
        high = Details(priority=9, persistent=True)
        store.write([message(1), message(2, queue=OTHER), message(3, details=high), message(4)])

        assert serials(store) == [1, 4]
        assert serials(store, OTHER) == [2]
        assert serials(store, priority=9) == [3]
        assert serials(store, priority=0) == []

    def test_reading_goes_on_behind_a_serial(self, store: Store) -> None:
        """Whether it is there or not."""
        store.write([message(serial) for serial in (1, 3, 5)])

        assert serials(store, after=3) == [5]
        assert serials(store, after=4) == [5]
        assert serials(store, after=5) == []

    def test_about_so_many_octets_are_read(self, store: Store) -> None:
        """More than half of them and less than twice as many, and the store tells that there are more."""
        store.write([message(serial, bytes(10_000)) for serial in range(1, 101)])

        found, has_more = store.read(QUEUE, 4, 0, 200_000)

        assert 10 <= len(found) <= 40
        assert has_more
        assert [item.serial for item in found] == list(range(1, len(found) + 1))

    def test_at_least_one_is_read(self, store: Store) -> None:
        """However large it is."""
        store.write([message(1, bytes(100_000)), message(2)])

        found, has_more = store.read(QUEUE, 4, 0, 1)

        assert [item.serial for item in found] == [1]
        assert has_more

    def test_empty_messages_do_not_come_all_at_once(self, store: Store) -> None:
        """They weigh something."""
        store.write([message(serial, b"") for serial in range(1, 2001)])

        found, has_more = store.read(QUEUE, 4, 0, 10_000)

        assert len(found) < 200
        assert has_more

    def test_the_last_ones_are_told_to_be_the_last(self, store: Store) -> None:
        """There are no more."""
        store.write([message(1), message(2)])

        assert store.read(QUEUE, 4, 1, PLENTY) == ([message(2)], False)

    def test_a_message_that_is_told_again_is_there_once(self, store: Store) -> None:
        """As after the death of the process between commit and answer; what followed it is told again as well."""
        low = Details(priority=1, persistent=True)
        told: list[Change] = [
            message(1),
            message(2),
            Update(2, 2, deliveries=3, crashes=1),
            Move(1, 1, new_first=5, new_number=7, queue=OTHER, deliveries=1, details=low),
            message(6),
        ]
        store.write(told)
        store.write([*told, message(7)])

        found = store.read(QUEUE, 4, 0, PLENTY)[0]

        assert [item.serial for item in found] == [2, 6, 7]
        assert found[0] == message(2)._replace(deliveries=3, details=replace(DURABLY, crashes=1))
        assert serials(store, OTHER, 1) == [5]

    @pytest.mark.parametrize(
        "other",
        [
            message(1, b"another", OTHER),
            message(1, b"another"),
            message(1, queue=OTHER),
            message(1)._replace(message_id=b"1-0123456789abcdef-2"),
            message(1, b"another", details=Details(persistent=True, expires=1_900_000_000_000)),
        ],
    )
    def test_a_message_does_not_destroy_another_one(self, store: Store, other: Message) -> None:
        """One that has its serial: neither is the right one, so the store refuses, and names the serial and both."""
        store.write([message(1)])

        with pytest.raises(SerialTakenError, match=f"serial 1 .*{other.queue.decode()}.*{QUEUE.decode()}"):
            store.write([other])

        assert serials(store) == [1]

    def test_a_move_does_not_destroy_another_message(self, store: Store) -> None:
        """One of several that stands where they are to go."""
        store.write([message(1), message(2), message(12, queue=OTHER)])

        with pytest.raises(SerialTakenError, match=f"serial 12 .*{QUEUE.decode()}.*{OTHER.decode()}"):
            store.write([Move(1, 2, new_first=11, new_number=1, queue=QUEUE, deliveries=0, details=DURABLY)])

        assert store.read(OTHER, 4, 0, PLENTY)[0] == [message(12, queue=OTHER)]

    def test_a_chunk_does_not_destroy_another_one(self, store: Store) -> None:
        """Of another queue, or of other octets."""
        store.write([chunk(1)])

        for other in (chunk(1, queue=OTHER), chunk(1, raw=b"others"), chunk(1, 2), chunk(1, priority=5)):
            with pytest.raises(SerialTakenError, match="serial 1 "):
                store.write([other])

        assert serials(store) == [1]
        assert serials(store, OTHER) == serials(store, priority=5) == []

    # -- changes of messages

    def test_deleted_messages_are_gone(self, store: Store) -> None:
        """A range, of which some may be of another queue, or not there."""
        store.write([message(1), message(2), message(3, queue=OTHER), message(4), message(6)])

        store.write([Delete(2, 5)])
        store.write([Delete(2, 5), Delete(100, 200)])

        assert serials(store) == [1, 6]
        assert serials(store, OTHER) == []

    def test_updated_messages_are_otherwise_the_same(self, store: Store) -> None:
        """Deliveries and crashes, nothing else."""
        expiring = Details(persistent=True, expires=1_900_000_000_000)
        store.write([message(1), message(2, details=expiring), message(3)])

        store.write([Update(1, 2, deliveries=5, crashes=1), Update(50, 60, deliveries=1, crashes=0)])

        assert store.read(QUEUE, 4, 0, PLENTY)[0] == [
            message(1)._replace(deliveries=5, details=replace(DURABLY, crashes=1)),
            message(2)._replace(deliveries=5, details=replace(expiring, crashes=1)),
            message(3),
        ]

    def test_moved_messages_have_a_new_place(self, store: Store) -> None:
        """At the end of another queue, in their old order, as dead letters are."""
        dead = Details(priority=2, persistent=True, reason=Reason.REJECTED, origin=QUEUE, reject_reason=b"broken")
        store.write([message(1), message(2), message(3), message(10, queue=OTHER, details=dead)])

        store.write([Move(1, 2, new_first=11, new_number=70, queue=OTHER, deliveries=4, details=dead)])

        assert serials(store) == [3]
        assert serials(store, OTHER, 2) == [10, 11, 12]
        assert store.read(OTHER, 2, 10, 1)[0] == [
            message(1)._replace(serial=11, message_id=b"70-0123456789abcdef-1", queue=OTHER, deliveries=4, details=dead)
        ]

    def test_messages_that_are_moved_may_keep_their_names(self, store: Store) -> None:
        """Whatever numbers these begin with."""
        first, second = message(1)._replace(message_id=b"30-s-1"), message(2)._replace(message_id=b"0-t-7")
        store.write([first, second])

        store.write([Move(1, 2, new_first=11, new_number=0, queue=OTHER, deliveries=4, details=DURABLY)])

        assert store.read(OTHER, 4, 0, PLENTY)[0] == [
            first._replace(serial=11, queue=OTHER, deliveries=4),
            second._replace(serial=12, queue=OTHER, deliveries=4),
        ]

    def test_messages_may_be_moved_to_where_they_are(self, store: Store) -> None:
        """With other details."""
        low = Details(priority=1, persistent=True)
        store.write([message(1), message(2), message(3)])

        store.write([Move(1, 2, new_first=1, new_number=1, queue=QUEUE, deliveries=0, details=low)])

        assert serials(store) == [3]
        assert serials(store, priority=1) == [1, 2]

    def test_a_purge_takes_all_of_one_queue(self, store: Store) -> None:
        """Of all priorities, spilled ones too, and nothing of others."""
        high = Details(priority=9, persistent=True)
        store.write([message(1), chunk(2), message(3, details=high), message(4, queue=OTHER), chunk(5, queue=OTHER)])

        store.write([Purge(QUEUE)])
        store.write([Purge(QUEUE), Purge(b"/queue/unknown")])

        assert serials(store) == serials(store, priority=9) == []
        assert serials(store, OTHER) == [4, 5]

    def test_changes_of_one_group_are_applied_in_their_order(self, store: Store) -> None:
        """What comes after a purge stays; what is written and moved away is there."""
        store.write(
            [
                message(1),
                message(2),
                Purge(QUEUE),
                message(3),
                Update(3, 3, deliveries=1, crashes=0),
                Move(3, 3, new_first=4, new_number=3, queue=OTHER, deliveries=2, details=DURABLY),
                Delete(3, 3),
                message(5),
            ]
        )

        assert serials(store) == [5]
        assert store.read(OTHER, 4, 0, PLENTY)[0] == [message(3)._replace(serial=4, queue=OTHER, deliveries=2)]

    # -- the schedule

    def test_messages_in_the_schedule_are_not_in_their_queue(self, store: Store) -> None:
        """They are listed by themselves, with all that says when they come again."""
        later = Details(persistent=True, due=1_900_000_000_000, period=1000, repeat=-1)
        daily = Details(persistent=True, priority=9, due=1_800_000_000_000, cron=b"0 4 * * *")
        store.write([message(2, details=later), message(1, queue=OTHER, details=daily), message(3)])

        assert serials(store) == [3]
        assert list(store.scheduled()) == [message(1, queue=OTHER, details=daily), message(2, details=later)]

    def test_a_message_leaves_the_schedule_by_a_move(self, store: Store) -> None:
        """And stands at the end of its queue."""
        later = Details(persistent=True, due=1_900_000_000_000)
        store.write([message(1, details=later), message(2)])

        store.write([Move(1, 1, new_first=3, new_number=1, queue=QUEUE, deliveries=0, details=DURABLY)])

        assert list(store.scheduled()) == []
        assert serials(store) == [2, 3]

    def test_a_message_in_the_schedule_can_wait_on(self, store: Store) -> None:
        """Another time, the same serial, as another message; a deletion ends that."""
        later = Details(persistent=True, due=1_900_000_000_000, period=1000, repeat=2)
        again = replace(later, due=1_900_000_001_000, repeat=1)
        store.write([message(1, details=later)])

        store.write([Move(1, 1, new_first=1, new_number=2, queue=QUEUE, deliveries=0, details=again)])
        waiting = list(store.scheduled())
        store.write([Delete(1, 1)])

        assert waiting == [message(1, details=again)._replace(message_id=message(2).message_id)]
        assert list(store.scheduled()) == []

    def test_a_purge_leaves_the_schedule_alone(self, store: Store) -> None:
        """What is scheduled is not in the queue yet."""
        later = Details(persistent=True, due=1_900_000_000_000)
        store.write([message(1, details=later), message(2)])

        store.write([Purge(QUEUE)])

        assert list(store.scheduled()) == [message(1, details=later)]

    # -- spilled messages

    def test_chunks_come_back_as_they_were(self, store: Store) -> None:
        """Octets, whatever they are."""
        spilled = chunk(1, 100, raw=bytes(range(256)) * 1000)

        store.write([spilled._replace(raw=memoryview(bytearray(spilled.raw)))])

        assert store.read(QUEUE, 4, 0, PLENTY) == ([spilled], False)

    def test_messages_and_chunks_are_read_in_one_order(self, store: Store) -> None:
        """That of their serials; a limit cuts between any two."""
        store.write([message(1), chunk(2, 10), message(12), message(13), chunk(14, 2), chunk(16), message(17)])

        piecewise: list[int] = []
        has_more = True
        while has_more:
            found, has_more = store.read(QUEUE, 4, piecewise[-1] if piecewise else 0, 1)
            piecewise += [item.serial for item in found]

        assert piecewise == [1, 2, 12, 13, 14, 16, 17]

    def test_chunks_that_were_taken_are_forgotten(self, store: Store) -> None:
        """When what follows them is read; those of other queues and priorities are not."""
        store.write([chunk(1), chunk(2), chunk(3), chunk(1001, queue=OTHER), chunk(1002, priority=9)])

        assert serials(store, after=2) == [3]
        assert serials(store) == [3]
        assert serials(store, OTHER) == [1001]
        assert serials(store, priority=9) == [1002]

    def test_chunks_are_no_messages(self, store: Store) -> None:
        """Deletions, updates and moves do not concern them, and they are no backlog."""
        store.write([chunk(1), chunk(2)])

        store.write(
            [
                Delete(1, 1),
                Update(1, 2, 1, 0),
                Move(2, 2, new_first=9, new_number=2, queue=OTHER, deliveries=1, details=DURABLY),
            ]
        )

        assert store.read(QUEUE, 4, 0, PLENTY) == ([chunk(1), chunk(2)], False)
        assert list(store.backlog()) == []

    def test_a_chunk_that_comes_again_is_there_once(self, store: Store) -> None:
        """As after the death of the process between commit and answer."""
        store.write([chunk(1), chunk(2)])
        store.write([chunk(1), chunk(2), chunk(3)])

        assert serials(store) == [1, 2, 3]

    def test_the_space_of_chunks_is_used_again(self, store: Store) -> None:
        """A store through which 200 MiB have gone, 4 MiB at a time, has not got smaller by as much."""
        free, first = store.free(), 1
        for _ in range(50):
            store.write([chunk(first + place, raw=bytes(1 << 18)) for place in range(16)])
            first += 16
            assert serials(store, after=first - 1) == []

        assert store.free() > free - (100 << 20)

    # -- subscriptions and duplicates

    def test_durable_subscriptions_are_listed_until_they_are_forgotten(self, store: Store) -> None:
        """With what was said last; and their messages go with them."""
        mine, theirs = b"/dsub/mine", b"/dsub/theirs"
        store.write([Define(mine, b"/topic/a.*", 5), Define(theirs, b"/topic/b", 6), Define(mine, b"/topic/a.*", 7)])
        store.write([message(1, queue=mine), chunk(2, queue=mine), message(3, queue=theirs)])
        listed = sorted(store.durables())

        store.write([Forget(mine)])
        store.write([Forget(mine)])

        assert listed == [Define(mine, b"/topic/a.*", 7), Define(theirs, b"/topic/b", 6)]
        assert list(store.durables()) == [Define(theirs, b"/topic/b", 6)]
        assert serials(store, mine) == []
        assert serials(store, theirs) == [3]

    def test_notes_of_queues_are_kept_until_they_are_taken_back(self, store: Store) -> None:
        """Each matter by itself, and what was said last; a purge leaves them."""
        held, owner = Note(QUEUE, Matter.HELD, b"0"), Note(QUEUE, Matter.OWNER, b"\xc3\xa4 b")
        other = Note(b"/queue/\xff", Matter.OWNER, b"")
        store.write([Note(QUEUE, Matter.HELD, b"17"), owner, other, held, message(1)])
        kept = sorted(store.notes())

        store.write([Purge(QUEUE), Note(QUEUE, Matter.OWNER, None)])
        store.write([Note(QUEUE, Matter.OWNER, None)])

        assert kept == sorted([held, owner, other])
        assert sorted(store.notes()) == sorted([held, other])

    def test_dedup_ids_are_remembered_for_each_queue(self, store: Store) -> None:
        """The last time counts."""
        until = _now_ms() + _HOUR_MS
        store.write([Remember(QUEUE, b"a", until), Remember(OTHER, b"a", until + 1), Remember(QUEUE, b"a", until + 2)])

        assert sorted(store.duplicates()) == [Remember(QUEUE, b"a", until + 2), Remember(OTHER, b"a", until + 1)]


class LastingStoreConformance(LastingMisfortuneConformance, StoreConformance):
    """The same, and what has to be there when the store is opened again."""

    @pytest.fixture
    def reopen(
        self, opened: list[Store], open_store: Callable[..., tuple[Store, Opened]]
    ) -> Callable[..., tuple[Store, Opened]]:
        """Close the test's store, in order unless told otherwise, and open it for the next broker."""

        def reopen_it(*, in_order: bool = True) -> tuple[Store, Opened]:
            opened.pop().close(in_order=in_order)
            return open_store()

        return reopen_it

    def test_what_was_written_is_there_for_the_next_broker(
        self, store: Store, reopen: Callable[..., tuple[Store, Opened]]
    ) -> None:
        """Messages, subscriptions and dedup-ids; what was spilled is not."""
        until = _now_ms() + _HOUR_MS
        later = message(8, details=Details(persistent=True, due=until))
        written: Sequence[Change] = [
            *(message(serial) for serial in range(1, 6)),
            chunk(6),
            message(7, b"12345", OTHER),
            later,
            Define(b"/dsub/d", b"/topic/t", 5),
            Note(QUEUE, Matter.OWNER, b"alice"),
            Remember(QUEUE, b"a", until),
        ]
        store.write(written)
        store.write([Delete(1, 2)])

        again, known = reopen()

        assert known == Opened(serial=9, was_in_order=True, recovered_before=0)
        assert sorted(again.backlog()) == [Backlog(QUEUE, 4, 3, 12, 5), Backlog(OTHER, 4, 1, 5, 7)]
        assert serials(again) == [3, 4, 5]
        assert list(again.scheduled()) == [later]
        assert list(again.durables()) == [Define(b"/dsub/d", b"/topic/t", 5)]
        assert list(again.notes()) == [Note(QUEUE, Matter.OWNER, b"alice")]
        assert list(again.duplicates()) == [Remember(QUEUE, b"a", until)]

    def test_dedup_ids_whose_time_is_over_are_forgotten(
        self, store: Store, reopen: Callable[..., tuple[Store, Opened]]
    ) -> None:
        """At the next opening at the latest."""
        until = _now_ms() + _HOUR_MS
        store.write([Remember(QUEUE, b"old", 1000), Remember(QUEUE, b"new", until)])

        again, _ = reopen()

        assert list(again.duplicates()) == [Remember(QUEUE, b"new", until)]

    def test_disorder_is_found_and_remembered(self, store: Store, reopen: Callable[..., tuple[Store, Opened]]) -> None:
        """What was there then may have been delivered, however orderly later ends are; what comes later was not."""
        store.write([message(1), message(2)])
        again, known = reopen(in_order=False)
        again.write([message(3), Delete(1, 2)])
        last, then = reopen()

        assert known == Opened(serial=3, was_in_order=False, recovered_before=3)
        assert then == Opened(serial=4, was_in_order=True, recovered_before=3)
        assert serials(last) == [3]

    def test_serials_below_the_disorder_are_not_given_again(
        self, store: Store, reopen: Callable[..., tuple[Store, Opened]]
    ) -> None:
        """Or new messages would look like those."""
        store.write([message(1), message(2)])
        again, _ = reopen(in_order=False)
        again.write([Delete(1, 2)])

        _, known = reopen()

        assert known.serial == 3

    def test_another_process_of_the_same_broker_finds_everything(
        self, store: Store, open_store: Callable[..., tuple[Store, Opened]]
    ) -> None:
        """Spilled messages too; and nothing is in disorder by that."""
        store.write([message(1), chunk(2, 3), message(5)])

        again, known = open_store(is_fresh=False)

        assert known.recovered_before == 0
        assert known.serial == 6
        assert again.read(QUEUE, 4, 0, PLENTY) == ([message(1), chunk(2, 3), message(5)], False)

    def test_a_second_broker_is_kept_out(self, store: Store, tmp_path: Path) -> None:
        """And the first one goes on."""
        second = self.make_store(tmp_path)

        is_refused = _is_refused_elsewhere(second)
        store.write([message(1)])

        assert is_refused
        assert serials(store) == [1]


def _is_refused_elsewhere(store: Store) -> bool:
    """Try to open the store in a process that is not of this broker: its parent is another process."""

    def attempt() -> int:
        try:
            store.open(is_fresh=True)
        except StoreError:
            return _REFUSED
        return 0

    _, status = os.waitpid(children.fork(attempt, ()), 0)
    return os.waitstatus_to_exitcode(status) == _REFUSED


def _now_ms() -> int:
    return round(time.time() * 1000)
