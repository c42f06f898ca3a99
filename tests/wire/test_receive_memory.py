"""Octets that channels share: who gets them, who waits, and for how long."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from forkbroker.wire.receive_memory import ReceiveMemory


def test_the_budget_is_shared_until_it_is_used_up() -> None:
    """To the last octet."""
    budget = ReceiveMemory(100)

    assert [budget.ask(who, octets) for who, octets in (("a", 60), ("b", 40), ("c", 1))] == [True, True, False]
    assert (budget.used, budget.is_waited_for) == (100, True)


def test_one_goes_on_however_much_it_needs() -> None:
    """And while it does, nobody else."""
    budget = ReceiveMemory(100)

    assert budget.ask("a", 1000)
    assert not budget.ask("b", 1)


def test_what_is_given_back_is_granted_in_order() -> None:
    """Who asked first is first, although a later one would have fitted before."""
    budget = ReceiveMemory(100)
    budget.ask("a", 60)
    budget.ask("b", 90)
    assert not budget.ask("c", 10)
    assert budget.take_granted() == []
    budget.give_back("a")

    assert budget.take_granted() == ["b", "c"]
    assert budget.take_granted() == []
    assert (budget.used, budget.is_waited_for) == (100, False)


def test_who_leaves_the_row_lets_the_next_one_through() -> None:
    """A channel that is closed while it waits."""
    budget = ReceiveMemory(100)
    for who, octets in (("a", 60), ("b", 90), ("c", 10)):
        budget.ask(who, octets)
    budget.give_back("b")

    assert budget.take_granted() == ["c"]
    budget.give_back("nobody")
    assert budget.used == 70


def test_a_pause_is_for_all() -> None:
    """Also for the one that could go on alone; what was granted stays granted."""
    budget = ReceiveMemory(100)
    budget.pause(True)
    assert not budget.ask("a", 1)
    budget.give_back("b")
    assert budget.take_granted() == []
    budget.pause(False)

    assert budget.take_granted() == ["a"]
    budget.pause(True)
    assert budget.used == 1


@given(st.lists(st.integers(1, 250), max_size=30), st.data())
def test_everybody_gets_through_in_order(wanted: list[int], data: st.DataObject) -> None:
    """Whoever gives back when: never more than the budget but for one alone, and nobody waits for ever."""
    budget = ReceiveMemory(100)
    using, got = deque[int](), list[int]()
    for who, octets in enumerate(wanted):
        if budget.ask(who, octets):
            using.append(who)
            got.append(who)
        if using and data.draw(st.booleans()):
            budget.give_back(using.popleft())
        granted = budget.take_granted()
        using += granted  # type: ignore[arg-type]
        got += granted  # type: ignore[arg-type]
        assert budget.used <= 100 or len(using) == 1
    while using:
        budget.give_back(using.popleft())
        granted = budget.take_granted()
        using += granted  # type: ignore[arg-type]
        got += granted  # type: ignore[arg-type]

    assert got == list(range(len(wanted)))
    assert (budget.used, budget.is_waited_for) == (0, False)
