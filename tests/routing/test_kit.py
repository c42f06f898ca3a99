"""What the rules of one router share."""

from __future__ import annotations

from collections.abc import Iterator

from forkbroker.routing.kit import Kit
from forkbroker.routing.peers import Peer

from .twins import carry

STEPS = 3


def steps(done: list[int], count: int) -> Iterator[None]:
    for number in range(count):
        done.append(number)
        yield


def test_a_new_one_has_nothing_to_say() -> None:
    """And what is to be done first is not known: so the router is not at rest."""
    kit = Kit(lambda: 0.0)

    assert (kit.out, kit.notes, kit.events, kit.culprits, kit.is_at_rest) == ([], [], [], {}, False)
    assert not kit.chores.all
    assert not kit.rows.by_peer


def test_each_kind_of_work_has_so_many_steps_of_a_turn() -> None:
    """The words of peers, and what is too long for one turn."""
    kit, done = Kit(lambda: 0.0, STEPS), list[int]()
    kit.chores.add(steps(done, 10))

    assert len(done) == STEPS
    assert [kit.rows.take_turn(Peer(1)) for _ in range(STEPS + 1)] == [True] * STEPS + [False]


def test_dates_are_those_of_the_clock_that_it_was_given() -> None:
    """Spans are not."""
    kit, ended = Kit(lambda: 1_000.0), list[str]()
    at, after = kit.timers.add("at", ended.append), kit.timers.add("after", ended.append)
    at.at(999_000, "a date that is over")
    after.after(1_000, "a span that is not")
    kit.timers.run_due()

    assert ended == ["a date that is over"]


def test_two_routers_share_nothing() -> None:
    """What one has to say the other has not."""
    one, other = Kit(lambda: 0.0), Kit(lambda: 0.0)
    for said in (one.out, one.notes, one.events):
        said.append("something")  # type: ignore[attr-defined]
    one.culprits[Peer(1)] = "something"
    one.counters.messages_received += 1

    assert (other.out, other.notes, other.events, other.culprits) == ([], [], [], {})
    assert other.counters.messages_received == 0


def test_another_router_has_the_same_to_say() -> None:
    """Whoever is to be told of it has not taken it yet; and a new turn begins."""
    kit = Kit(lambda: 0.0)
    kit.notes.append("a note")
    kit.events.append("an event")
    kit.culprits[Peer(3)] = "has lied"
    kit.counters.messages_received = 4
    kit.timers.now, kit.is_at_rest = 5.0, True

    new = Kit(lambda: 0.0, STEPS)
    notes, counters = new.notes, new.counters
    carry(kit, new)

    assert (new.notes, new.events, new.culprits) == (["a note"], ["an event"], {Peer(3): "has lied"})
    assert (new.notes is notes, new.counters is counters) == (True, True), "others have them at hand"
    assert (new.counters.messages_received, new.timers.now, new.is_at_rest, new.steps) == (4, 5.0, False, STEPS)
