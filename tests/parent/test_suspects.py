"""Where connections came from that should have logged in."""

from __future__ import annotations

from forkbroker.parent.suspects import MOST, REMEMBERED_S, Suspects


def test_an_origin_is_one_for_ten_minutes_after_the_last_time() -> None:
    """Or until it is cleared; nobody is one at first."""
    suspects = Suspects()
    assert not suspects.has("a", 0.0)
    for now in (100.0, 200.0):
        suspects.add("a", now)
    suspects.add("b", 200.0)
    suspects.clear("b")
    suspects.clear("c")

    assert suspects.has("a", 199.9 + REMEMBERED_S)
    assert not suspects.has("a", 200.0 + REMEMBERED_S)
    assert not suspects.has("b", 200.0)


def test_so_many_are_remembered_and_no_more() -> None:
    """The one that has been one for the longest time makes room."""
    suspects = Suspects()
    suspects.add("first", 0.0)
    for number in range(MOST - 1):
        suspects.add(f"host{number}", 1.0)
    suspects.add("first", 2.0)
    assert len(suspects) == MOST
    suspects.add("last", 3.0)

    assert len(suspects) == MOST
    assert suspects.has("first", 3.0)
    assert not suspects.has("host0", 3.0)
