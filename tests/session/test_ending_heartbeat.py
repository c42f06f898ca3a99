"""Heart-beats: deadlines of both directions, then those of a session."""

from __future__ import annotations

import math

import pytest

from forkbroker.session.downward import Unwritten
from forkbroker.session.ending import HeartBeat
from forkbroker.session.policy import SessionPolicy
from forkbroker.wire.kinds import Kind

from .play import Client, sent


def connected(version: str = "1.2", policy: SessionPolicy | None = None, **headers: object) -> Client:
    client = Client(version, policy)
    client.connect(**headers)
    return client


def beating(send_every_ms: int, expect_every_ms: int) -> tuple[HeartBeat, Unwritten]:
    """From 0 on, and what the client is sent."""
    unwritten = Unwritten()
    return HeartBeat(send_every_ms, expect_every_ms, unwritten, 0.0), unwritten


@pytest.mark.row("H03")
def test_zero_switches_a_direction_off() -> None:
    """No deadline, never due, never missing."""
    none, _ = beating(0, 0)

    assert (none.deadline(), none.beat_after) == (math.inf, math.inf)
    assert not none.is_due(1e9)
    assert not none.is_missing(1e9)
    assert beating(1000, 0)[0].deadline() == pytest.approx(0.8)
    assert beating(0, 1000)[0].deadline() == pytest.approx(2.0)


@pytest.mark.row("H05", "H07")
def test_margins() -> None:
    """Sent before the interval is over, missed after two."""
    beat, unwritten = beating(1000, 1000)
    due = [beat.is_due(0.79), beat.is_due(0.8)]
    missing = [beat.is_missing(1.99), beat.is_missing(2.0)]
    unwritten.put([b"x"])
    unwritten.written(1, 0.7)
    beat.received_at = 1.0

    assert due == missing == [False, True]
    assert not beat.is_due(1.4)
    assert not beat.is_missing(2.9)


def test_who_is_given_patience_may_be_silent_for_longer_but_not_for_ever() -> None:
    """The longer of both counts; without heart-beats there is only the one."""
    unwritten = Unwritten()

    assert HeartBeat(0, 10_000, unwritten, 0.0, 75.0).gone_after == 75.0
    assert HeartBeat(0, 60_000, unwritten, 0.0, 75.0).gone_after == 120.0
    assert HeartBeat(0, 0, unwritten, 0.0, 75.0).deadline() == 75.0


def test_what_is_agreed_on_later_counts_from_then_on() -> None:
    """With the patience of before; and another one goes on from there, at the same times."""
    unwritten, others = Unwritten(), Unwritten()
    beat, other = HeartBeat(0, 0, unwritten, 0.0, 75.0), HeartBeat(0, 0, others, 0.0)
    beat.agree(1000, 10_000)
    beat.received_at, unwritten.written_at = 5.0, 6.0
    other.go_on_from(beat)

    assert [(one.beat_after, one.gone_after, one.deadline()) for one in (beat, other)] == [(0.8, 75.0, 6.8)] * 2
    assert (other.received_at, others.written_at) == (5.0, 6.0)


@pytest.mark.row("H08")
def test_what_waits_to_be_sent_has_no_deadline() -> None:
    """It will be as good as a beat."""
    (sends, its), (both, theirs) = beating(1000, 0), beating(1000, 5000)
    for unwritten in (its, theirs):
        unwritten.put([b"x"])

    assert not sends.is_due(1e9)
    assert sends.deadline() == math.inf
    assert both.deadline() == pytest.approx(10.0)


@pytest.mark.row("H03")
def test_the_shortest_interval_is_an_interval() -> None:
    """A millisecond; only 0 switches off."""
    beat, _ = beating(1, 1)

    assert (beat.is_due(0.0008), beat.is_missing(0.002)) == (True, True)
    assert beat.beat_after == beat.deadline() == pytest.approx(0.0008)


@pytest.mark.row("H02")
def test_without_the_header_there_are_no_heart_beats() -> None:
    """Silence is legal for ever then."""
    client = connected()
    client.wait(10_000)

    assert client.session.is_open
    assert client.session.deadline() == math.inf


