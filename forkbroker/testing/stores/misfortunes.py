"""What a backend of the store does when something goes wrong, as tests: part of `forkbroker.testing.stores`.

A change that can't be written must harm no other one, and the process that calls the backend must be able to find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest

from forkbroker.store.api import (
    Change,
    ChangeError,
    Define,
    Delete,
    Forget,
    Move,
    Opened,
    Purge,
    Remember,
    Store,
    Update,
)
from forkbroker.testing.stores.premises import OTHER, PLENTY, QUEUE, StoreTests, chunk, message, serials
from forkbroker.wire.details import DURABLY, Details

_LATE_MS = 4_000_000_000_000

THIEF = message(1, b"of another message", OTHER)
"""Its serial is that of `message(1)`: it can't be written where that one is."""


def _taking(lists: Iterable[Sequence[Change]], taken: list[int]) -> Iterator[Sequence[Change]]:
    """These lists; `taken` gets the place of each when it is asked for."""
    for place, some in enumerate(lists):
        taken.append(place)
        yield some


def _contents(store: Store) -> list[object]:
    """All that a store can tell of what it has."""
    lanes = [store.read(queue, priority, 0, PLENTY) for queue in (QUEUE, OTHER) for priority in range(10)]
    known = (sorted(store.backlog()), sorted(store.durables()), sorted(store.duplicates()), list(store.scheduled()))
    return [lanes, *known, sorted(store.notes())]


