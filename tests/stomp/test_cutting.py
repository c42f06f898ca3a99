"""Cutting many frames at once."""

from __future__ import annotations

import pytest

from forkbroker.stomp.cutting import (
    LONGEST_LINE,
    RECEIPT_MOST,
    RUN_FRAMES,
    SHORTEST_ACK,
    cut_acks,
    cut_open,
    cut_sized,
)
from forkbroker.stomp.frame import Buffer

SEPARATOR = b"\0\nSEND\nx:1\n\n"
NO_LIMIT = 1 << 30


def stream(bodies: list[bytes]) -> bytes:
    """The NUL of a frame, then these frames."""
    return b"".join(SEPARATOR + body for body in bodies) + b"\0"


def sized(data: bytes, length: int, room: int = RUN_FRAMES) -> tuple[list[Buffer], int]:
    bodies: list[Buffer] = [b"-"] * (RUN_FRAMES - room)
    end = cut_sized(data, 0, SEPARATOR, length, bodies)
    return bodies[RUN_FRAMES - room :], end


def opened(data: bytes, expected: int, room: int = RUN_FRAMES, limit: int = NO_LIMIT) -> tuple[list[Buffer], int]:
    bodies: list[Buffer] = [b"-"] * (RUN_FRAMES - room)
    end = cut_open(data, 0, SEPARATOR, expected, limit, bodies)
    return bodies[RUN_FRAMES - room :], end


def test_all_whole_groups_of_like_frames_are_cut() -> None:
    """Few remain for the loop."""
    bodies = [b"%03d" % n for n in range(500)]
    data = stream(bodies)
    for cut, end in (sized(data, 3), opened(data, 3)):
        assert cut == bodies[: len(cut)]
        assert len(cut) > 492
        assert data[end:] == stream(bodies[len(cut) :])


def test_empty_bodies_are_bodies() -> None:
    """A length of zero is a length."""
    assert sized(stream([b""] * 8), 0)[0] == [b""] * 8
    assert opened(stream([b""] * 8), 0)[0] == [b""] * 8


def test_room_in_the_run_is_respected() -> None:
    """No run gets longer than its most."""
    data = stream([b"abc"] * 100)

    assert len(sized(data, 3, room=20)[0]) == 16
    assert len(opened(data, 3, room=20)[0]) == 20
    assert len(opened(stream([b"abc", b"d"] * 50), 3, room=20)[0]) == 20
    assert opened(data, 3, room=0) == ([], 0)


def test_frames_up_to_the_first_other_separator_are_right() -> None:
    """Another block, or more line ends between."""
    for other in (b"\0SEND\nx:1\n\nabc", b"\0\n\nSEND\nx:1\n\nabc", b"\0\nSEND\nx:2\n\nabc"):
        data = stream([b"abc"] * 5)[:-1] + other + stream([b"abc"] * 20)

        cut, end = sized(data, 3)
        assert cut == [b"abc"] * 5
        assert data[end:].startswith(other)


def test_last_body_of_a_cut_needs_its_nul() -> None:
    """Without content-length it would be longer; with it, it is a fault for the loop to find."""
    data = stream([b"abc"] * 8)[:-1] + b"x" * 40

    assert sized(data, 3)[0] == [b"abc"] * 7
    assert opened(data + b"\0", 3)[0] == [b"abc"] * 7 + [b"abc" + b"x" * 40]


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 63, 64, 65, 71, 72, 128, 136])
def test_a_read_that_ends_before_the_last_nul_leaves_that_frame(frames: int) -> None:
    """Also where it would be the last of a group that is cut at once."""
    bodies = [b"abc"] * frames
    data = stream(bodies)[:-1]
    for cut, end in (sized(data, 3), opened(data, 3)):
        assert len(cut) < frames
        assert data[end:] == stream(bodies[len(cut) :])[:-1]


def test_separator_within_a_sized_body_is_data() -> None:
    """It stands where no separator may stand."""
    odd = SEPARATOR + b"abc"
    bodies = [odd, b"y" * len(odd)] * 8

    assert sized(stream(bodies), len(odd))[0] == bodies


