"""Changes that are not committed: which of them the store is told, when, and what becomes of those it dies at."""

from __future__ import annotations

import pytest

from forkbroker.routing.keeping import telling
from forkbroker.routing.keeping.telling import Change, Telling
from forkbroker.routing.peers import STORE, Outbox, Peer
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Kind

from .twins import carry


class Scene:
    """Some changes of 100 octets each."""

    def __init__(self, changes: int = 0, *, is_open: bool = True) -> None:
        self.out: Outbox = []
        self.telling = Telling(self.out)
        self.number = 0
        if is_open:
            self.telling.opened()
            self.out.clear()
        for _ in range(changes):
            self.add()

    def add(self, octets: int = 100) -> Change:
        self.number += 1
        change = Change(self.number, [pack(Kind.DELETE, number=self.number, serial=1, count=1)], octets)
        self.telling.add(change)
        return change

    def ask(self) -> None:
        self.telling.ask(pack(Kind.FETCH, destination=b"/queue/a"))

    def told(self) -> list[tuple[Kind, int]]:
        """What the store has been told since the last time."""
        assert all(peer == STORE for peer, _ in self.out)
        found = [Envelope(b"".join(buffers)) for _, buffers in self.out]
        self.out.clear()
        return [(envelope.kind, envelope.number) for envelope in found]

    def die(self, number: int) -> Change | None:
        """The store says that it is at this change, and dies."""
        self.telling.trying(number)
        self.telling.closed()
        return self.telling.died()


def deletes(*numbers: int) -> list[tuple[Kind, int]]:
    return [(Kind.DELETE, number) for number in numbers]


# ---------------------------------------------------------------- the window


def test_no_more_is_told_than_a_window(monkeypatch) -> None:
    """The change that fills it is the last one; what is committed makes room for as much."""
    monkeypatch.setattr(telling, "WINDOW_OCTETS", 250)
    scene = Scene(6)
    assert scene.told() == deletes(1, 2, 3)

    scene.telling.commit(1)
    assert scene.told() == deletes(4)
    scene.telling.commit(4)
    assert scene.told() == deletes(5, 6)
    assert scene.telling.octets == 200


def test_a_change_larger_than_the_window_is_told_alone(monkeypatch) -> None:
    """When all before it is committed; what comes behind it waits."""
    monkeypatch.setattr(telling, "WINDOW_OCTETS", 250)
    scene = Scene()
    scene.add(10_000)
    scene.add()
    assert scene.told() == deletes(1)

    scene.telling.commit(1)
    assert scene.told() == deletes(2)


def test_questions_wait_behind_the_changes_before_them(monkeypatch) -> None:
    """Their answers have to know of these."""
    monkeypatch.setattr(telling, "WINDOW_OCTETS", 100)
    scene = Scene(2)
    scene.ask()
    scene.add()
    assert scene.told() == deletes(1)

    scene.telling.commit(1)
    assert scene.told() == [(Kind.DELETE, 2), (Kind.FETCH, 0)]
    scene.telling.commit(2)
    assert scene.told() == deletes(3)


def test_what_an_ended_process_was_asked_for_is_forgotten(monkeypatch) -> None:
    """The next one is asked again by who wants to know."""
    monkeypatch.setattr(telling, "WINDOW_OCTETS", 100)
    scene = Scene(2)
    scene.ask()
    scene.telling.closed()
    scene.told()
    scene.telling.opened()
    scene.telling.commit(1)
    scene.telling.commit(2)

    assert scene.told() == [(Kind.DELETE, 1), (Kind.RETOLD, 0), (Kind.DELETE, 2)]


def test_what_one_process_was_told_is_one_group_for_the_next(monkeypatch) -> None:
    """All of it, and not what it was not told."""
    monkeypatch.setattr(telling, "WINDOW_OCTETS", 250)
    scene = Scene(5)
    scene.telling.commit(1)
    scene.told()
    scene.telling.closed()
    scene.add()
    assert scene.told() == []
    scene.telling.opened()

    assert scene.told() == [*deletes(2, 3, 4), (Kind.RETOLD, 0)]
    scene.telling.commit(4)
    assert scene.told() == deletes(5, 6)


def test_what_came_before_the_first_process_is_told_as_new() -> None:
    """No one before it has heard of it."""
    scene = Scene(2, is_open=False)
    assert scene.told() == []
    scene.telling.opened()

    assert scene.told() == [(Kind.RETOLD, 0), *deletes(1, 2)]


def test_what_was_not_told_can_not_be_committed(monkeypatch) -> None:
    """Not even if it exists."""
    monkeypatch.setattr(telling, "WINDOW_OCTETS", 100)
    scene = Scene(2)

    with pytest.raises(AssertionError, match="change 2 is committed, and 1 was the last"):
        scene.telling.commit(2)


# ---------------------------------------------------------------- what can't be written