class MisfortuneConformance(StoreTests):
    """Tests for every store."""

    # -- changes one by one

    def test_changes_that_are_taken_one_by_one_are_all_written(
        self, open_store: Callable[..., tuple[Store, Opened]]
    ) -> None:
        """To the same effect as all at once; some lists are empty."""
        lists: list[list[Change]] = [
            [message(1), message(2), chunk(3)],
            [],
            [Update(2, 2, deliveries=1, crashes=1), Delete(1, 1)],
            [message(4, details=Details(persistent=True, due=_LATE_MS))],
            [Move(2, 2, new_first=5, new_number=2, queue=OTHER, deliveries=2, details=DURABLY)],
            [message(6), message(7, queue=OTHER), Purge(QUEUE), message(8)],
            [Define(b"/dsub/a", b"/topic/a", 5), Define(b"/dsub/b", b"/topic/b", 6), Remember(QUEUE, b"id", _LATE_MS)],
            [Forget(b"/dsub/a")],
        ]
        store, _ = open_store()
        store.write_one_by_one(iter(lists))
        one_by_one = _contents(store)
        store.write_one_by_one([[Purge(QUEUE), Purge(OTHER), Delete(1, 8), Forget(b"/dsub/b")]])
        store.write([change for some in lists for change in some])

        assert serials(store) == [8]
        assert serials(store, OTHER) == [5, 7]
        assert one_by_one == _contents(store)

    def test_nothing_at_all_may_be_taken_one_by_one(self, store: Store) -> None:
        """As when all was settled before it was written."""
        store.write_one_by_one(iter([]))
        store.write_one_by_one(iter([[], []]))

        assert serials(store) == []

    def test_changes_that_are_told_again_are_taken_one_by_one(self, store: Store) -> None:
        """This is the way in which a new process is told what the one before may have written."""
        lists: list[list[Change]] = [
            [message(1), message(2)],
            [Move(1, 1, new_first=3, new_number=3, queue=OTHER, deliveries=1, details=DURABLY)],
            [Delete(2, 2), chunk(4)],
        ]
        store.write([change for some in lists for change in some])

        lists.append([message(5)])
        store.write_one_by_one(iter(lists))

        assert serials(store) == [4, 5]
        assert serials(store, OTHER) == [3]

    # -- changes that can't be written

    @pytest.mark.parametrize(
        "bad", [THIEF, Move(2, 2, new_first=1, new_number=1, queue=QUEUE, deliveries=0, details=DURABLY)]
    )
    def test_the_change_that_cannot_be_written_is_the_last_one_taken(self, store: Store, bad: Change) -> None:
        """So it is known which one it was, and all others are written when they come again without it."""
        store.write([message(1), message(2, b"another one")])
        lists: list[list[Change]] = [[message(11)], [bad], [Delete(2, 2), message(12)]]
        taken: list[int] = []

        with pytest.raises(ChangeError):
            store.write_one_by_one(_taking(lists, taken))
        lists[1] = []
        store.write_one_by_one(iter(lists))

        assert taken == [0, 1]
        assert store.read(QUEUE, 4, 0, PLENTY) == ([message(1), message(11), message(12)], False)
        assert serials(store, OTHER) == []

    def test_several_changes_that_cannot_be_written_are_found_one_after_the_other(self, store: Store) -> None:
        """Each time the group begins again."""
        store.write([message(1)])
        lists: list[list[Change]] = [[message(11)], [THIEF], [message(12)], [THIEF], [message(13)]]
        found = []

        for _ in range(2):
            taken: list[int] = []
            with pytest.raises(ChangeError):
                store.write_one_by_one(_taking(lists, taken))
            found.append(taken[-1])
            lists[taken[-1]] = []
        store.write_one_by_one(iter(lists))

        assert found == [1, 3]
        assert serials(store) == [1, 11, 12, 13]

    def test_a_store_goes_on_after_a_change_that_it_could_not_write(self, store: Store) -> None:
        """What was there is there; the same changes without it, and later ones, are written."""
        store.write([message(1)])

        with pytest.raises(ChangeError):
            store.write([message(2), THIEF])
        store.write([message(2), message(3)])

        assert serials(store) == [1, 2, 3]
        assert serials(store, OTHER) == []

    def test_what_is_set_aside_is_somewhere_or_nowhere(self, store: Store) -> None:
        """A text for the log says where; whatever the octets, the messages are what they were."""
        store.write([message(1)])

        places = [store.set_aside(number, octets) for number, octets in ((7, b"\x00\xff" * 1000), (8, b""))]

        assert all(isinstance(place, str) and place for place in places)
        assert serials(store) == [1]

    # -- room

    def test_what_is_kept_counts_as_free(self, store: Store) -> None:
        """It is for what makes room. A store that keeps none has as much as it should have."""
        is_kept = store.keep_room()
        kept = store.kept

        assert isinstance(is_kept, bool)
        assert 0 <= kept <= store.free()
        assert (store.keep_room(), store.kept) == (is_kept, kept)

    def test_what_is_kept_is_given_up_once_and_kept_again(self, store: Store) -> None:
        """And nothing else is touched by that."""
        store.write([message(1), chunk(2)])
        store.keep_room()
        kept = store.kept

        is_given_up = store.make_room()
        left = store.kept
        store.write([message(3), Delete(1, 1)])
        store.keep_room()

        assert isinstance(is_given_up, bool)
        assert is_given_up or not kept
        assert left == 0
        assert store.kept == kept
        assert serials(store) == [2, 3]


class LastingMisfortuneConformance(MisfortuneConformance):
    """And for those that keep messages when their process ends."""

    @pytest.mark.parametrize("is_one_by_one", [False, True])
    def test_a_group_with_a_change_that_cannot_be_written_is_not_there_at_all(
        self, store: Store, open_store: Callable[..., tuple[Store, Opened]], is_one_by_one: bool
    ) -> None:
        """Not even for the next process, if this one ends before the others come again."""
        store.write([message(1), message(2)])
        group: list[Change] = [message(3), Delete(2, 2), Define(b"/dsub/a", b"/topic/a", 5), THIEF, message(4)]

        with pytest.raises(ChangeError):
            if is_one_by_one:
                store.write_one_by_one([change] for change in group)
            else:
                store.write(group)
        before = _contents(store)
        again, _ = open_store(is_fresh=False)

        assert serials(again) == [1, 2]
        assert list(again.durables()) == []
        assert before == _contents(again)

    def test_what_was_set_aside_is_not_read_again(
        self, store: Store, open_store: Callable[..., tuple[Store, Opened]]
    ) -> None:
        """It is the administrator's: for the store it is not there, whoever opens it."""
        store.write([message(1)])
        store.set_aside(7, b"octets")

        for is_fresh in (False, True):
            again, known = open_store(is_fresh=is_fresh)
            assert serials(again) == [1]
            assert known.serial == 2
