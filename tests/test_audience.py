"""Members by destination and pattern: found at once, forgotten at once, and remembered within a bound."""

from __future__ import annotations

import pytest

from forkbroker.audience import Audience
from forkbroker.patterns import PatternError

OCTETS = 10_000


def make_audience(*added: tuple[str, bytes], octets: int = OCTETS) -> Audience[str]:
    audience: Audience[str] = Audience(octets)
    for member, name in added:
        audience.add(member, name)
    return audience


def test_names_and_patterns_find_their_members_once_each() -> None:
    """Who has asked in two ways is one member."""
    audience = make_audience(
        ("one", b"/topic/a.b"), ("two", b"/topic/a.*"), ("one", b"/topic/a.#"), ("three", b"/topic/c")
    )

    assert sorted(audience.find(b"/topic/a.b")) == ["one", "two"]
    assert audience.find(b"/topic/a") == ("one",)
    assert audience.find(b"/topic/x") == ()


def test_an_answer_is_remembered() -> None:
    """Who asks again gets the same tuple."""
    audience = make_audience(("one", b"/topic/a"))

    assert audience.find(b"/topic/a") is audience.find(b"/topic/a")


@pytest.mark.parametrize("name", [b"/topic/a", b"/topic/*", b"/topic/#"])
def test_what_is_new_is_seen_at_once(name: bytes) -> None:
    """A remembered answer outlives neither what is added nor what is removed, by the same name or a pattern."""
    audience = make_audience(("one", b"/topic/a"))
    assert audience.find(b"/topic/a") == ("one",)

    audience.add("two", name)
    assert audience.find(b"/topic/a") == ("one", "two")
    audience.remove("two", name)
    assert audience.find(b"/topic/a") == ("one",)


def test_members_of_one_name_go_one_by_one() -> None:
    """And nothing of it is left when the last one has gone."""
    audience = make_audience(("one", b"/topic/a"), ("two", b"/topic/a"), ("one", b"/topic/a.*"), ("two", b"/topic/a.*"))

    for member in ("one", "two"):
        audience.remove(member, b"/topic/a")
        audience.remove(member, b"/topic/a.*")
        rest = ("two",) if member == "one" else ()
        assert audience.find(b"/topic/a") == audience.find(b"/topic/a.b") == rest

    assert (audience._names, len(audience._patterns)) == ({}, 0)


@pytest.mark.parametrize("name", [b"/topic/a", b"/topic/b", b"/topic/*", b"/topic/#"])
def test_only_what_was_added_can_be_removed(name: bytes) -> None:
    """Else it is an error, and nothing is made by it."""
    audience = make_audience(("one", b"/topic/a"), ("one", b"/topic/*"))

    with pytest.raises(KeyError):
        audience.remove("two", name)

    assert (len(audience._names), len(audience._patterns)) == (1, 1)


def test_an_order_holds_for_names_and_patterns_together() -> None:
    """Whichever of them was asked for first."""
    audience: Audience[str] = Audience(OCTETS, order=len)
    for member, name in (("333", b"/topic/a"), ("1", b"/topic/#"), ("4444", b"/topic/*"), ("22", b"/topic/a")):
        audience.add(member, name)

    assert audience.find(b"/topic/a") == ("1", "22", "333", "4444")


def test_patterns_are_for_topics_only() -> None:
    """A reply topic is found by its exact name, whatever that looks like."""
    audience = make_audience(("one", b"/topic/#"), ("two", b"/reply-topic/7-a"), ("three", b"/reply-topic/#"))

    assert audience.find(b"/reply-topic/7-a") == ("two",)


def test_a_pattern_that_cannot_be_used_leaves_nothing_behind() -> None:
    """The error is the pattern's."""
    audience = make_audience()

    with pytest.raises(PatternError):
        audience.add("one", b"/topic/#.a")

    assert len(audience._patterns) == 0


@pytest.mark.parametrize("length", [10, 3_000])
def test_what_is_remembered_is_bounded_by_octets(length: int) -> None:
    """Destinations that clients invent, short or long, never use more, and answers stay right."""
    audience = make_audience(("one", b"/topic/*"))

    for number in range(500):
        assert audience.find(b"/topic/%0*d" % (length, number)) == ("one",)
        assert audience._cache.octets <= OCTETS

    assert len(audience._cache) >= 1


def test_many_members_of_one_destination_count_as_what_they_use() -> None:
    """An answer that is larger than the bound is given, and not remembered."""
    audience: Audience[int] = Audience(OCTETS)
    for member in range(2_000):
        audience.add(member, b"/topic/a")

    assert len(audience.find(b"/topic/a")) == 2_000
    assert len(audience._cache) == 0
