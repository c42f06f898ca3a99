"""When polling before sleeping pays: the rule, without a clock."""

from __future__ import annotations

import os

import pytest

from forkbroker.posix.loop import Spinning, may_spin

LONGEST_S = 0.0002
SHORT_S, LONG_S = 0.0001, 0.0002


def spun(rule: Spinning, now: float, yields: int, *, took_s: float = SHORT_S, found: bool = True) -> None:
    """One more spin, and the wait that it began."""
    rule.ended(now, took_s, yields, found=found)
    rule.waited(took_s)


def test_a_spin_follows_a_short_wait() -> None:
    """Not the first wait, and none after a long one."""
    rule = Spinning(LONGEST_S)
    seen = [rule.may_begin_at <= 0.0]
    for took_s in (SHORT_S, LONG_S, SHORT_S):
        rule.waited(took_s)
        seen.append(rule.may_begin_at <= 0.0)

    assert seen == [False, True, False, True]


def test_spins_in_vain_become_rare() -> None:
    """Each asks for twice as many short waits, up to 64, and one that finds something for one alone."""
    rule, needed = Spinning(LONGEST_S), []
    for _ in range(8):
        spun(rule, 0.0, 100, took_s=LONG_S, found=False)
        waits = 0
        while rule.may_begin_at > 0.0:
            rule.waited(SHORT_S)
            waits += 1
        needed.append(waits)
    spun(rule, 0.0, 100)

    assert needed == [2, 4, 8, 16, 32, 64, 64, 64]
    assert rule.may_begin_at <= 0.0


def test_a_core_that_others_want_is_left_to_them() -> None:
    """Each spin was over when the core came back: 0.1 s without, and then twice as long each time, up to 10 s."""
    rule, now, pauses = Spinning(LONGEST_S), 100.0, []
    for _ in range(9):
        rule.waited(SHORT_S)
        while rule.may_begin_at <= now:
            spun(rule, now, 1)
        before = now
        while rule.may_begin_at > now:
            now = round(now + 0.1, 1)
        pauses.append(round(now - before, 1))

    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_a_core_that_is_free_now_and_then_is_not_given_up() -> None:
    """As many spins had it to themselves as had not; what was there before somebody else could run says nothing."""
    rule = Spinning(LONGEST_S)
    rule.waited(SHORT_S)
    for yields in [1, 5, 0] * 100:
        spun(rule, 0.0, yields)

    assert rule.may_begin_at <= 0.0


def test_a_program_that_computes_is_noticed_at_once() -> None:
    """It keeps the core for milliseconds: a second time is enough."""
    rule = Spinning(LONGEST_S)
    for _ in range(2):
        rule.waited(SHORT_S)
        assert rule.may_begin_at <= 0.0
        spun(rule, 0.0, 1, took_s=0.003)
    rule.waited(SHORT_S)

    assert rule.may_begin_at > 0.0999
    assert rule.may_begin_at <= 0.1


def test_pauses_are_short_again_when_the_core_was_free() -> None:
    """However often that was so, it is forgotten as quickly."""
    rule, now = Spinning(LONGEST_S), 0.0
    for free, pause_s in ((0, 0.1), (0, 0.2), (0, 0.4), (1000, 0.1)):
        rule.waited(SHORT_S)
        for yields in [2] * free + [1] * (16 if free else 8):
            assert rule.may_begin_at <= now
            spun(rule, now, yields)
        assert rule.may_begin_at > now + pause_s * 0.99
        now += pause_s
        assert rule.may_begin_at <= now


@pytest.mark.parametrize(("cores", "expected"), [({0}, False), ({0, 3}, True)])
def test_it_pays_where_there_are_two_cores(monkeypatch: pytest.MonkeyPatch, cores: set[int], expected: bool) -> None:
    """For this process: it may be bound to fewer than there are."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: cores, raising=False)

    assert may_spin() is expected


@pytest.mark.parametrize(("cores", "expected"), [(1, False), (2, True), (None, False)])
def test_a_system_that_binds_no_process_tells_how_many_there_are(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, expected: bool
) -> None:
    """Or does not know."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)

    assert may_spin() is expected
