"""The store's process: groups, answers, pages, and its end."""

from __future__ import annotations

import mmap
import os
import resource
import select
import signal
import sqlite3
from contextlib import closing
from itertools import count, islice
from pathlib import Path

import pytest
from support.deadline import wait_until

from forkbroker.errors import Exit
from forkbroker.store import disk
from forkbroker.wire.details import DURABLY, Details
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Flag, Kind
from store.driven import (
    QUEUE,
    DrivenStore,
    bodies_of,
    delete,
    fan,
    move,
    serials_of,
    spill,
    together,
    update,
    write,
)

OTHER = b"/queue/b"


def rows(path: Path) -> list[tuple[object, ...]]:
    """What a person with sqlite3 sees."""
    with closing(sqlite3.connect(path / "queues.db")) as connection:
        return connection.execute("SELECT serial, body FROM messages ORDER BY serial").fetchall()


def test_what_is_told_is_committed(start_store, tmp_path) -> None:
    """COMMITTED has the number of the last change, and the rows are there for everybody."""
    store = start_store()
    opened = store.hear(Kind.OPENED)
    opening = store.heard[0]

    store.tell(write(1, [b"a", b"b"]), write(2, [b"c"], serial=3))
    store.hear(Kind.COMMITTED, 2)

    assert (opening.kind, opening.serial) == (Kind.OPENING, 1)
    assert opened.flags == 0
    assert rows(tmp_path) == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert store.close() == Exit.OK


@pytest.mark.parametrize(("spin_s", "expected"), [(0.0, False), (1.0, True)])
def test_what_follows_a_quick_change_is_polled_for(start_store, monkeypatch, spin_s: float, expected: bool) -> None:
    """As the other loops do; a store that may not do so sleeps."""
    shared = mmap.mmap(-1, 1)
    give = os.sched_yield

    def note() -> None:
        shared[0] = 1
        give()

    monkeypatch.setattr(os, "sched_yield", note)
    store = start_store(spin_s=spin_s)
    store.hear(Kind.OPENED)
    numbers = count(1)

    def has_polled() -> bool:
        for number in islice(numbers, 20):
            store.tell(write(number, [b"a"], serial=number))
            store.hear(Kind.COMMITTED, number)
        return shared[0] == expected

    # where others have the processors, a wait may be too long to be worth it
    wait_until(has_polled, "a wait that begins with polling" if expected else "changes without one")
    assert store.close() == Exit.OK


def test_much_that_comes_at_once_is_committed_in_few_groups(start_store) -> None:
    """A thousand changes; what comes while a commit runs is the next group."""
    store = start_store()
    store.hear(Kind.OPENED)

    store.tell(*(write(number, [b"x" * 100]) for number in range(1, 1001)))
    store.hear(Kind.COMMITTED, 1000)
    numbers = [envelope.number for envelope in store.heard if envelope.kind is Kind.COMMITTED]

    assert numbers == sorted(numbers)
    assert len(numbers) < 100
    assert len(serials_of(store.fetch())) == 1000


def test_what_is_settled_within_a_group_is_not_written(start_store, tmp_path) -> None:
    """The deleted parts of a run; all in one change, which is one group."""
    store = start_store()
    store.hear(Kind.OPENED)

    store.tell(together(1, write(0, [b"a", b"b", b"c", b"d"], serial=1), delete(0, 2, 2)))
    store.hear(Kind.COMMITTED, 1)

    assert rows(tmp_path) == [(1, b"a"), (4, b"d")]


def test_what_was_moved_is_not_taken_for_what_was_deleted(start_store, tmp_path) -> None:
    """Written, moved, updated and deleted in one group, each in its turn."""
    store = start_store()
    store.hear(Kind.OPENED)

    store.tell(
        together(
            1,
            write(0, [b"a", b"b", b"c"], serial=1),
            update(0, 1, 3, deliveries=2),
            move(0, 1, 2, 4, queue=OTHER),
            delete(0, 4),
            write(0, [b"f"], serial=6),
            delete(0, 3),
        )
    )
    store.hear(Kind.COMMITTED, 1)

    assert rows(tmp_path) == [(5, b"b"), (6, b"f")]


