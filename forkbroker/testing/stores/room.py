"""What a backend of the store does on a full disk, as tests: part of `forkbroker.testing.stores`.

What has no room waits, and what is there is read meanwhile.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest

from forkbroker.store.api import Change, Delete, FullError, Store
from forkbroker.testing.stores.premises import PLENTY, QUEUE, StoreTests, message, serials

_LARGE = 1 << 20


class RoomConformance(StoreTests):
    """Tests for a store whose room has an end that a test can move: a second base class beside the other tests."""

    def full(self, store: Store) -> AbstractContextManager[None]:
        """Within this, `store` has no room for a MiB."""
        raise AssertionError("full is the subclass's to define")

    def test_without_room_nothing_is_written_and_everything_is_read(self, store: Store) -> None:
        """FullError, each time; when there is room the same group is written, and nothing of it was before."""
        store.write([message(1), message(2)])
        group: list[Change] = [message(3), message(4, bytes(_LARGE)), Delete(1, 1)]

        with self.full(store):
            for _ in range(2):
                with pytest.raises(FullError):
                    store.write(group)
                assert store.read(QUEUE, 4, 0, PLENTY) == ([message(1), message(2)], False)
        store.write(group)

        assert serials(store) == [2, 3, 4]

    def test_without_room_nothing_is_written_one_by_one(self, store: Store) -> None:
        """It is not taken for a fault of the change that is the last one taken."""
        store.write([message(1)])
        lists: list[list[Change]] = [[Delete(1, 1)], [message(2, bytes(_LARGE))], [message(3)]]

        with self.full(store):
            with pytest.raises(FullError):
                store.write_one_by_one(iter(lists))
            assert serials(store) == [1]
        store.write_one_by_one(iter(lists))

        assert serials(store) == [2, 3]
