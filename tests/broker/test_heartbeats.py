"""Heart-beats on a real connection: when they come, and what cannot stop them."""

from __future__ import annotations

import signal
from itertools import pairwise

import pytest
from support.deadline import stretched

BEATS = ("--heart-beat", "100,100")


@pytest.mark.row("H05")
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_an_idle_broker_beats_within_the_interval(make_broker, join, version) -> None:
    """One line feed each, no further apart than agreed (and a margin for this machine), and not much closer."""
    client = join(make_broker(*BEATS), version, heart_beat="0,200")
    client.expect_beats(6)

    assert client.connected["heart-beat"] == "100,100"
    gaps = [later - earlier for earlier, later in pairwise(client.beats)]
    assert max(gaps) < stretched(0.35)
    assert sum(gaps) > 0.5


@pytest.mark.row("H05", "H07")
def test_a_client_that_misses_its_beats_is_told_and_cut(make_broker, join) -> None:
    """It promised one every 100 ms; the one that keeps its promise stays."""
    broker = make_broker(*BEATS)
    silent, faithful = join(broker, heart_beat="100,0"), join(broker, heart_beat="100,100")
    for _ in range(8):
        faithful.expect_beats(1)
        faithful.send_raw(b"\n")

    silent.expect_error("missed heart-beat")
    faithful.sync()


@pytest.mark.row("H06")
def test_octets_of_half_a_frame_are_beats(make_broker, join) -> None:
    """A slow sender is not a dead one."""
    broker = make_broker(*BEATS)
    client, clock = join(broker, heart_beat="100,0"), join(broker, heart_beat="0,100")
    client.send_raw(b"SEND\ndestination:/queue/a\nreceipt:r\n\n")
    for _ in range(6):
        client.send_raw(b"x")
        clock.expect_beats(1)
    client.send_raw(b"\0")

    client.expect("RECEIPT", receipt_id="r")


@pytest.mark.row("H08")
def test_no_beat_comes_before_connected(make_broker, join, knock) -> None:
    """However long the client takes to say CONNECT: it is the first thing that it reads."""
    broker = make_broker(*BEATS)
    client, clock = knock(broker), join(broker, heart_beat="0,100")
    clock.expect_beats(4)
    client.login(heart_beat="0,100")

    assert client.beats == []
    client.expect_beats(2)


@pytest.mark.row("H08")
def test_no_beat_comes_within_a_long_message(make_broker, join, knock) -> None:
    """The message is written for several intervals, as the client takes its time to read it."""
    broker = make_broker(*BEATS)
    client, clock = knock(broker, receive_buffer=4096), join(broker, heart_beat="0,100")
    client.login(heart_beat="0,100")
    client.subscribe("/topic/a", 1)
    clock.send("SEND", destination="/topic/a", body=b"x" * 12_000_000)
    clock.expect_beats(5)

    assert client.expect("MESSAGE").body == b"x" * 12_000_000
    client.expect_beats(2)


@pytest.mark.row("H09")
def test_a_silent_client_of_1_0_neither_gets_beats_nor_is_cut(make_broker, join) -> None:
    """Even if it asks for them, as 1.0 has none."""
    broker = make_broker(*BEATS)
    old, clock = join(broker, "1.0", heart_beat="100,100"), join(broker, heart_beat="0,100")
    clock.expect_beats(8)

    old.expect_nothing()
    assert old.beats == []


@pytest.mark.row("H11")
def test_a_stopped_parent_stops_no_beat(make_broker, join) -> None:
    """The client's own process beats; once the parent goes on, so does everything else."""
    broker = make_broker(*BEATS)
    client = join(broker, heart_beat="100,100")
    broker.kill(signal.SIGSTOP)
    try:
        for _ in range(8):
            client.expect_beats(1)
            client.send_raw(b"\n")
    finally:
        broker.kill(signal.SIGCONT)

    client.sync()