def test_what_was_told_before_is_harmless(start_store, tmp_path) -> None:
    """All of it again, in other groups, to a process that was started anew."""
    changes = [
        write(1, [b"a", b"b", b"c"]),
        move(2, 2, 1, 10, queue=OTHER),
        delete(3, 1),
        write(4, [b"d"], serial=11),
        pack(Kind.DEFINE, number=5, destination=b"/dsub/x", block=b"/topic/x", serial=7),
        pack(Kind.FORGET, number=6, destination=b"/dsub/x"),
        spill(7, [b"s", b"t"], serial=12),
        delete(8, 10),
    ]
    first = start_store()
    first.hear(Kind.OPENED)
    first.tell(*changes)
    first.hear(Kind.COMMITTED, 8)
    first.kill()
    before = rows(tmp_path)

    second = start_store(is_fresh=False)
    second.hear(Kind.OPENED)
    second.tell(*changes)
    second.hear(Kind.COMMITTED, 8)

    assert [(3, b"c"), (11, b"d")] == before == rows(tmp_path)
    assert bodies_of(second.fetch()) == [b"c", b"d", b"s", b"t"]


JOB_AND_RESULT = [
    write(1, [b"job"]),
    together(2, delete(0, 1), write(0, [b"result"], serial=2)),
]
"""What was committed, and nobody was told: the next process hears it again."""


def test_what_is_told_again_is_one_group(start_store, tmp_path) -> None:
    """However slowly it comes: the job that a transaction has ended is never seen again."""
    first = start_store()
    first.tell(*JOB_AND_RESULT)
    first.hear(Kind.COMMITTED, 2)
    first.kill()

    second = start_store(is_fresh=False, retold=False)
    second.hear(Kind.OPENED)
    second.tell(JOB_AND_RESULT[0])
    second.fill()
    assert rows(tmp_path) == [(2, b"result")]
    second.tell(JOB_AND_RESULT[1], pack(Kind.RETOLD), write(3, [b"next"]))
    second.hear(Kind.COMMITTED, 3)

    assert next(envelope.number for envelope in second.heard if envelope.kind is Kind.COMMITTED) >= 2
    assert rows(tmp_path) == [(2, b"result"), (3, b"next")]


def test_half_of_what_is_told_again_is_not_written(start_store, tmp_path) -> None:
    """The parent has died meanwhile, so there will be no more of it; nobody had a receipt for this."""
    first = start_store()
    first.tell(*JOB_AND_RESULT)
    first.hear(Kind.COMMITTED, 2)
    first.kill()

    second = start_store(is_fresh=False, retold=False)
    second.hear(Kind.OPENED)
    second.tell(JOB_AND_RESULT[0])

    assert second.leave() == Exit.OK
    assert rows(tmp_path) == [(2, b"result")]


def test_written_and_spilled_messages_are_paged_in_one_order(start_store) -> None:
    """And with FINAL when there are no more."""
    store = start_store()
    store.hear(Kind.OPENED)
    store.tell(
        write(1, [b"1", b"22"]),
        spill(2, [b"3", b"4"], serial=3),
        write(3, [b"5"], serial=5),
        spill(4, [b"6"], serial=6),
    )

    *pages, paged = store.fetch()

    assert bodies_of(pages) == [b"1", b"22", b"3", b"4", b"5", b"6"]
    assert serials_of(pages) == [1, 2, 3, 4, 5, 6]
    assert [bool(page.flags & Flag.PERSISTENT) for page in pages] == [True, False, True, False]
    assert (paged.destination, paged.index, paged.count) == (QUEUE, 4, 6)
    assert paged.flags & Flag.FINAL


def test_what_is_told_before_a_fetch_is_in_its_answer(start_store) -> None:
    """Whatever group it would have been in."""
    store = start_store()
    store.hear(Kind.OPENED)

    store.tell(write(1, [b"a"]), pack(Kind.FETCH, destination=QUEUE, index=4, count=1000), write(2, [b"b"]))
    store.hear(Kind.PAGED)
    kinds = [envelope.kind for envelope in store.heard]
    store.hear(Kind.COMMITTED, 2)

    assert kinds[2:5] == [Kind.COMMITTED, Kind.PAGE, Kind.PAGED]
    assert bodies_of(store.heard) == [b"a"]


def test_a_batch_comes_back_as_it_was(start_store) -> None:
    """Block, numbers, lengths and flags; a spilled one octet for octet."""
    store = start_store()
    store.hear(Kind.OPENED)
    headers = b"destination:/queue/a\nwindows-path:C\\c\\\\\n"
    store.tell(write(1, [b"a", b"bb"], headers=headers, index=5, flags=Flag.ESCAPED))
    store.tell(write(2, [b"c", b"d"], serial=3, kind=Kind.SPILL, details=Details(expires=9), index=7))

    written, spilled, _ = store.fetch()

    assert written.block == b"-0123456789abcdef-7\n" + headers + b"\n"
    assert (written.index, written.count, written.serial, written.number) == (5, 2, 1, 0)
    assert written.flags == Flag.ESCAPED | Flag.PERSISTENT
    assert written.details is DURABLY
    assert (spilled.index, spilled.count, spilled.serial, spilled.number) == (7, 2, 3, 0)
    assert spilled.details == Details(expires=9)