@pytest.mark.row("H09")
def test_10_has_no_heart_beats() -> None:
    """Not even when the client writes the header; and a silent client is left alone."""
    client = Client("1.0")
    got = client.connect(heart_beat="1000,1000")
    client.wait(10_000)

    assert "heart-beat" not in got.headers
    assert client.session.is_open


@pytest.mark.row("H03", "H05", "H08")
def test_an_idle_server_beats_within_the_interval() -> None:
    """One LF, and only when nothing else was written."""
    client = connected(heart_beat="0,10000")
    client.now += 7.9
    client.session.tick(client.now)
    early = client.raw()
    client.now += 0.2
    client.session.tick(client.now)

    assert early == b""
    assert client.raw() == b"\n"


@pytest.mark.row("H08")
def test_a_message_is_as_good_as_a_beat() -> None:
    """The interval counts from the last octet written."""
    client = connected(heart_beat="0,10000")
    client.subscribe("/topic/a")
    client.now += 7
    client.forward(sent("/topic/a", b"x"))
    client.read()
    client.now += 7
    client.session.tick(client.now)

    assert client.raw() == b""


@pytest.mark.row("H05", "H08")
def test_no_beat_is_put_behind_what_is_not_written() -> None:
    """A client that doesn't read makes no beats pile up, and the session doesn't spin."""
    client = connected(heart_beat="0,10000")
    client.subscribe("/topic/a")
    client.read()
    client.forward(sent("/topic/a", b"x"))
    pending = client.session.unwritten.pending
    client.is_reading = False
    client.wait(100)

    assert client.session.unwritten.pending == pending


@pytest.mark.row("H06", "H07", "H03")
def test_a_silent_client_is_ended_after_twice_the_interval() -> None:
    """Half a frame counts as life, and the margin is as large as the interval."""
    client = connected(heart_beat="10000,0")
    client.now += 19
    client.receive(b"SEN")
    client.now += 19
    client.session.tick(client.now)
    alive = client.session.is_open
    client.now += 2
    client.session.tick(client.now)

    assert alive
    assert client.error()["message"] == "missed heart-beat"


@pytest.mark.row("H06", "F06")
def test_a_line_feed_is_life() -> None:
    """A client that only beats stays."""
    client = connected(heart_beat="10000,0")
    for _ in range(10):
        client.now += 15
        client.receive(b"\n")
        client.session.tick(client.now)

    assert client.session.is_open


@pytest.mark.row("H07")
def test_a_client_that_is_held_misses_no_heart_beat() -> None:
    """While we don't read, its beats lie in the socket; after RESUME it has the whole interval again."""
    client = connected(heart_beat="10000,0")
    client.down(Kind.HOLD)
    client.wait(100)
    client.down(Kind.RESUME)
    client.wait(15)
    alive = client.session.is_open
    client.wait(10)

    assert alive
    assert client.session.reason.startswith("missed heart-beat")


@pytest.mark.row("H11")
def test_the_beat_needs_no_parent() -> None:
    """A parent that says nothing can't stop it."""
    client = connected(heart_beat="0,10000")
    client.do("SEND", destination="/queue/a", receipt="r")
    client.now += 8.1
    client.session.tick(client.now)

    assert client.raw() == b"\n"


@pytest.mark.row("H06")
def test_a_body_that_grows_is_life() -> None:
    """Also where it is received into its place."""
    client = connected(heart_beat="10000,0")
    client.receive(b"SEND\ndestination:/queue/a\ncontent-length:9000000\n\n" + bytes(100_000))
    for _ in range(5):
        client.now += 15
        assert client.session.parser.body_buffer() is not None
        client.session.body_received(100_000, client.now)
        client.session.tick(client.now)

    assert client.session.is_open


@pytest.mark.row("H05")
def test_what_was_written_moves_the_next_beat() -> None:
    """The loop is woken for it once all is written."""
    client = connected(heart_beat="0,10000")
    client.session.tick(client.now)
    client.do("BEGIN", transaction="t", receipt="r")
    client.now += 5
    client.session.tick(client.now)
    before = client.session.wake_at
    client.read()

    assert before == float("inf")
    assert client.session.wake_at == pytest.approx(client.now + 8)
