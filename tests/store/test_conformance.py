"""Both backends do what a backend has to do."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forkbroker.store.api import Store
from forkbroker.store.locate import make_store
from forkbroker.testing.stores import LastingStoreConformance, RoomConformance, StoreConformance


class TestSqlite(LastingStoreConformance, RoomConformance):
    """The one that keeps."""

    def make_store(self, directory: Path) -> Store:
        """In a file."""
        return make_store(f"sqlite://{directory}/queues.db")

    @contextmanager
    def full(self, store: Store) -> Iterator[None]:
        """No file of this process may be larger than it is."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class TestMemory(StoreConformance):
    """The one that doesn't."""

    def make_store(self, directory: Path) -> Store:
        """Wherever."""
        return make_store("memory:")