def test_a_change_at_which_the_store_dies_twice_is_found() -> None:
    """Not after the first time: that may have been anything."""
    scene = Scene(3)
    assert scene.die(2) is None
    scene.telling.opened()
    found = scene.die(2)

    assert found is not None
    assert found.number == 2


@pytest.mark.parametrize("number", [0, 9])
def test_a_death_at_no_change_is_no_changes_fault(number) -> None:
    """During the commit, or at what is committed."""
    scene = Scene(3)

    assert scene.die(number) is None
    scene.telling.opened()
    assert scene.die(number) is None


def test_deaths_at_different_changes_are_no_ones_fault() -> None:
    """An administrator who kills the process meets another one each time."""
    scene = Scene(3)

    assert scene.die(1) is None
    assert scene.die(2) is None
    assert scene.die(3) is None


def test_a_death_is_forgotten_when_something_was_written_since() -> None:
    """What counts is what the store can't get past."""
    scene = Scene(3)
    scene.die(2)
    scene.telling.opened()
    scene.telling.commit(1)

    assert scene.die(2) is None


def test_an_end_says_nothing_of_what_the_process_before_was_at() -> None:
    """It has not said where it was itself."""
    scene = Scene(3)
    scene.die(2)
    scene.telling.opened()
    scene.telling.closed()

    assert scene.telling.died() is None


def test_what_a_process_was_at_that_ended_with_a_reason_is_forgotten() -> None:
    """The next one dies before it has applied anything: that was nothing's fault."""
    scene = Scene(3)
    scene.die(2)
    scene.telling.opened()
    scene.telling.trying(2)
    scene.telling.closed()
    scene.telling.opened()
    scene.telling.closed()

    assert scene.telling.died() is None


def test_the_octets_of_what_is_set_aside_are_told_in_parts(monkeypatch) -> None:
    """Whatever they are; the change keeps its number and its place."""
    monkeypatch.setattr(telling, "_CUT_OCTETS", 20)
    scene = Scene(3)
    scene.die(2)
    whole = b"".join(pack(Kind.DELETE, number=2, serial=1, count=1))
    change = scene.telling.find(2)
    assert change is not None
    scene.telling.set_aside(change, "why")
    scene.out.clear()
    scene.telling.opened()
    parts = [Envelope(b"".join(buffers)) for _, buffers in scene.out if buffers[0][5] == Kind.SET_ASIDE]

    assert scene.told() == [
        (Kind.DELETE, 1),
        *[(Kind.SET_ASIDE, 0)] * 3,
        (Kind.TOGETHER, 2),
        (Kind.DELETE, 3),
        (Kind.RETOLD, 0),
    ]
    assert b"".join(bytes(part.payload) for part in parts) == whole
    assert {part.block for part in parts} == {b"why"}
    assert scene.telling.octets == 200 + len(whole)


def test_what_can_not_even_be_kept_is_dropped() -> None:
    """The number stays: others wait for it."""
    scene = Scene(2)
    change = scene.telling.find(2)
    assert change is not None
    scene.telling.set_aside(change, "why")
    scene.telling.set_aside(change, "again")
    scene.telling.closed()
    scene.out.clear()
    scene.telling.opened()

    assert scene.told() == [(Kind.DELETE, 1), (Kind.TOGETHER, 2), (Kind.RETOLD, 0)]
    scene.telling.commit(2)
    assert scene.telling.octets == 0


def test_what_the_store_has_kept_itself_is_dropped_at_once() -> None:
    """Another process is not told it."""
    scene = Scene(2)
    change = scene.telling.find(1)
    assert change is not None
    scene.telling.drop(change)
    scene.telling.closed()
    scene.out.clear()
    scene.telling.opened()

    assert scene.told() == [(Kind.TOGETHER, 1), (Kind.DELETE, 2), (Kind.RETOLD, 0)]
    assert scene.telling.octets == 100


# ---------------------------------------------------------------- turns


def test_one_turn_tells_a_part_and_the_next_ones_the_rest(monkeypatch) -> None:
    """A new process is told all again before it hears that this was all."""
    monkeypatch.setattr(telling, "BUDGET", 3)
    scene = Scene(8, is_open=False)
    scene.telling.go_on()
    scene.telling.opened()
    assert scene.told() == [(Kind.RETOLD, 0), *deletes(1, 2, 3)]
    assert scene.telling.is_behind

    scene.telling.go_on()
    assert scene.told() == deletes(4, 5, 6)
    scene.telling.closed()
    scene.telling.go_on()
    scene.telling.opened()
    assert scene.told() == deletes(1, 2, 3)
    scene.telling.go_on()
    assert scene.told() == deletes(4, 5, 6)
    scene.telling.go_on()
    assert scene.told() == [(Kind.RETOLD, 0), *deletes(7, 8)]
    scene.telling.go_on()
    assert not scene.telling.is_behind


