"""When a message comes, and when again: the arithmetic."""

from __future__ import annotations

import pytest

from forkbroker.routing.jobs.recurrence import check_line, first_due, next_due, next_index
from forkbroker.wire.details import Details, Wishes

NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (Wishes(), (0, 0)),
        (Wishes(delay=5), (NOW + 5, 0)),
        (Wishes(deliver_at=NOW + 9), (NOW + 9, 0)),
        (Wishes(deliver_at=NOW + 9, delay=5), (NOW + 14, 0)),
        (Wishes(deliver_at=NOW - 9), (0, 0)),
        (Wishes(deliver_at=NOW - 9, delay=10), (NOW + 1, 0)),
        (Wishes(deliver_at=NOW), (0, 0)),
        (Wishes(delay=5, repeat=3, period=7), (NOW + 5, 3)),
        (Wishes(delay=5, repeat=-1, period=7), (NOW + 5, -1)),
        (Wishes(delay=5, repeat=3), (NOW + 5, 0)),
        (Wishes(delay=5, period=7), (NOW + 5, 0)),
        (Wishes(deliver_at=NOW - 9, repeat=3, period=7), (NOW - 9, 3)),
    ],
)
def test_the_first_time(wishes: Wishes, expected: tuple[int, int]) -> None:
    """Now is 0: it needs no schedule. What repeats needs one, and keeps its rhythm."""
    assert first_due(wishes, NOW) == expected


def test_a_cron_line_names_the_first_time_and_the_delay_is_added() -> None:
    """To that one alone: the second one is the line's."""
    wishes = Wishes(cron=b"*/5 * * * *", delay=1500)

    due, repeat = first_due(wishes, NOW)

    assert (due, repeat) == (NOW + 300_000 + 1500, 0)
    assert next_due(Details(cron=wishes.cron, due=due), due) == (NOW + 600_000, 0)


@pytest.mark.parametrize(
    ("late", "repeat", "expected"),
    [
        (0, 3, (NOW + 10, 2)),
        (0, 1, (NOW + 10, 0)),
        (0, 0, (0, 0)),
        (0, -1, (NOW + 10, -1)),
        (9, 3, (NOW + 10, 2)),
        (10, 3, (NOW + 20, 1)),
        (25, 3, (NOW + 30, 0)),
        (30, 3, (0, 0)),
        (1005, -1, (NOW + 1010, -1)),
    ],
)
def test_the_next_time_is_in_the_future_and_in_the_old_rhythm(
    late: int, repeat: int, expected: tuple[int, int]
) -> None:
    """What was missed counts as if it had come."""
    assert next_due(Details(due=NOW, period=10, repeat=repeat), NOW + late) == expected


def test_numbers_of_repetitions_start_again_when_they_are_used_up() -> None:
    """They are u32: the last message of a batch may have the highest one. 0 would tell the store that they stay."""
    assert next_index(0, 1024) == 1024
    assert next_index(2**32 - 3, 1) == 2**32 - 2
    assert next_index(2**32 - 2, 1) == 2**32 - 1
    assert next_index(2**32 - 1, 1) == 1
    assert next_index(2**32 - 2048, 1024) == 2**32 - 1024
    assert next_index(2**32 - 2047, 1024) == 1


def test_a_line_that_cannot_be_read_has_a_reason() -> None:
    """No line is none to be read."""
    assert check_line(b"") == ""
    assert check_line(b"*/5 * * * *") == ""
    assert "3 fields" in check_line(b"* * *")


def test_a_clock_that_was_set_back_repeats_nothing_at_once() -> None:
    """The next time follows the last one, not the clock."""
    assert next_due(Details(due=NOW, period=10, repeat=3), NOW - 100_000) == (NOW + 10, 2)
