"""What peers have sent and is still to be done."""

from __future__ import annotations

import pytest

from forkbroker.routing.chores import Work
from forkbroker.routing.peers import Peer
from forkbroker.routing.rows import Begin, Rows

ONE, TWO = Peer(1), Peer(2)


class Scene:
    """Rows, and what was done."""

    def __init__(self, steps: int) -> None:
        self.rows = Rows(steps)
        self.done: list[str] = []

    def step(self, name: str) -> Begin:
        """Something that is done in one go."""
        return lambda: self.done.append(name)

    def work(self, name: str, steps: int) -> Work:
        for number in range(steps):
            self.done.append(f"{name}{number}")
            yield
        return None

    def fail(self) -> None:
        raise ValueError("nonsense")

    def turn(self) -> None:
        for peer in list(self.rows.by_peer):
            self.rows.go_on(peer)
        self.rows.renew()


def test_in_one_turn_so_much_is_done_at_once() -> None:
    """Of all peers together; the next turn begins anew."""
    rows = Rows(3)

    assert [rows.take_turn(peer) for peer in (ONE, ONE, TWO, TWO, ONE)] == [True, True, True, False, False]
    rows.renew()
    assert rows.take_turn(TWO)


def test_what_takes_long_counts_for_more() -> None:
    """Three steps and the one that is counted in any case."""
    rows = Rows(5)
    assert rows.take_turn(ONE)
    rows.spend(3)

    assert [rows.take_turn(ONE) for _ in range(2)] == [True, False]


def test_what_a_peer_sends_stands_behind_what_waits_of_it() -> None:
    """Although there would be time for it in this turn; another peer's does not wait."""
    scene = Scene(10)
    scene.rows.put(ONE, scene.step("a"))

    assert not scene.rows.take_turn(ONE)
    assert scene.rows.take_turn(TWO)
    assert ONE in scene.rows
    assert TWO not in scene.rows
    scene.turn()
    assert scene.rows.take_turn(ONE)
    assert scene.done == ["a"]


def test_long_work_begins_at_once_and_goes_on_in_the_next_turns() -> None:
    """What comes behind it is done when it is done."""
    scene = Scene(4)
    assert scene.rows.take_turn(ONE)
    scene.rows.start(ONE, scene.work("a", 6))
    scene.rows.put(ONE, scene.step("b"))
    assert scene.done == ["a0", "a1", "a2"]

    scene.turn()
    assert scene.done == ["a0", "a1", "a2", "a3", "a4"]
    scene.turn()
    assert scene.done[-1] == "b"
    assert not scene.rows.by_peer


def test_peers_share_a_turn() -> None:
    """Nobody waits until all that another one has sent is done."""
    scene = Scene(4)
    for number in range(100):
        scene.rows.put(ONE, scene.step(f"a{number}"))
    scene.rows.put(TWO, scene.step("b"))
    scene.turn()

    assert scene.done == ["a0", "a1", "a2", "b"]


def test_new_words_do_not_starve_those_that_wait() -> None:
    """Half as many steps as a turn has are theirs alone."""
    scene = Scene(4)
    for number in range(10):
        scene.rows.put(ONE, scene.step(f"a{number}"))
    while scene.rows.take_turn(TWO):
        pass
    scene.turn()

    assert scene.done == ["a0", "a1"]


def test_who_had_a_turn_is_the_last_in_the_next_one() -> None:
    """Where there are more peers than steps, each has its turn in time."""
    scene = Scene(1)
    for peer in range(3):
        for number in range(2):
            scene.rows.put(Peer(peer), scene.step(f"{peer}.{number}"))
    for _ in range(6):
        scene.turn()

    assert scene.done == ["0.0", "1.0", "2.0", "0.1", "1.1", "2.1"]


def test_nonsense_forgets_the_rest_but_not_the_end() -> None:
    """What a peer has sent behind it is not heeded; that it has ended is."""
    scene = Scene(10)
    scene.rows.put(ONE, scene.fail)
    scene.rows.put(ONE, scene.step("a"))
    scene.rows.end(ONE, scene.step("end"))
    assert scene.rows.has_ended(ONE)
    with pytest.raises(ValueError, match="nonsense"):
        scene.rows.go_on(ONE)
    scene.turn()

    assert scene.done == ["end"]
    assert not scene.rows.by_peer


def test_nonsense_of_a_living_peer_leaves_nothing() -> None:
    """Its row is gone; and long work is closed, so that it can put in order what it has begun."""
    scene = Scene(2)

    def work() -> Work:
        try:
            yield
            yield
            raise ValueError("nonsense")
        finally:
            scene.done.append("closed")

    assert scene.rows.take_turn(ONE)
    scene.rows.start(ONE, work())
    scene.rows.put(ONE, scene.step("a"))
    scene.turn()
    with pytest.raises(ValueError, match="nonsense"):
        scene.turn()

    assert scene.done == ["closed"]
    assert ONE not in scene.rows


def test_an_end_is_done_at_once_where_nothing_waits() -> None:
    """And behind all words where something does."""
    scene = Scene(5)
    scene.rows.end(ONE, scene.step("one"))
    scene.rows.put(TWO, scene.step("words"))
    scene.rows.end(TWO, scene.step("two"))
    assert (scene.done, scene.rows.has_ended(ONE), scene.rows.has_ended(TWO)) == (["one"], False, True)

    scene.turn()
    assert scene.done == ["one", "words", "two"]
