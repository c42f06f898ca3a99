"""A listing in the log, a portion a turn."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from forkbroker.parent.report import PORTION, Report
from forkbroker.posix.loop import Loop


class Notebook(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


class Desk:
    """A loop, a log, and so many queues to list."""

    def __init__(self, count: int) -> None:
        self.loop = Loop()
        self.count = count
        self.made = 0
        self.notebook = Notebook()
        logger = logging.Logger("desk", logging.INFO)
        logger.addHandler(self.notebook)
        self.report = Report(self.loop, self.describe, logger)

    def describe(self) -> Iterator[str]:
        for number in range(self.count):
            self.made += 1
            yield f"queue %s {number}"

    def turns(self) -> list[int]:
        """Start it, and let the loop turn to its end: how many lines each turn has written."""
        found, self.notebook.lines = [], []
        self.report.start()
        while True:
            found.append(len(self.notebook.lines) - sum(found))
            if not self.loop._deadlines:
                return found
            self.loop.turn()


@pytest.fixture
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    made = Desk(request.param)
    yield made
    made.loop.close()


@pytest.mark.parametrize(
    ("desk", "expected"),
    [
        (0, [0]),
        (1, [1]),
        (PORTION - 1, [PORTION - 1]),
        (PORTION, [PORTION, 0]),
        (2 * PORTION + 7, [PORTION, PORTION, 7]),
    ],
    indirect=["desk"],
)
def test_a_turn_writes_a_portion_at_most(desk: Desk, expected: list[int]) -> None:
    """All lines in their order, as they are; then the next listing can begin."""
    for _ in range(2):
        assert desk.turns() == expected
        assert desk.notebook.lines == [f"INFO queue %s {number}" for number in range(desk.count)]


@pytest.mark.parametrize("desk", [3 * PORTION], indirect=True)
def test_a_line_is_made_when_it_is_written(desk: Desk) -> None:
    """Ten thousand lines are not made in one turn only to be written in many."""
    desk.report.start()

    assert desk.made == PORTION


@pytest.mark.parametrize("desk", [2 * PORTION + 1], indirect=True)
def test_one_listing_is_written_at_a_time(desk: Desk) -> None:
    """Who asks again meanwhile gets the one that is being written."""
    desk.report.start()
    desk.report.start()
    while desk.loop._deadlines:
        desk.loop.turn()
        desk.report.start() if desk.loop._deadlines else None

    assert len(desk.notebook.lines) == 2 * PORTION + 1