def test_bodies_of_any_size_without_content_length_are_cut() -> None:
    """Up to the last NUL."""
    bodies = [b"x" * (n % 90) for n in range(700)]
    data = stream(bodies)

    assert opened(data, 40) == (bodies, len(data) - 1)
    assert opened(data + b"unfinished" * 9000, 40)[0] == bodies


def test_piece_with_a_nul_ends_a_cut() -> None:
    """There another frame begins."""
    data = stream([b"a", b"bc"]) + b"SEND\ny:1\n\n" + stream([b"d"] * 20)

    cut, end = opened(data, 1)
    assert cut == [b"a"]
    assert data[end:].startswith(SEPARATOR + b"bc\0SEND\ny:1")


def test_body_beyond_its_limit_ends_a_cut() -> None:
    """The loop says what is wrong with it."""
    assert opened(stream([b"a", b"bc", b"1234", b"d"] * 3), 2, limit=3)[0] == [b"a", b"bc"]


def test_nothing_is_cut_where_no_frame_is_complete() -> None:
    """The loop keeps what is left."""
    assert opened(SEPARATOR + b"abc", 3) == ([], 0)
    assert sized(SEPARATOR + b"abc", 3) == ([], 0)


@pytest.mark.parametrize("count", [8, 72, 136])
def test_nothing_remains_of_whole_groups_alone(count: int) -> None:
    """The last NUL is found although no frame follows it."""
    bodies = [b"%03d" % n for n in range(count)]
    data = stream(bodies)

    assert sized(data, 3) == (bodies, len(data) - 1)
    assert opened(data, 3) == (bodies, len(data) - 1)


def test_acks_of_the_usual_form_are_cut() -> None:
    """At most as many as a run has; the next one of another form is for the loop, as is one that is not complete."""
    acks = [b"ACK\nid:7-%d\n\n\0%b" % (n, b"\n" * (n % 2)) for n in range(RUN_FRAMES + 9)]
    ids = [b"7-%d" % n for n in range(len(acks))]

    assert cut_acks(b"x" + b"".join(acks), 1) == (ids[:RUN_FRAMES], None, 1 + len(b"".join(acks[:RUN_FRAMES])))
    for other in (b"ACK\nid:7-a\n\n\0", b"ACK\nid:7-9\nparked:1\n\n\0", b"ACK\nid:7-9\n\n", b"NACK\nid:7-9\n\n\0"):
        assert cut_acks(b"".join(acks[:4]) + other, 0) == (ids[:4], None, len(b"".join(acks[:4])))
        assert cut_acks(other, 0) is None
    assert cut_acks(b"x" + acks[3], 1) == (ids[3:4], None, 1 + len(acks[3]))


def test_an_ack_with_a_receipt_is_cut_alone() -> None:
    """The others are for the next turn of the loop, as are values that are not the same in all versions."""
    ack = b"ACK\nid:7-1\nreceipt:%b\n\n\0"

    assert cut_acks(b"ACK\nid:7-0\n\n\0" + ack % b"r", 0) == ([b"7-0"], None, 13)
    assert cut_acks(b"x" + ack % b"r-1" + ack % b"r-2", 1) == ([b"7-1"], ["r-1"], 1 + len(ack % b"r-1"))
    assert cut_acks(ack % (b"r" * RECEIPT_MOST), 0) is not None
    for value in (b"", b" r", b"a\\c", b"\xc3\xa9", b"r\r", b"r" * (RECEIPT_MOST + 1)):
        assert cut_acks(ack % value, 0) is None


def test_limits_are_compared_with_the_longest_line_of_an_ack() -> None:
    """And nobody looks for one where the shortest has no room."""
    longest, shortest = b"9" * 10 + b"-" + b"9" * 18, b"1-1"

    assert cut_acks(b"ACK\nid:%b\n\n\0" % longest * 4, 0) is not None
    assert cut_acks(b"ACK\nid:%b9\n\n\0" % longest * 4, 0) is None
    assert len(b"id:" + longest) < len(b"receipt:") + RECEIPT_MOST == LONGEST_LINE
    assert len(b"ACK\nid:%b\n\n\0" % shortest) == SHORTEST_ACK
