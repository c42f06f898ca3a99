"""What the tests of a store are made of: a store in a directory of its own, and messages for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import pytest

from forkbroker.store.api import Chunk, Message, Opened, Store
from forkbroker.wire.details import DURABLY, Details

QUEUE = b"/queue/a"
OTHER = b"/queue/b"
PLENTY = 1 << 30


def message(serial: int, body: bytes = b"body", queue: bytes = QUEUE, details: Details = DURABLY) -> Message:
    """A message as clients send them."""
    return Message(serial, queue, b"%d-0123456789abcdef-1" % serial, b"destination:%s\n" % queue, body, 0, details)


def chunk(serial: int, count: int = 1, queue: bytes = QUEUE, priority: int = 4, raw: bytes = b"octets") -> Chunk:
    """Spilled messages; for a backend they are octets."""
    return Chunk(serial, queue, priority, count, raw)


def serials(store: Store, queue: bytes = QUEUE, priority: int = 4, after: int = 0) -> list[int]:
    """Of all that is in a queue."""
    return [item.serial for item in store.read(queue, priority, after, PLENTY)[0]]


class StoreTests:
    """Tests that need a store."""

    def make_store(self, directory: Path) -> Store:
        """The store in this directory, not opened."""
        raise AssertionError("make_store is the subclass's to define")

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Iterator[list[Store]]:
        """All stores that a test has open."""
        stores: list[Store] = []
        yield stores
        for store in stores:
            store.close(in_order=False)

    @pytest.fixture
    def open_store(self, opened: list[Store], tmp_path: Path) -> Callable[..., tuple[Store, Opened]]:
        """Open the test's store, or open it again; `is_fresh` as in `Store.open`."""
        made: list[Store] = []

        def open_it(*, is_fresh: bool = True) -> tuple[Store, Opened]:
            while opened:
                opened.pop().close(in_order=False)
            if is_fresh:
                made.append(self.make_store(tmp_path))
            # a process gets what its broker has made by fork(2)
            store = deepcopy(made[-1])
            known = store.open(is_fresh=is_fresh)
            opened.append(store)
            return store, known

        return open_it

    @pytest.fixture
    def store(self, open_store: Callable[..., tuple[Store, Opened]]) -> Store:
        """A new store, open."""
        return open_store()[0]
