"""What the store's process logs, for an administrator."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

import pytest
from support.deadline import wait_until

from forkbroker.errors import Exit
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind
from store.driven import delete, spill, together, write


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file with the lines."""
    return tmp_path / "log"


def lines(log: Path, about: str) -> list[str]:
    """Those with this in them, without the name of the store."""
    return [re.sub(r"sqlite:\S+(?=: )", "URL", line) for line in log.read_text().splitlines() if about in line]


def test_an_opening_says_how_many_messages_there_are(start_store, log) -> None:
    """Of all queues; and whether they may have been delivered before. An end says what need not have been written."""
    first = start_store(log=log)
    first.hear(Kind.OPENED)
    first.tell(write(1, [b"a", b"b"]), write(2, [b"c"], serial=3, queue=b"/queue/b"), spill(3, [b"s"], serial=4))
    first.tell(together(4, write(0, [b"x", b"y"], serial=5), delete(0, 5, 2)))
    first.hear(Kind.COMMITTED, 4)
    assert first.leave() == Exit.OK
    second = start_store(log=log)
    second.hear(Kind.OPENED)
    assert second.close() == Exit.OK
    third = start_store(log=log)
    third.hear(Kind.OPENED)

    assert lines(log, "store") == [
        "INFO store URL: open, 0 messages",
        "DEBUG store: ends, 2 messages were settled before they were written",
        "INFO store URL: open, 3 messages, all marked redelivered after an unclean shutdown",
        "DEBUG store: ends, 0 messages were settled before they were written",
        "INFO store URL: open, 3 messages",
    ]


def test_a_process_that_follows_another_one_does_not_count(start_store, log) -> None:
    """The parent knows what there is, and says that the store is open again."""
    first = start_store()
    first.hear(Kind.OPENED)
    first.kill()
    second = start_store(is_fresh=False, log=log)
    second.hear(Kind.OPENED)

    assert lines(log, "open") == []


def test_a_repair_is_told_and_only_made_at_the_start(start_store, log) -> None:
    """What was saved, as a warning."""
    first = start_store()
    first.hear(Kind.OPENED)
    first.close()
    second = start_store(repair=True, log=log)
    second.hear(Kind.OPENED)
    said = lines(log, "WARNING")
    second.kill()
    third = start_store(is_fresh=False, repair=True, log=log)
    third.hear(Kind.OPENED)

    assert len(said) == 1
    assert said[0].startswith("WARNING store: ")
    assert lines(log, "WARNING") == said


def test_an_end_by_an_error_says_why(start_store, log) -> None:
    """The text that the parent gets."""
    store = start_store("sqlite:///proc/nowhere/queues.db", log=log)
    failed = store.hear(Kind.FAILED)
    store.wait_end()

    (line,) = lines(log, "ERROR")
    assert line == f"ERROR store URL: {failed.block.decode()}"


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux: limits of another process")
def test_a_full_disk_is_told_once_and_so_is_its_end(start_store, log) -> None:
    """However often it is tried."""
    store = start_store(log=log)
    store.hear(Kind.OPENED)
    store.allow_file_size(1 << 16)
    store.tell(write(1, [os.urandom(1 << 20)]))
    store.hear(Kind.DISK)
    store.tell(write(2, [os.urandom(1 << 20)]))
    wait_until(lambda: lines(log, "trying again"), "the line")
    # two more tries
    for number in (3, 4):
        store.tell(pack(Kind.FETCH, destination=b"/queue/b", index=4, count=1))
        store.heard.clear()
        store.hear(Kind.PAGED)
        store.tell(write(number, [b"x"]))
    assert lines(log, "can be written again") == []
    store.allow_file_size(resource.RLIM_INFINITY)
    store.hear(Kind.COMMITTED, 4)

    (line,) = lines(log, "ERROR")
    assert re.fullmatch(r"ERROR store URL: \S+queues\.db.*; trying again each second", line)
    assert lines(log, "again")[1:] == ["INFO store URL: can be written again"]


def test_what_is_not_written_is_named_with_its_place(start_store, tmp_path, log) -> None:
    """The number, the file and the reason; or why there is no file."""
    store = start_store(log=log)
    store.hear(Kind.OPENED)
    store.tell(write(1, [b"kept"], serial=5))
    store.hear(Kind.COMMITTED, 1)
    store.tell(write(2, [b"thief"], serial=5))
    store.hear(Kind.COMMITTED, 2)
    (file,) = tmp_path.glob("queues.db.refused-*")
    (line,) = lines(log, "ERROR")

    assert line.startswith(f"ERROR store URL: change 2 is not written, but kept in {file}: serial 5 of a message for ")


def test_what_has_no_place_is_not_written_all_the_same(start_store, log) -> None:
    """The others are; the memory has no place for it."""
    store = start_store("memory:", log=log)
    store.hear(Kind.OPENED)
    store.tell(write(1, [b"kept"], serial=5), write(2, [b"thief"], serial=5), write(3, [b"next"], serial=6))
    store.hear(Kind.COMMITTED, 3)
    (line,) = lines(log, "ERROR")

    assert [envelope.number for envelope in store.heard if envelope.kind is Kind.DECLINED] == [2]
    assert "change 2 is not written, but kept in nowhere: this store has no place for it: serial 5 " in line
