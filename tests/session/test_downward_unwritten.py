"""What waits for the client: written in order, dropped in whole messages, settled when the kernel has it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.files import make_file

from forkbroker.session.downward import Unwritten


def see_next(unwritten: Unwritten) -> bytes:
    """What is to be written next, from a file or not."""
    in_file = unwritten.next_file()
    if in_file is None:
        return b"".join(bytes(buffer) for buffer in unwritten.gather())
    file, offset, octets = in_file
    assert unwritten.gather() == []
    return file.read(offset, octets)


@given(
    st.lists(
        st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=4) | st.binary(min_size=1, max_size=9),
        max_size=10,
    ),
    st.data(),
)
def test_every_octet_leaves_once_and_in_order(parcels: list[list[bytes] | bytes], data: st.DataObject) -> None:
    """However little the kernel takes at a time; some of it is in files."""
    unwritten = Unwritten()
    for parcel in parcels:
        if isinstance(parcel, bytes):
            unwritten.put_topic_file(make_file(parcel), 1)
        else:
            unwritten.put(parcel)
    written = b""
    while unwritten.pending:
        waiting = see_next(unwritten)
        taken = data.draw(st.integers(1, len(waiting)))
        written += waiting[:taken]
        unwritten.written(taken, 0.0)

    assert written == b"".join(parcel if isinstance(parcel, bytes) else b"".join(parcel) for parcel in parcels)
    assert unwritten.files == 0


def test_files_that_nothing_was_written_of_may_be_dropped() -> None:
    """Not the one that has been begun; the descriptors of the others are closed at once."""
    unwritten = Unwritten()
    for octets in (b"begun", b"old", b"new"):
        unwritten.put_topic_file(make_file(octets), 1)
    unwritten.put([b"reply"])
    unwritten.written(2, 0.0)
    closed = unwritten._parcels[1].file.fd

    assert unwritten.drop_oldest_topics(11) == 1
    assert (unwritten.files, unwritten.pending, unwritten.delivered) == (2, 11, 2)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(closed)
    written = b""
    while unwritten.pending:
        written += see_next(unwritten)
        unwritten.written(len(see_next(unwritten)), 0.0)
    assert written == b"gunnewreply"


def test_a_gather_write_is_bounded() -> None:
    """The kernel takes no more than so many buffers (IOV_MAX)."""
    unwritten = Unwritten()
    unwritten.put([b"x"] * 5000)

    assert len(unwritten.gather()) <= 256


def test_more_written_than_there_was_is_our_bug() -> None:
    """The kernel can't have taken that."""
    unwritten = Unwritten()
    unwritten.put([b"xx"])
    unwritten._parcels[0].size = 5

    with pytest.raises(AssertionError, match="more bytes"):
        unwritten.written(3, 0.0)


def test_a_run_is_settled_with_its_last_octet() -> None:
    """It is noted, and not before."""
    unwritten = Unwritten()
    unwritten.put([b"aa", b"bb"], 2, (1, 10, 2))
    unwritten.put([b"cc"], 1, (1, 12, 1))
    unwritten.written(3, 0.0)
    early = unwritten.written_runs.copy()
    unwritten.written(2, 0.0)

    assert early == []
    assert unwritten.written_runs == [(1, 10, 2)]


def test_the_oldest_topic_messages_are_dropped() -> None:
    """Not what has been begun, no replies, no messages of queues; what depends on them is undone."""
    unwritten, undone = Unwritten(), []
    unwritten.put_topic([b"begun"], 1)
    unwritten.written(1, 0.0)
    unwritten.put([b"reply"])
    unwritten.put_topic([b"old"], 3, lambda: undone.append("old"))
    unwritten.put([b"queue"], 1, (1, 1, 1))
    unwritten.put_topic([b"new"], 1, lambda: undone.append("new"))
    dropped = unwritten.drop_oldest_topics(17)

    assert dropped == 3
    assert undone == ["old"]
    assert b"".join(bytes(buffer) for buffer in unwritten.gather()) == b"egunreplyqueuenew"
    assert unwritten.pending == 17


def test_what_the_transport_has_begun_to_write_is_not_dropped() -> None:
    """It is counted later: encrypted octets go out whole. Once they are written, what is behind them may go."""
    unwritten = Unwritten()
    for octets in (b"one", b"two", b"six", b"ten"):
        unwritten.put_topic([octets], 1)
    unwritten.in_hand = 4

    assert unwritten.drop_oldest_topics(0) == 2
    unwritten.written(4, 0.0)
    assert b"".join(bytes(buffer) for buffer in unwritten.gather()) == b"wo"
    assert unwritten.in_hand == 0


def test_a_parcel_that_nothing_was_written_of_may_be_dropped() -> None:
    """The first of all, and the one behind a parcel that was written in two parts."""
    fresh, unwritten = Unwritten(), Unwritten()
    fresh.put_topic([b"abc"], 1)
    unwritten.put_topic([b"abc"], 1)
    unwritten.written(1, 0.0)
    unwritten.written(2, 0.0)
    unwritten.put_topic([b"def"], 2)

    assert (fresh.drop_oldest_topics(0), unwritten.drop_oldest_topics(0)) == (1, 2)
    assert (fresh.pending, unwritten.pending) == (0, 0)


def test_a_buffer_that_was_written_whole_is_gone() -> None:
    """What is left of its parcel begins with the next one, not with an empty rest."""
    unwritten = Unwritten()
    unwritten.put([b"abc", b"de"])
    unwritten.written(3, 0.0)

    assert unwritten.gather() == [b"de"]


def test_messages_are_counted_until_they_are_dropped() -> None:
    """Written or not; replies are none."""
    unwritten = Unwritten()
    unwritten.put([b"reply"])
    unwritten.put([b"queue"], 2)
    unwritten.put_topic([b"topic"], 3)
    before = unwritten.delivered
    unwritten.drop_oldest_topics(0)

    assert (before, unwritten.delivered) == (5, 2)


def test_the_time_of_the_last_writing_is_known() -> None:
    """A beat is due from there on."""
    unwritten = Unwritten()
    unwritten.put([b"abc"])
    unwritten.written(1, 5.0)
    unwritten.written(1, 7.0)

    assert unwritten.written_at == 7.0


def test_a_run_waits_until_its_last_octet_is_written() -> None:
    """Then it is no more to be found, and others are not meant."""
    unwritten = Unwritten()
    unwritten.put([b"reply"])
    unwritten.put([b"ab"], 1, (7, 1, 1))
    found = [unwritten.has_run(8), unwritten.has_run(7)]
    unwritten.written(6, 0.0)
    found.append(unwritten.has_run(7))
    unwritten.written(1, 0.0)
    found.append(unwritten.has_run(7))

    assert found == [False, True, True, False]
