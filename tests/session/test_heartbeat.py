"""Deadlines of both directions."""

from __future__ import annotations

import pytest

from forkbroker.session.heartbeat import HeartBeat


@pytest.mark.row("H03")
def test_zero_switches_a_direction_off() -> None:
    """No deadline, never due, never missing."""
    none = HeartBeat(0, 0, 0.0)

    assert none.deadline(is_idle=True) is None
    assert not none.is_due(1e9)
    assert not none.is_missing(1e9)
    assert HeartBeat(1000, 0, 0.0).deadline(is_idle=True) == pytest.approx(0.8)
    assert HeartBeat(0, 1000, 0.0).deadline(is_idle=True) == pytest.approx(2.0)


@pytest.mark.row("H05", "H07")
def test_margins() -> None:
    """Sent before the interval is over, missed after two."""
    beat = HeartBeat(1000, 1000, 0.0)
    due = [beat.is_due(0.79), beat.is_due(0.8)]
    missing = [beat.is_missing(1.99), beat.is_missing(2.0)]
    beat.sent(0.7)
    beat.received(1.0)

    assert due == missing == [False, True]
    assert not beat.is_due(1.4)
    assert not beat.is_missing(2.9)


@pytest.mark.row("H08")
def test_what_waits_to_be_sent_has_no_deadline() -> None:
    """It will be as good as a beat."""
    assert HeartBeat(1000, 0, 0.0).deadline(is_idle=False) is None
    assert HeartBeat(1000, 5000, 0.0).deadline(is_idle=False) == pytest.approx(10.0)


@pytest.mark.row("H03")
def test_the_shortest_interval_is_an_interval() -> None:
    """A millisecond; only 0 switches off."""
    beat = HeartBeat(1, 1, 0.0)

    assert (beat.is_due(0.0008), beat.is_missing(0.002)) == (True, True)
    assert beat.next_beat() == beat.deadline(is_idle=True) == pytest.approx(0.0008)
    assert HeartBeat(0, 1, 0.0).next_beat() == float("inf")
