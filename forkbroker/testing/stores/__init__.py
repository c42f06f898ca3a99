"""What a backend of the store has to do, as tests: for the broker's own backends, and for those of other packages.

    from forkbroker.testing.stores import LastingStoreConformance

    class TestMyStore(LastingStoreConformance):
        def make_store(self, directory):
            return MyStore(f"mystore://{directory}/queues")

pytest finds the tests in the subclass. A store that keeps nothing over the end of its process is good for tests alone,
and has only to pass `StoreConformance`. Each test gets a directory of its own; a store that is made twice in one
directory is the same store. For failures that explain themselves a conftest.py should call
`pytest.register_assert_rewrite("forkbroker.testing.stores")`.

`RoomConformance` is for stores that have a disk, beside one of the other two. It tests what a store does without room;
the subclass defines how to take the room away.
"""

from __future__ import annotations

from forkbroker.testing.stores.conformance import LastingStoreConformance, StoreConformance
from forkbroker.testing.stores.room import RoomConformance

__all__ = ["LastingStoreConformance", "RoomConformance", "StoreConformance"]
