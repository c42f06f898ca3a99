"""When the garbage collector visits which objects."""

from __future__ import annotations

import gc

from forkbroker.posix import collector


def test_a_settled_process_collects_young_objects_alone(in_child) -> None:
    """However many objects grow old."""

    def count_full_collections() -> int:
        collector.settle()
        before = gc.get_stats()
        kept = [[number] for number in range(300_000)]
        after = gc.get_stats()
        assert len(kept) == 300_000
        young = after[0]["collections"] - before[0]["collections"]
        return 0 if young and after[2]["collections"] == before[2]["collections"] else 1

    assert in_child(count_full_collections) == 0


def test_a_forked_process_collects_as_usual_what_comes_after_the_fork(in_child) -> None:
    """And nothing that it has inherited."""

    def look() -> int:
        inherited = gc.get_freeze_count()
        collector.settle()
        collector.begin()
        return 0 if gc.get_threshold()[2] < 1000 and gc.get_freeze_count() >= inherited > 0 else 1

    assert in_child(look) == 0