def test_one_turn_forgets_a_part_of_what_is_committed(monkeypatch) -> None:
    """All of it is committed at once for who asks."""
    monkeypatch.setattr(telling, "BUDGET", 3)
    scene = Scene()
    for _ in range(8):
        scene.add()
        scene.telling.go_on()
    scene.telling.commit(8)
    assert (scene.telling.octets, bool(scene.telling), scene.telling.is_done(8)) == (500, False, True)

    scene.telling.go_on()
    assert (scene.telling.octets, scene.telling.is_behind) == (200, True)
    scene.telling.go_on()
    assert (scene.telling.octets, scene.telling.is_behind) == (0, False)


def test_an_open_change_holds_what_comes_behind_it() -> None:
    """It is told when it is closed, and has its place by then."""
    scene = Scene(1)
    scene.number += 1
    change = Change(scene.number, [], 0, is_open=True)
    scene.telling.add(change)
    scene.add()
    scene.ask()
    assert scene.told() == deletes(1)

    scene.telling.close(change, [pack(Kind.DELETE, number=2, serial=1, count=1)], 100)
    assert scene.told() == [*deletes(2, 3), (Kind.FETCH, 0)]
    assert scene.telling.octets == 300


def test_changes_are_found_without_going_through_all() -> None:
    """By bisection, whether their numbers have gaps or not."""
    scene = Scene(10)
    scene.number = 20
    scene.add()
    found = [number for number in range(30) if scene.telling.find(number) is not None]

    assert found == [*range(1, 11), 21]
    scene.telling.commit(4)
    assert scene.telling.find(4) is None
    assert scene.telling.find(5) is not None


def test_the_first_open_change_of_each_peer_is_known() -> None:
    """What is done or committed is not open; a peer without any has none."""
    scene = Scene(2)
    scene.telling.attribute(Peer(1), 0)
    scene.add()
    scene.telling.attribute(Peer(2), 2)
    assert [scene.telling.first_open(Peer(number)) for number in (1, 2, 3)] == [1, 3, 4]

    first = scene.telling.find(1)
    assert first is not None
    first.is_done = True
    assert scene.telling.first_open(Peer(1)) == 2
    scene.telling.commit(2)
    assert [scene.telling.first_open(Peer(number)) for number in (1, 2)] == [4, 3]
    scene.telling.commit(3)
    assert scene.telling._causes == {}


# ---------------------------------------------------------------- in another router


def carry_scene(scene: Scene) -> Scene:
    """The same, with another rule."""
    again = Scene(is_open=False)
    again.number = scene.number
    carry(scene.telling, again.telling)
    assert (again.telling.octets, again.telling._told_octets) == (scene.telling.octets, scene.telling._told_octets)
    return again


def test_another_router_goes_on_with_what_was_not_told(monkeypatch) -> None:
    """Behind what the store process has heard already, and as far as the window goes."""
    monkeypatch.setattr(telling, "WINDOW_OCTETS", 250)
    scene = Scene(4)
    scene.ask()
    assert scene.told() == deletes(1, 2, 3)

    scene = carry_scene(scene)
    scene.add()
    scene.telling.go_on()
    assert scene.told() == []
    scene.telling.commit(3)

    assert scene.told() == [*deletes(4), (Kind.FETCH, 0), *deletes(5)]


def test_another_router_tells_the_next_store_process_all_again() -> None:
    """It knows which one has died at which change, and so which one is set aside."""
    scene = Scene(3)
    assert scene.die(2) is None

    scene = carry_scene(scene)
    scene.telling.opened()
    assert scene.told() == [*deletes(1, 2, 3), (Kind.RETOLD, 0)]
    scene = carry_scene(scene)
    scene.telling.trying(2)
    scene = carry_scene(scene)
    scene.telling.closed()

    change = scene.telling.died()
    assert change is not None
    assert change.number == 2


def test_another_router_knows_who_has_brought_a_change_about() -> None:
    """And what of it is done already."""
    scene = Scene(2)
    scene.telling.attribute(Peer(1), 0)
    scene.add()
    scene.telling.attribute(Peer(2), 2)
    change = scene.telling.find(1)
    assert change is not None
    change.is_done = True

    scene = carry_scene(scene)

    assert [scene.telling.first_open(Peer(peer)) for peer in (1, 2, 3)] == [2, 3, 4]
    assert [scene.telling.is_done(number) for number in (1, 2)] == [True, False]


def test_another_router_forgets_what_is_committed(monkeypatch) -> None:
    """A turn was too short for it; nothing waits for it any more."""
    monkeypatch.setattr(telling, "BUDGET", 1)
    scene = Scene()
    for _ in range(3):
        scene.add()
        scene.telling.go_on()
    scene.telling.commit(3)

    scene = carry_scene(scene)
    assert not scene.telling
    assert scene.telling.is_behind
    for _ in range(2):
        scene.telling.go_on()

    assert (scene.telling.octets, scene.telling.changes, scene.telling.is_behind) == (0, [], False)
