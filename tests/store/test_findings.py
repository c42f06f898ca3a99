"""What can't be delivered is said once, with all that an administrator needs to find it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from forkbroker.store import findings
from forkbroker.store.findings import Findings
from forkbroker.store.table import AlteredRowError, UnfitRowError

PATH = Path("/var/queues.db")
REPAIR = "stop the broker, and start it once with --store-repair"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What was logged, while the test goes on."""
    caplog.set_level(logging.DEBUG)
    return caplog


def texts(lines: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Levels and texts; from now on only what comes."""
    found = [(record.levelname, record.getMessage()) for record in lines.records]
    lines.clear()
    return found


def test_altered_messages_are_an_error_and_others_a_warning(lines) -> None:
    """The first one's reason stands for all; a serial is named once."""
    found = Findings(PATH)
    altered, broken = AlteredRowError("its checksum is wrong"), UnfitRowError("priority is 12")

    found.note_unfit(b"/queue/a", {3: broken, 5: altered, 6: altered, 9: broken})
    first = texts(lines)
    found.note_unfit(b"/queue/a", {3: broken, 5: altered, 7: altered})

    assert first == [
        (
            "ERROR",
            "store /var/queues.db: queue /queue/a: 2 messages with the serials 5-6 not delivered, but kept: "
            "its checksum is wrong",
        ),
        (
            "WARNING",
            "store /var/queues.db: queue /queue/a: 2 messages with the serials 3, 9 passed over, but kept, the first "
            "one because priority is 12",
        ),
    ]
    assert texts(lines) == [
        (
            "ERROR",
            "store /var/queues.db: queue /queue/a: 1 message with the serials 7 not delivered, but kept: "
            "its checksum is wrong",
        )
    ]


def test_what_was_not_looked_for_in_a_queue_names_none(lines) -> None:
    """As in the schedule. Nothing at all is no line."""
    found = Findings(PATH)

    found.note_unfit(None, {})
    found.note_unfit(None, {1: UnfitRowError("why")})

    assert texts(lines) == [
        (
            "WARNING",
            "store /var/queues.db: 1 message with the serials 1 passed over, but kept, the first one because why",
        )
    ]


def test_lost_messages_are_said_once_with_what_to_do(lines) -> None:
    """Also if they were named for another reason."""
    found = Findings(PATH)

    found.note_lost(b"/queue/\xff", {4: "malformed", 5: "otherwise"})
    first = texts(lines)
    found.note_lost(b"/queue/a", {4: "malformed"})
    found.note_unfit(b"/queue/a", {5: UnfitRowError("why")})
    found.note_lost(b"/queue/a", {})

    assert first == [
        (
            "ERROR",
            "store /var/queues.db: damaged, queue /queue/\\xff: 2 messages with the serials 4-5 cannot be read "
            f"(malformed) and passed over; {REPAIR}",
        )
    ]
    assert texts(lines) == []


def test_a_damaged_index_is_said_once_for_each_queue(lines) -> None:
    """It is met with each read."""
    found = Findings(PATH)

    for queue in (b"/queue/a", b"/queue/b", b"/queue/a"):
        found.note_damaged_index(queue, "malformed")

    assert texts(lines) == [
        (
            "ERROR",
            f"store /var/queues.db: damaged, the index of queue {queue} cannot be read (malformed), its messages are "
            f"looked for in the whole table; {REPAIR}",
        )
        for queue in ("/queue/a", "/queue/b")
    ]


def test_what_is_remembered_is_bounded(lines, monkeypatch) -> None:
    """Of what is above that, queues are not named, and serials again each time."""
    monkeypatch.setattr(findings, "_REMEMBERED", 2)
    found = Findings(PATH)
    for queue in (b"/queue/a", b"/queue/b", b"/queue/c"):
        found.note_damaged_index(queue, "malformed")
    assert len(texts(lines)) == 2

    found.note_lost(b"/queue/a", {1: "x"})
    found.note_lost(b"/queue/a", {2: "x"})
    assert len(texts(lines)) == 2
    for _ in range(2):
        found.note_lost(b"/queue/a", {1: "x", 2: "x", 3: "x"})

    assert ["serials 3 " in text for _, text in texts(lines)] == [True, True]


def test_odd_rows_of_other_tables_are_shown(lines) -> None:
    """The first five, and not at length."""
    found = Findings(PATH)

    found.note_odd("durable subscriptions", [])
    found.note_odd("durable subscriptions", iter([("a" * 300,)]))
    (one,) = texts(lines)
    found.note_odd("dedup-ids", range(5))
    found.note_odd("dedup-ids", range(1007))

    assert one == (
        "WARNING",
        "store /var/queues.db: durable subscriptions passed over, but kept: ('" + "a" * 198,
    )
    assert texts(lines) == [
        ("WARNING", "store /var/queues.db: dedup-ids passed over, but kept: 0; 1; 2; 3; 4"),
        ("WARNING", "store /var/queues.db: dedup-ids passed over, but kept: 0; 1; 2; 3; 4 and 1,002 more"),
    ]
