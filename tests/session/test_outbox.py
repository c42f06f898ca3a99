"""What waits for the client: written in order, dropped in whole messages, settled when the kernel has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.session.outbox import Outbox


@given(st.lists(st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=4), max_size=10), st.data())
def test_every_octet_leaves_once_and_in_order(chunks: list[list[bytes]], data: st.DataObject) -> None:
    """However little the kernel takes at a time."""
    outbox = Outbox()
    for chunk in chunks:
        outbox.put(chunk)
    written = b""
    while outbox.pending:
        waiting = b"".join(bytes(buffer) for buffer in outbox.gather())
        taken = data.draw(st.integers(1, len(waiting)))
        written += waiting[:taken]
        outbox.written(taken)

    assert written == b"".join(b"".join(chunk) for chunk in chunks)


def test_a_gather_write_is_bounded() -> None:
    """The kernel takes no more than so many buffers (IOV_MAX)."""
    outbox = Outbox()
    outbox.put([b"x"] * 5000)

    assert len(outbox.gather()) <= 256


def test_more_written_than_there_was_is_our_bug() -> None:
    """The kernel can't have taken that."""
    outbox = Outbox()
    outbox.put([b"xx"])
    outbox._chunks[0].size = 5

    with pytest.raises(AssertionError, match="more octets"):
        outbox.written(3)


def test_a_run_is_settled_with_its_last_octet() -> None:
    """And reported once."""
    outbox = Outbox()
    outbox.put_run([b"aa", b"bb"], 1, 10, 2)
    outbox.put_run([b"cc"], 1, 12, 1)
    outbox.written(3)
    early = outbox.take_written_runs()
    outbox.written(2)

    assert early == []
    assert outbox.take_written_runs() == [(1, 10, 2)]
    assert outbox.take_written_runs() == []


def test_the_oldest_topic_messages_are_dropped() -> None:
    """Not what has been begun, no replies, no messages of queues; what depends on them is undone."""
    outbox, undone = Outbox(), []
    outbox.put_topic([b"begun"], 1)
    outbox.written(1)
    outbox.put([b"reply"])
    outbox.put_topic([b"old"], 3, lambda: undone.append("old"))
    outbox.put_run([b"queue"], 1, 1, 1)
    outbox.put_topic([b"new"], 1, lambda: undone.append("new"))
    dropped = outbox.drop_oldest_topics(17)

    assert dropped == 3
    assert undone == ["old"]
    assert b"".join(bytes(buffer) for buffer in outbox.gather()) == b"egunreplyqueuenew"
    assert outbox.pending == 17


def test_a_chunk_that_nothing_was_written_of_may_be_dropped() -> None:
    """The first of all, and the one behind a chunk that was written in two parts."""
    fresh, outbox = Outbox(), Outbox()
    fresh.put_topic([b"abc"], 1)
    outbox.put_topic([b"abc"], 1)
    outbox.written(1)
    outbox.written(2)
    outbox.put_topic([b"def"], 2)

    assert (fresh.drop_oldest_topics(0), outbox.drop_oldest_topics(0)) == (1, 2)
    assert (fresh.pending, outbox.pending) == (0, 0)


def test_a_buffer_that_was_written_whole_is_gone() -> None:
    """What is left of its chunk begins with the next one, not with an empty rest."""
    outbox = Outbox()
    outbox.put([b"abc", b"de"])
    outbox.written(3)

    assert outbox.gather() == [b"de"]
