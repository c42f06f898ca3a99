"""Both backends do what a backend has to do."""

from __future__ import annotations

from pathlib import Path

from forkbroker.store.api import Store
from forkbroker.store.locate import make_store
from forkbroker.testing.stores import LastingStoreConformance, StoreConformance


class TestSqlite(LastingStoreConformance):
    """The one that keeps."""

    def make_store(self, directory: Path) -> Store:
        """In a file."""
        return make_store(f"sqlite://{directory}/queues.db")


class TestMemory(StoreConformance):
    """The one that doesn't."""

    def make_store(self, directory: Path) -> Store:
        """Wherever."""
        return make_store("memory:")
