"""Sources that have failed are refused for a time."""

from __future__ import annotations

from forkbroker.parent import penalties
from forkbroker.parent.penalties import Penalties, Scale

SCALE = Scale(forgiven=2, first_s=1.0, most_s=3.0, remembered_s=10.0)


def test_a_penalty_doubles_with_each_failure_up_to_its_most() -> None:
    """The first ones are forgiven."""
    given = Penalties(SCALE)
    left = []
    for _ in range(6):
        given.add("10.0.0.1", 100.0)
        left.append(given.left("10.0.0.1", 100.0))

    assert left == [-100.0, -100.0, 1.0, 2.0, 3.0, 3.0]
    assert given.left("10.0.0.1", 102.5) == 0.5
    assert given.left("10.0.0.2", 100.0) == 0.0


def test_who_has_done_well_is_clean_again() -> None:
    """By a word, or by a time without failures."""
    given = Penalties(SCALE)
    for source in ("a", "b"):
        for _ in range(3):
            given.add(source, 0.0)
    given.forget("a")
    given.add("b", 10.0)

    assert given.left("a", 0.0) == 0.0
    assert given.left("b", 10.0) == -9.0


def test_no_more_sources_are_remembered_than_there_is_room_for(monkeypatch) -> None:
    """Those whose time is over make room first; then another one has no penalty."""
    monkeypatch.setattr(penalties, "_ROWS_MAX", 2)
    given = Penalties(Scale(forgiven=0, first_s=1.0, most_s=1.0, remembered_s=10.0))
    for source, now in (("a", 0.0), ("b", 5.0), ("c", 6.0), ("d", 10.0)):
        given.add(source, now)

    assert [given.left(source, 10.0) for source in "abcd"] == [0.0, -4.0, 0.0, 1.0]