def test_messages_with_headers_of_their_own_come_back_in_one_envelope(start_store) -> None:
    """Each with its lines; one has none."""
    pieces = [b"destination:/queue/a\nn:1\n\nbody\n\n", b"destination:/queue/a\nn:2\n\n", b"\nx"]
    store = start_store()
    store.hear(Kind.OPENED)
    store.tell(write(1, pieces, flags=Flag.MIXED))

    page, _ = store.fetch()

    assert page.flags & Flag.MIXED
    assert page.block == b"-0123456789abcdef-7\n"
    assert bodies_of([page]) == pieces


def test_pages_are_no_larger_than_one_read(start_store) -> None:
    """Unless a message is."""
    store = start_store()
    store.hear(Kind.OPENED)
    large = bytes(3_000_000)
    store.tell(*(write(number, [bytes(1000)] * 400, serial=1 + 400 * (number - 1)) for number in (1, 2)))
    store.tell(write(3, [large], serial=801))

    *pages, _ = store.fetch()

    assert [page.count for page in pages[:-1]] == [262, 138, 262, 138]
    assert bodies_of(pages[-1:]) == [large]


def test_details_are_kept(start_store) -> None:
    """Priority, expiry, deliveries; another process finds them."""
    details = Details(priority=7, persistent=True, expires=1_900_000_000_000)
    first = start_store()
    first.hear(Kind.OPENED)
    first.tell(write(1, [b"a", b"b"], details=details, deliveries=2), update(2, 2, deliveries=3, crashes=1))
    first.hear(Kind.COMMITTED, 2)
    first.close()

    store = start_store()
    store.hear(Kind.OPENED)
    one, two, _ = store.fetch(priority=7)

    assert (one.details, one.deliveries) == (details, 2)
    assert (two.details.crashes, two.deliveries) == (1, 3)


def test_a_fresh_start_hears_what_there_is(start_store) -> None:
    """OPENING first, then BACKLOG, DURABLE, DUPLICATE, the PAGEs of the schedule, and OPENED last."""
    later = Details(persistent=True, due=4_000_000_000_000, dedup_id=b"d", dedup_until=4_000_000_000_000)
    first = start_store()
    first.hear(Kind.OPENED)
    first.tell(
        write(1, [b"a", b"bb"]),
        write(2, [b"later"], serial=3, details=later),
        pack(Kind.DEFINE, number=3, destination=b"/dsub/x", block=b"/topic/x", serial=7),
        spill(4, [b"s"], serial=4),
    )
    first.hear(Kind.COMMITTED, 4)
    assert first.close() == Exit.OK

    store = start_store()
    opened = store.hear(Kind.OPENED)
    opening, backlog, durable, duplicate, page, last = store.heard

    assert last is opened
    assert (opening.kind, opening.serial, opened.flags) == (Kind.OPENING, 4, 0)
    assert (backlog.kind, backlog.destination, backlog.index, backlog.count, backlog.number, backlog.serial) == (
        Kind.BACKLOG,
        QUEUE,
        4,
        2,
        3,
        2,
    )
    assert (durable.kind, durable.destination, durable.block, durable.serial) == (
        Kind.DURABLE,
        b"/dsub/x",
        b"/topic/x",
        7,
    )
    assert not page.flags & Flag.RECOVERED
    assert (duplicate.kind, duplicate.destination, duplicate.block, duplicate.number) == (
        Kind.DUPLICATE,
        QUEUE,
        b"d",
        4_000_000_000_000,
    )
    assert (page.kind, page.serial, page.details.due) == (Kind.PAGE, 3, 4_000_000_000_000)
    assert bodies_of(store.fetch()) == [b"a", b"bb"]


