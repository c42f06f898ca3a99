"""health: what a limit means, and what is said of a queue that exceeds it."""

from __future__ import annotations

from typing import Any

import pytest

from forkbroker.ctl.health import Limit, parse_limit
from forkbroker.errors import ConfigurationError

QUEUE: dict[str, Any] = {
    "name": "/queue/orders.new", "oldest": 120.0, "waiting": 5, "unsettled": 2, "delayed": 1, "consumers": 1
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age=30min", Limit(age=1800.0)),
        ("queue=orders*,waiting=10", Limit(queue="orders*", waiting=10)),
        ("waiting=0,consumers=1", Limit(waiting=0, consumers=1)),
    ],
)
def test_a_limit_is_read(text: str, expected: Limit) -> None:
    """Its parts in any order."""
    assert parse_limit(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("waiting", "write KEY=VALUE, with one of queue, age, waiting, unsettled, delayed, consumers"),
        ("depth=3", "not a limit"),
        ("queue=orders*", "no limit"),
        ("waiting=-1", "-1"),
        ("consumers=0", "0"),
        ("age=soon", "soon"),
    ],
)
def test_what_is_no_limit_is_told(text: str, told: str) -> None:
    """What is wrong, or what would be right."""
    with pytest.raises(ConfigurationError, match=told):
        parse_limit(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("waiting=5", ""),
        ("waiting=4", "/queue/orders.new: 5 waiting"),
        ("age=120", ""),
        ("age=119", "/queue/orders.new: the oldest message is 2m old"),
        ("unsettled=1,delayed=0", "/queue/orders.new: 2 unsettled, 1 delayed"),
        ("consumers=1", ""),
        ("consumers=2", "/queue/orders.new: 1 consumer"),
        ("queue=orders.*,waiting=0", "/queue/orders.new: 5 waiting"),
        ("queue=/queue/orders.*,waiting=0", "/queue/orders.new: 5 waiting"),
        ("queue=order,waiting=0", ""),
        ("queue=/dsub/*,waiting=0", ""),
    ],
)
def test_a_queue_is_at_its_limit_and_not_above_it(text: str, fault: str) -> None:
    """A pattern with a slash is compared with the whole name."""
    assert parse_limit(text).find_fault(QUEUE) == fault


def test_a_queue_without_messages_has_no_age() -> None:
    """And one whose name has control characters does not write them to a terminal."""
    assert parse_limit("age=1").find_fault({**QUEUE, "oldest": None}) == ""
    assert "\x1b" not in parse_limit("waiting=1").find_fault({**QUEUE, "name": "/queue/\x1b[2J"})
