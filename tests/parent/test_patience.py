"""The time for which publishers are held, for each topic."""

from __future__ import annotations

import math

from forkbroker.parent.patience import Patience

A, B = b"/topic/a", b"/topic/b"


def test_a_hold_may_last_as_long_as_the_budget() -> None:
    """It goes on while it lasts, however often it is begun."""
    patience = Patience(1.0, 60.0)

    assert patience.begin(A, 100.0) == 101.0
    assert patience.begin(A, 100.5) == 101.0
    assert patience.ends_at(A) == 101.0


def test_what_is_spent_is_missing_until_the_window_is_over() -> None:
    """The window begins with the first hold."""
    patience = Patience(1.0, 60.0)
    patience.begin(A, 100.0)
    patience.end(A, 100.25)
    assert patience.begin(A, 120.0) == 120.75
    patience.end(A, 120.75)

    assert patience.begin(A, 121.0) == 121.0
    assert patience.begin(A, 159.9) == 159.9
    assert patience.begin(A, 160.0) == 161.0


def test_each_topic_has_its_own() -> None:
    """One that is used up leaves the others what they have."""
    patience = Patience(1.0, 60.0)
    patience.begin(A, 100.0)
    patience.end(A, 101.0)

    assert patience.begin(A, 102.0) == 102.0
    assert patience.begin(B, 102.0) == 103.0


def test_a_hold_over_the_end_of_the_window_keeps_its_end() -> None:
    """What it uses is the old window's."""
    patience = Patience(10.0, 60.0)
    patience.begin(A, 100.0)
    patience.end(A, 101.0)
    patience.begin(A, 155.0)

    assert patience.begin(A, 161.0) == 164.0
    patience.end(A, 164.0)
    assert patience.begin(A, 165.0) == 175.0


def test_no_hold_has_no_end() -> None:
    """Nor one that was ended, once or twice."""
    patience = Patience(1.0, 60.0)
    patience.begin(A, 100.0)
    patience.end(A, 100.5)
    patience.end(A, 100.9)

    assert patience.ends_at(A) == math.inf
    assert patience.ends_at(B) == math.inf
    assert patience.begin(A, 101.0) == 101.5


def test_an_infinite_budget_is_never_used_up() -> None:
    """Where slow clients are to be waited for."""
    patience = Patience(math.inf, 60.0)

    assert patience.begin(A, 100.0) == math.inf
    patience.end(A, 1e9)
    assert patience.begin(A, 1e9) == math.inf


def test_topics_are_forgotten_after_their_window_and_bounded_before() -> None:
    """Names are clients' text: there may be any number of them. What holds at present is not forgotten."""
    patience = Patience(1.0, 60.0)
    patience.begin(A, 100.0)
    for number in range(999):
        patience.begin(b"%d" % number, 101.0)
        patience.end(b"%d" % number, 101.0)

    assert patience.begin(B, 102.0) == 102.0
    assert patience.begin(B, 170.0) == 171.0
    assert patience.ends_at(A) == 101.0
    assert len(patience._accounts) == 2


def test_the_thousandth_topic_is_remembered_and_the_next_one_is_not() -> None:
    """It gets no time, those that are remembered keep theirs; a minute later there is room."""
    patience = Patience(1.0, 60.0)
    for number in range(1_000):
        assert patience.begin(b"%d" % number, 100.0) == 101.0
        patience.end(b"%d" % number, 100.5)

    assert patience.begin(A, 159.9) == 159.9
    assert patience.begin(b"0", 159.9) == 160.4
    assert patience.begin(A, 160.0) == 161.0