def is_asleep(pid: int) -> bool:
    """Whether the process waits for something."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux: what another process does")
def test_a_large_stock_is_told_in_portions_to_a_parent_that_reads_late(start_store) -> None:
    """The process waits for the parent instead of keeping all in its memory; nothing of it is lost."""
    later = Details(persistent=True, due=4_000_000_000_000)
    first = start_store()
    first.hear(Kind.OPENED)
    before = peak_memory(first.pid)
    for number in range(1, 65):
        first.tell(write(number, [bytes(1 << 20)], details=later))
    first.hear(Kind.COMMITTED, 64)
    assert first.close() == Exit.OK

    store = start_store()
    readable = select.poll()
    readable.register(store.channel.fileno(), select.POLLIN)
    wait_until(lambda: readable.poll(0) and is_asleep(store.pid), "that the process waits to be read")
    last = store.hear(Kind.OPENED)

    assert serials_of(store.heard) == list(range(1, 65))
    assert store.heard[-1] is last
    assert peak_memory(store.pid) - before < 32 << 20
    assert store.close() == Exit.OK


def test_a_store_that_is_started_anew_says_only_how_the_disk_is_and_that_it_is_open(start_store) -> None:
    """In this order, so that nothing is accepted in between; the parent knows the rest."""
    first = start_store()
    first.hear(Kind.OPENED)
    first.tell(write(1, [b"a"]))
    first.hear(Kind.COMMITTED, 1)
    first.kill()

    store = start_store(is_fresh=False)
    opened = store.hear(Kind.OPENED)

    assert [envelope.kind for envelope in store.heard] == [Kind.OPENING, Kind.DISK, Kind.OPENED]
    assert opened.flags == 0


def test_a_deduplicated_message_that_is_settled_at_once_is_remembered(start_store) -> None:
    """It is not written, its dedup-id is."""
    details = Details(persistent=True, dedup_id=b"d", dedup_until=4_000_000_000_000)
    first = start_store()
    first.hear(Kind.OPENED)
    first.tell(together(1, write(0, [b"a"], serial=1, details=details), delete(0, 1)))
    first.hear(Kind.COMMITTED, 1)
    first.close()

    store = start_store()
    store.hear(Kind.OPENED)

    assert [envelope.block for envelope in store.heard if envelope.kind is Kind.DUPLICATE] == [b"d"]


def test_after_an_end_in_disorder_what_was_there_is_marked(start_store) -> None:
    """Those messages may have been delivered; the later ones were not."""
    first = start_store()
    first.hear(Kind.OPENED)
    first.tell(write(1, [b"a", b"b"]))
    first.hear(Kind.COMMITTED, 1)
    assert first.leave() == Exit.OK

    store = start_store()
    opened = store.hear(Kind.OPENED)
    store.tell(write(1, [b"c"], serial=3, index=3))
    one, two, _ = store.fetch()

    assert opened.flags == Flag.RECOVERED
    assert (bodies_of([one]), bool(one.flags & Flag.RECOVERED)) == ([b"a", b"b"], True)
    assert (bodies_of([two]), bool(two.flags & Flag.RECOVERED)) == ([b"c"], False)


def test_what_came_before_the_parents_death_is_committed(start_store, tmp_path) -> None:
    """It may have been read by nobody but the kernel."""
    store = start_store()
    store.hear(Kind.OPENED)

    store.tell(*(write(number, [b"x"]) for number in range(1, 101)))
    status = store.leave()

    assert status == Exit.OK
    assert len(rows(tmp_path)) == 100


def test_signals_for_the_whole_group_are_the_parents_matter(start_store) -> None:
    """The store goes on until it is told to end."""
    store = start_store()
    store.hear(Kind.OPENED)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        os.kill(store.pid, number)
    store.tell(write(1, [b"a"]))
    store.hear(Kind.COMMITTED, 1)

    assert store.close() == Exit.OK


def test_much_is_told_and_asked_for_at_once(start_store) -> None:
    """Neither side reads before it has written all: 24 MiB down and 48 MiB up, and nobody is stuck."""
    store = start_store()
    store.hear(Kind.OPENED)
    ask = pack(Kind.FETCH, destination=QUEUE, index=4, count=1 << 30)
    batch = [bytes(1000)] * 200

    changes = [write(n, batch, serial=n * 1000) for n in range(1, 121)]
    store.tell(*changes[:60], ask, *changes[60:], ask)
    store.hear(Kind.COMMITTED, 120)
    store.wait(lambda: [e.kind for e in store.heard].count(Kind.PAGED) == 2, "two answers")

    assert len(bodies_of(store.heard)) == (60 + 120) * 200


def test_a_backend_that_can_not_be_opened_says_why(start_store) -> None:
    """FAILED with the reason and an exit status, which is the process's."""
    store = start_store("sqlite:///proc/nowhere/queues.db")

    failed = store.hear(Kind.FAILED)

    assert b"/proc/nowhere" in failed.block
    assert store.wait_end() == failed.token == Exit.IOERR


needs_prlimit = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux: limits of another process")
LIMIT = 4 << 20


def fill_disk(store: DrivenStore, *, first: int = 1) -> int:
    """Tell it more than there is room for; the number of the last change that was committed."""
    for number in range(first, first + 100):
        store.channel.send(write(number, [os.urandom(100_000)]))
    store.tell()
    store.wait(lambda: [e for e in store.heard if e.kind is Kind.DISK and e.token], "that the disk is full")
    return max((e.number for e in store.heard if e.kind is Kind.COMMITTED), default=0)


