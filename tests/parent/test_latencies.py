"""Histograms of turns and commits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forkbroker.parent.latencies import BOUNDS_S, Histogram, Latencies


@given(st.lists(st.floats(0, 100)))
def test_each_value_is_in_the_first_bucket_that_has_room_for_it(values: list[float]) -> None:
    """And in no other one; what is longer than all is in the last."""
    histogram = Histogram()
    for value in values:
        histogram.note(value)
    buckets = histogram.show()["buckets"]
    before = -1.0

    for bound, count in buckets:
        assert count == sum(before < value <= (float("inf") if bound is None else bound) for value in values)
        before = before if bound is None else bound
    assert [bound for bound, _ in buckets] == [*BOUNDS_S, None]


def test_a_commit_ends_all_turns_with_changes_up_to_it() -> None:
    """Turns without a change are none."""
    latencies = Latencies()
    for last, now in ((1, 10.0), (1, 11.0), (5, 12.0), (6, 13.0)):
        latencies.changed(last, now)
    latencies.committed(5, 12.5)

    commit = latencies.show()["commit"]
    assert (sum(count for _, count in commit["buckets"]), commit["sum"]) == (2, 3.0)
    latencies.committed(6, 13.5)
    latencies.committed(6, 14.0)
    assert latencies.show()["commit"]["sum"] == 3.5
