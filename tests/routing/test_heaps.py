"""Heaps with entries that are cancelled."""

from __future__ import annotations

from random import Random

import pytest

from forkbroker.routing.heaps import SPARE, Heap


class Scene:
    """A heap, and which of its entries are live."""

    def __init__(self) -> None:
        self.live: set[tuple[int]] = set()
        self.asked = 0
        self.heap: Heap[tuple[int]] = Heap(self._is_live)

    def _is_live(self, entry: tuple[int]) -> bool:
        self.asked += 1
        return entry in self.live

    def push(self, number: int) -> None:
        self.live.add((number,))
        self.heap.push((number,))

    def cancel(self, number: int) -> None:
        self.live.remove((number,))
        self.heap.drop()

    def pop(self) -> tuple[int]:
        entry = self.heap.pop()
        self.live.remove(entry)
        return entry


@pytest.mark.parametrize("seed", range(10))
def test_it_agrees_with_a_sorted_set(seed: int) -> None:
    """Whatever comes, goes and is cancelled, also while it is being cleaned."""
    random, scene = Random(seed), Scene()
    for number in random.sample(range(10_000), 2_000):
        scene.push(number)
        while scene.live and random.random() < 0.48:
            if random.random() < 0.7:
                scene.cancel(random.choice(sorted(scene.live))[0])
            else:
                least = min(scene.live)
                assert scene.heap.first() == least == scene.pop()
        assert scene.heap.first() == min(scene.live, default=None)

    left = sorted(scene.live)
    assert [scene.pop() for _ in left if scene.heap.first()] == left
    assert (scene.heap.first(), len(scene.heap)) == (None, 0)


def test_what_is_cancelled_does_not_stay_in_memory() -> None:
    """No more than the live ones and some, although none is met at the head."""
    scene = Scene()
    scene.push(-1)
    for number in range(20_000):
        scene.push(number)
        scene.cancel(number)

    assert len(scene.heap) < 3 * SPARE


def test_no_call_goes_through_all_entries() -> None:
    """Neither the one with which cleaning begins nor any later one; a look at the head skips so many at most."""
    scene = Scene()
    for number in range(20_000):
        scene.push(number)
    most = 0
    for number in reversed(range(100, 20_000)):
        scene.asked = 0
        scene.cancel(number)
        most = max(most, scene.asked)
    assert most <= 8

    scene.live = {(19_999,)}
    scene.asked = 0
    scene.heap.first()
    assert scene.asked <= 1_000


def test_a_head_behind_very_many_cancelled_entries_is_found_in_the_end() -> None:
    """Until then an earlier entry is told, which is harmless."""
    scene = Scene()
    for number in range(5_000):
        scene.push(number)
    scene.live = {(4_999,)}
    looks = 1
    while (entry := scene.heap.first()) != (4_999,):
        assert entry is not None
        looks += 1

    assert looks == 5


def test_the_head_is_found_when_one_of_two_heaps_runs_out() -> None:
    """While it is being cleaned, and just when a look has skipped as many as it may."""
    scene = Scene()
    for number in range(4_000):
        scene.push(number)
    cancelled = 4_000
    while not scene.heap._old:
        cancelled -= 1
        scene.cancel(cancelled)
    while len(scene.heap._old) > 1_000:
        cancelled -= 1
        scene.cancel(cancelled)
    assert len(scene.heap._old) == 1_000
    scene.heap._heap[:] = [(9_999,)]
    scene.live = {(9_999,)}

    assert scene.heap.first() == (9_999,)
    assert (len(scene.heap), scene.pop(), scene.heap.first()) == (1, (9_999,), None)


def test_cleaning_begins_when_half_of_the_entries_and_some_are_cancelled() -> None:
    """Each cancelled one counts once, also after a first cleaning; what is pushed then brings it to its end."""
    scene = Scene()
    for first in (0, 10_000):
        for number in range(first, first + 1_000 - len(scene.live)):
            scene.push(number)
        for number in sorted(scene.live)[: SPARE + 500]:
            scene.cancel(number[0])
        assert (len(scene.heap), scene.heap._old) == (1_000, [])

        scene.cancel(max(scene.live)[0])
        assert scene.heap._old
        for number in range(first + 5_000, first + 5_000 + 125):
            scene.push(number)
        assert (scene.heap._old, len(scene.heap)) == ([], len(scene.live))