@needs_prlimit
def test_a_full_disk_does_not_end_the_process(start_store) -> None:
    """It says why, and writes what waits as soon as there is room: all of it, in order."""
    store = start_store(file_size=LIMIT)
    store.hear(Kind.OPENED)

    assert fill_disk(store) < 100
    (short,) = [envelope for envelope in store.heard if envelope.kind is Kind.DISK]
    assert b"queues.db" in short.block
    store.heard.clear()
    store.allow_file_size(resource.RLIM_INFINITY)
    store.hear(Kind.COMMITTED, 100)

    assert store.hear(Kind.DISK).token == 0
    assert serials_of(store.fetch()) == list(range(1, 101))
    assert store.close() == Exit.OK


@needs_prlimit
def test_what_is_there_is_read_while_the_disk_is_full(start_store) -> None:
    """Up to what waits to be written: that is answered later, as else it would be taken for lost."""
    store = start_store()
    store.hear(Kind.OPENED)
    store.tell(write(1, [b"1"]), write(2, [b"x"], queue=OTHER, serial=2))
    store.hear(Kind.COMMITTED, 2)
    store.allow_file_size(1)
    store.tell(write(3, [os.urandom(100_000)]))
    store.hear(Kind.DISK)

    *pages, paged = store.fetch()
    assert (bodies_of(pages), bool(paged.flags & Flag.FINAL)) == ([b"1"], False)
    *pages, paged = store.fetch(OTHER)
    assert (bodies_of(pages), bool(paged.flags & Flag.FINAL)) == ([b"x"], True)
    store.tell(pack(Kind.FETCH, destination=QUEUE, index=4, serial=1, count=1 << 30))
    store.fetch(OTHER)
    store.allow_file_size(resource.RLIM_INFINITY)
    paged = store.hear(Kind.PAGED)

    assert (paged.destination, paged.count, bool(paged.flags & Flag.FINAL)) == (QUEUE, 1, True)


@needs_prlimit
def test_what_is_spilled_does_not_overtake_what_waits_for_room(start_store) -> None:
    """It is in a file of its own, which has room; an answer with it would say that nothing older is left."""
    store = start_store()
    store.hear(Kind.OPENED)
    store.tell(write(1, [b"1"]), spill(2, [b"2"], serial=2))
    store.hear(Kind.COMMITTED, 2)
    store.allow_file_size(1_000_000)
    store.tell(together(3, write(0, [os.urandom(2_000_000)], serial=3), spill(0, [b"4"], serial=4)))
    store.hear(Kind.DISK)

    *pages, paged = store.fetch()
    assert (bodies_of(pages), bool(paged.flags & Flag.FINAL)) == ([b"1", b"2"], False)
    store.allow_file_size(resource.RLIM_INFINITY)
    store.hear(Kind.COMMITTED, 3)
    *pages, paged = store.fetch(after=2)

    assert [page.serial for page in pages] == [3, 4]
    assert paged.flags & Flag.FINAL


@needs_prlimit
def test_what_goes_back_into_the_schedule_keeps_nothing_back(start_store) -> None:
    """A job that is repeated has its serial of long ago; consumers are to go on with its queue, and make room."""
    store = start_store()
    store.hear(Kind.OPENED)
    later = Details(persistent=True, due=1 << 40)
    store.tell(write(1, [b"1"], details=later), write(2, [b"2"], serial=2))
    store.hear(Kind.COMMITTED, 2)
    store.allow_file_size(1_000_000)
    waiting = write(0, [os.urandom(2_000_000)], serial=9, queue=OTHER)
    store.tell(together(3, move(0, 1, 1, 1, details=later), spill(0, [b"3"], serial=3), waiting))
    store.hear(Kind.DISK)

    *pages, paged = store.fetch()

    assert (bodies_of(pages), bool(paged.flags & Flag.FINAL)) == ([b"2"], False)


