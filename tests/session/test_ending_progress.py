"""Half-sent frames: alone, then in a session."""

from __future__ import annotations

import math

import pytest

from forkbroker.session.ending import Progress
from forkbroker.session.errors import FrameError
from forkbroker.session.policy import FRAME_PROGRESS, SessionPolicy
from forkbroker.wire.kinds import Kind

from .play import Client, frame


def connected(version: str = "1.2", policy: SessionPolicy | None = None, **headers: object) -> Client:
    client = Client(version, policy)
    client.connect(**headers)
    return client


def test_a_frame_has_its_time_from_its_beginning() -> None:
    """Not again with each read, and the next one has all of it."""
    progress = Progress(30)
    times = []
    for now in (1, 5):
        progress.begin(now)
        times.append(progress.deadline)
    progress.deadline = math.inf
    progress.begin(7)

    assert (times, progress.deadline) == ([31, 31], 37)


def test_a_pause_gives_all_of_the_time_again() -> None:
    """To a frame that is half-sent; without one there is nothing to wait for."""
    progress = Progress(30)
    progress.pause(1)
    idle = progress.deadline
    progress.begin(1)
    progress.pause(20)

    assert (idle, progress.deadline) == (math.inf, 50)


def test_growth_counts_for_one_time_alone() -> None:
    """What came before the frame was half-sent does not count at all."""
    progress = Progress(30)
    progress.octets = FRAME_PROGRESS
    progress.begin(1)
    before = progress.octets
    progress.octets += FRAME_PROGRESS
    progress.check(31)
    after = (progress.octets, progress.deadline)
    progress.octets += FRAME_PROGRESS - 1
    with pytest.raises(FrameError, match="incomplete frame") as caught:
        progress.check(61)

    assert (before, after) == (0, (0, 61))
    assert (
        "grew by 65,535 bytes in 30 s (frame-timeout); it must grow by 65,536 bytes or be complete"
        in caught.value.detail
    )


@pytest.mark.row("F27")
def test_half_a_frame_must_be_completed_in_time() -> None:
    """The error names the limit."""
    client = connected(policy=SessionPolicy(frame_timeout_s=30))
    client.is_reading = False
    client.receive(b"SEND\ndestination:/queue/a\n")
    client.wait(30.1)
    error = client.error()

    assert error["message"] == "incomplete frame"
    assert b"frame-timeout" in error.body


@pytest.mark.row("F27")
def test_a_large_frame_may_take_its_time_while_it_grows() -> None:
    """The limit is on progress."""
    client = connected(policy=SessionPolicy(frame_timeout_s=30))
    client.receive(b"SEND\ndestination:/queue/a\ncontent-length:10000000\n\n")
    for _ in range(20):
        client.receive(bytes(FRAME_PROGRESS))
        client.wait(29)

    assert client.session.is_open


@pytest.mark.row("F27")
def test_many_small_frames_that_are_always_cut_are_progress() -> None:
    """Each read ends within a frame, but no frame takes long."""
    client = connected(policy=SessionPolicy(frame_timeout_s=30))
    whole = frame("SEND", {"destination": "/topic/a"}, b"x")
    client.receive(whole[:5])
    for _ in range(50):
        client.receive(whole[5:] + whole[:5])
        client.wait(10)

    assert client.session.is_open


@pytest.mark.row("F27")
def test_a_client_that_is_held_may_leave_a_frame_half_sent() -> None:
    """We are the ones who don't read."""
    client = connected(policy=SessionPolicy(frame_timeout_s=30))
    client.receive(b"SEND\ndest")
    client.down(Kind.HOLD)
    client.wait(100)

    assert client.session.is_open


@pytest.mark.row("F27")
@pytest.mark.parametrize("by", ["receive", "body_received"])
@pytest.mark.parametrize(("octets", "is_alive"), [(65_535, False), (65_536, True)])
def test_a_frame_has_to_grow_by_64_kib_in_its_time(by: str, octets: int, is_alive: bool) -> None:
    """What came with its beginning does not count, and what came in one time counts for that one alone."""
    client = connected(policy=SessionPolicy(frame_timeout_s=30))
    session, start = client.session, client.now
    session.tick(start)
    client.receive(b"SEND\ndestination:/queue/a\ncontent-length:9000000\n\n" + bytes(100_000))
    due = session.wake_at
    if by == "receive":
        client.receive(bytes(octets))
    else:
        assert session.parser.body_buffer() is not None
        session.body_received(octets, client.now)
    session.tick(start + 29.999)
    early = session.is_open
    session.tick(start + 30)
    later = session.is_open
    session.tick(start + 60)
    error = client.read()[-1]

    assert (due, early, later) == (start + 30, True, is_alive)
    grown = 0 if is_alive else octets
    assert f"an incomplete frame grew by {grown:,} bytes in 30 s".encode() in error.body