@needs_prlimit
def test_what_consumers_settle_is_deleted_while_the_disk_is_full(start_store, tmp_path) -> None:
    """Ahead of what waits before it, and so that can be written in the end; what belongs together stays together."""
    store = start_store()
    store.hear(Kind.OPENED)
    for number in range(1, 31):
        store.channel.send(write(number, [os.urandom(100_000)]))
    store.tell()
    store.hear(Kind.COMMITTED, 30)
    with closing(sqlite3.connect(tmp_path / "queues.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = (tmp_path / "queues.db").stat().st_size
    store.allow_file_size(size)
    store.tell(write(31, [os.urandom(size)]))
    store.hear(Kind.DISK)

    store.tell(delete(32, 1, 29), together(33, delete(0, 30), write(0, [b"small"], serial=32)))
    wait_until(lambda: [serial for serial, _ in rows(tmp_path)] == [30], "what is settled to be gone")

    assert store.hear(Kind.DELETED).number == 32
    assert [e for e in store.heard if e.kind is Kind.COMMITTED and e.number > 30] == []
    store.allow_file_size(resource.RLIM_INFINITY)
    store.hear(Kind.COMMITTED, 33)
    assert [serial for serial, _ in rows(tmp_path)] == [31, 32]


@needs_prlimit
def test_a_full_disk_keeps_no_consumer_waiting(start_store, tmp_path, monkeypatch) -> None:
    """Each deletion is done as it comes, however long new messages wait until they are tried again."""
    monkeypatch.setattr(disk, "_EVERY_S", 3600.0)
    store = start_store()
    store.hear(Kind.OPENED)
    store.tell(write(1, [b"1", b"2", b"3"]))
    store.hear(Kind.COMMITTED, 1)
    with closing(sqlite3.connect(tmp_path / "queues.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.allow_file_size(1 << 20)
    store.tell(write(2, [os.urandom(2 << 20)], serial=4))
    store.hear(Kind.DISK)

    for number, serial in ((3, 1), (4, 2), (5, 3)):
        store.tell(delete(number, serial))
        store.hear(Kind.DELETED, number)
    assert rows(tmp_path) == []


@needs_prlimit
def test_a_full_disk_at_the_end_is_an_error(start_store) -> None:
    """What could not be written is lost: that is to be known."""
    store = start_store()
    store.hear(Kind.OPENED)
    store.allow_file_size(1)
    store.tell(write(1, [b"1"]))
    store.hear(Kind.DISK)

    store.tell(pack(Kind.CLOSE))
    failed = store.hear(Kind.FAILED)

    assert store.wait_end() == failed.token == Exit.IOERR


# -- what can't be written

NO_LINE = write(0, [b"a:b\n\nx", b"no empty line"], flags=Flag.MIXED)


def aside(path: Path) -> list[bytes]:
    """What was kept for the administrator."""
    return [file.read_bytes() for file in sorted(path.glob("queues.db.refused-*"))]


def with_serial(buffers: list[bytes | bytearray | memoryview], number: int, serial: int) -> list[bytes]:
    """The same with this number and serial."""
    raw = bytearray(b"".join(buffers))
    raw[24:40] = number.to_bytes(8, "big") + serial.to_bytes(8, "big")
    return [bytes(raw)]


def test_what_can_not_be_decoded_is_declined_and_the_others_are_written(start_store, tmp_path) -> None:
    """By its number, with the reason; its octets are kept."""
    store = start_store()
    store.hear(Kind.OPENED)
    bad = with_serial(NO_LINE, 2, 2)

    store.tell(write(1, [b"1"]), bad, write(3, [b"3"], serial=4))
    declined = store.hear(Kind.DECLINED)
    store.hear(Kind.COMMITTED, 3)

    assert declined.number == 2
    assert b"piece 1 has no empty line" in declined.block
    assert rows(tmp_path) == [(1, b"1"), (4, b"3")]
    assert aside(tmp_path) == bad
    assert store.close() == Exit.OK


def test_a_change_is_declined_as_a_whole(start_store, tmp_path) -> None:
    """Nothing of a transaction is written when one part can't be."""
    store = start_store()
    store.hear(Kind.OPENED)

    store.tell(write(1, [b"job"]), together(2, delete(0, 1), with_serial(NO_LINE, 0, 2)), write(3, [b"3"], serial=9))
    assert store.hear(Kind.DECLINED).number == 2
    store.hear(Kind.COMMITTED, 3)

    assert rows(tmp_path) == [(1, b"job"), (9, b"3")]


def test_a_serial_that_is_taken_is_declined_and_what_is_there_stays(start_store, tmp_path) -> None:
    """Written or moved there: nothing takes the place of another message."""
    store = start_store()
    store.hear(Kind.OPENED)
    store.tell(write(1, [b"kept"], serial=5), write(2, [b"moved"], serial=6))
    store.hear(Kind.COMMITTED, 2)

    store.tell(write(3, [b"thief"], serial=5), move(4, 6, 1, 5), write(5, [b"next"], serial=7))
    store.hear(Kind.COMMITTED, 5)

    declined = [envelope for envelope in store.heard if envelope.kind is Kind.DECLINED]
    assert [envelope.number for envelope in declined] == [3, 4]
    assert all(b"serial 5" in envelope.block for envelope in declined)
    assert rows(tmp_path) == [(5, b"kept"), (6, b"moved"), (7, b"next")]


def test_a_declined_change_that_nothing_follows_is_committed(start_store, tmp_path) -> None:
    """Its sender waits for that, and perhaps sends nothing more."""
    store = start_store()
    store.hear(Kind.OPENED)
    store.tell(write(1, [b"kept"], serial=5))
    store.hear(Kind.COMMITTED, 1)

    store.tell(write(2, [b"thief"], serial=5))

    assert store.hear(Kind.DECLINED).number == 2
    store.hear(Kind.COMMITTED, 2)
    assert rows(tmp_path) == [(5, b"kept")]


def test_what_is_told_again_is_announced_change_by_change(start_store, tmp_path) -> None:
    """Before it is read and before it is applied; and then that all were: a death in between is no change's fault."""
    first = start_store()
    first.hear(Kind.OPENED)
    first.kill()
    store = start_store(is_fresh=False, retold=False)
    store.tell(write(7, [b"1"]), together(8, delete(0, 7), write(0, [b"2"], serial=8)), pack(Kind.RETOLD))
    store.hear(Kind.COMMITTED, 8)
    store.tell(write(9, [b"3"]))
    store.hear(Kind.COMMITTED, 9)

    assert [e.number for e in store.heard if e.kind is Kind.TRYING] == [7, 8, 0, 7, 8, 0]
    assert rows(tmp_path) == [(8, b"2"), (9, b"3")]


def test_a_death_at_a_change_is_behind_its_announcement(start_store, tmp_path) -> None:
    """The parent can read which one it was; nothing of the group is written."""
    first = start_store()
    first.hear(Kind.OPENED)
    first.kill()
    store = start_store(is_fresh=False, retold=False, crash="store.trying@8")
    store.hear(Kind.OPENED)
    store.tell(write(7, [b"1"]), write(8, [b"2"]), write(9, [b"3"]), pack(Kind.RETOLD))

    assert store.wait_end() == -signal.SIGKILL
    assert [e.number for e in store.heard if e.kind is Kind.TRYING][-1] == 8
    assert rows(tmp_path) == []


@needs_prlimit
def test_a_death_while_the_disk_is_full_is_no_changes_fault(start_store) -> None:
    """The one that had no room is not applied any more when the process says that it waits."""
    first = start_store()
    first.hear(Kind.OPENED)
    first.kill()
    store = start_store(is_fresh=False, retold=False, file_size=LIMIT)
    store.hear(Kind.OPENED)
    # more than SQLite keeps in memory, so it has to write before the commit
    store.tell(write(7, [b"1"]), write(8, [os.urandom(4 * LIMIT)]), pack(Kind.RETOLD))
    store.wait(lambda: [e for e in store.heard if e.kind is Kind.DISK and e.token], "that the disk is full")

    tried = [e.number for e in store.heard if e.kind is Kind.TRYING]
    assert tried == [7, 8, 0] * (len(tried) // 3)


def test_what_the_parent_has_set_aside_is_kept(start_store, tmp_path) -> None:
    """Put together again, in a file that only the broker's user reads."""
    store = start_store(retold=False)
    parts = [pack(Kind.SET_ASIDE, block=b"why", payload=[piece]) for piece in (b"abc", b"def")]
    store.tell(write(1, [b"1"]), together(2, *parts), write(3, [b"3"]), pack(Kind.RETOLD))
    store.hear(Kind.COMMITTED, 3)

    assert aside(tmp_path) == [b"abcdef"]
    (file,) = tmp_path.glob("queues.db.refused-*")
    assert file.stat().st_mode & 0o777 == 0o600
    assert rows(tmp_path) == [(1, b"1"), (3, b"3")]


def test_the_number_of_what_is_not_told_any_more_is_committed(start_store) -> None:
    """Receipts wait for it."""
    store = start_store()
    store.hear(Kind.OPENED)

    store.tell(pack(Kind.TOGETHER, number=4))

    store.hear(Kind.COMMITTED, 4)


def test_half_of_a_change_is_not_written(start_store, tmp_path) -> None:
    """The parent has died before its end."""
    store = start_store()
    store.hear(Kind.OPENED)

    store.tell(write(1, [b"1"]), write(0, [b"half"], serial=2))

    assert store.leave() == Exit.OK
    assert rows(tmp_path) == [(1, b"1")]


def test_a_change_larger_than_a_group_is_written(start_store, tmp_path) -> None:
    """All of it has to come before any of it is written."""
    store = start_store()
    store.hear(Kind.OPENED)

    store.tell(together(1, *(write(0, [bytes(1 << 20)], serial=serial) for serial in range(1, 21))))
    store.hear(Kind.COMMITTED, 1)

    assert len(rows(tmp_path)) == 20


def test_a_fan_is_written_to_each_queue(start_store) -> None:
    """Persistent or spilled; a thousand queues and 256 messages take moderate memory."""
    store = start_store()
    store.hear(Kind.OPENED)
    batch = write(0, [bytes(1000)] * 256, queue=b"")
    queues = [b"/dsub/%d" % place for place in range(1000)]
    pieces = [
        fan(1 + at // 25, [(1 + 256 * (at + place), queue) for place, queue in enumerate(queues[at : at + 25])], batch)
        for at in range(0, 1000, 25)
    ]

    # what it has of the process that it was forked by is not its own
    before = peak_memory(store.pid)

    store.tell(*pieces)
    store.hear(Kind.COMMITTED, 40)

    assert len(bodies_of(store.fetch(b"/dsub/999"))) == 256
    assert peak_memory(store.pid) - before < 120 << 20
    store.tell(fan(41, [(300_000, b"/dsub/1"), (300_001, b"/queue/b")], spill(0, [b"s"], queue=b"")))
    assert bodies_of(store.fetch(b"/queue/b")) == [b"s"]


def peak_memory(pid: int) -> int:
    """The most that the process has had, in octets."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    pytest.skip("the system does not say what a process's memory was")


def test_messages_for_several_queues_that_are_too_many_for_a_group_are_several_groups(start_store) -> None:
    """A group is weighed by what is to be written, not by what has come."""
    store = start_store()
    store.hear(Kind.OPENED)
    batch = write(0, [bytes(1 << 20)], queue=b"")

    store.tell(*(fan(n, [(n * 100 + place, b"/dsub/%d" % place) for place in range(7)], batch) for n in range(1, 9)))
    store.hear(Kind.COMMITTED, 8)

    assert len([e for e in store.heard if e.kind is Kind.COMMITTED]) >= 4


def test_a_disk_that_is_nearly_full_is_told(start_store) -> None:
    """And again when there is room: above the watermark by a tenth."""
    store = start_store("memory:10000000", watermark=7_500_000)
    store.hear(Kind.OPENED)
    before = store.hear(Kind.DISK)
    store.heard.clear()

    store.tell(write(1, [bytes(3_000_000)]))
    short = store.hear(Kind.DISK)
    store.heard.clear()
    store.tell(delete(2, 1))
    room = store.hear(Kind.DISK)

    assert (before.token, before.serial) == (0, 2_500_000)
    assert (short.token, short.serial) == (1, 0)
    assert b"7,500,000" in short.block
    assert (room.token, room.serial) == (0, 2_500_000)


def test_a_store_that_was_started_anew_tells_how_the_disk_is(start_store) -> None:
    """The parent may have heard otherwise from the one before."""
    first = start_store(watermark=1)
    first.hear(Kind.OPENED)
    first.kill()

    store = start_store(is_fresh=False, watermark=1)

    assert store.hear(Kind.DISK).token == 0


@pytest.mark.parametrize(
    ("point", "survives"),
    [
        ("store.group-read", False),
        ("store.written", False),
        ("store.committed", True),
        ("store.told", True),
    ],
)
def test_a_group_is_there_whole_or_not_at_all(start_store, tmp_path, point, survives) -> None:
    """Wherever the process is killed; told again, all is there once and in order."""
    change = together(1, write(0, [b"a", b"b"], serial=1), write(0, [b"c"], serial=3, queue=OTHER), delete(0, 2))
    first = start_store(crash=point)
    first.hear(Kind.OPENED)
    first.tell(change)
    assert first.wait_end() == -signal.SIGKILL
    after_death = rows(tmp_path)

    second = start_store(is_fresh=False)
    second.hear(Kind.OPENED)
    second.tell(change)
    second.hear(Kind.COMMITTED, 1)

    assert after_death == ([(1, b"a"), (3, b"c")] if survives else [])
    assert rows(tmp_path) == [(1, b"a"), (3, b"c")]


def test_what_was_paged_before_a_death_is_paged_again(start_store) -> None:
    """Spilled messages are forgotten when what follows them is asked for, and not before."""
    first = start_store(crash="store.paged")
    first.hear(Kind.OPENED)
    first.tell(spill(1, [b"a", b"b"]), spill(2, [b"c"], serial=3))
    first.tell(pack(Kind.FETCH, destination=QUEUE, index=4, count=1))
    assert first.wait_end() == -signal.SIGKILL

    second = start_store(is_fresh=False)
    second.hear(Kind.OPENED)

    assert bodies_of(second.fetch(octets=1)) == [b"a", b"b"]
    assert bodies_of(second.fetch(after=2)) == [b"c"]
    assert bodies_of(second.fetch()) == [b"c"]
