"""A listing of the broker's state in the log, in portions: ten thousand queues must not stop a turn of the loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from forkbroker.posix.loop import Loop

PORTION = 200
"""Lines in one turn: some 10 ms, most of it for the log."""


class Report:
    """One listing at a time. Between two portions the state changes; each line is true when it is written."""

    def __init__(self, loop: Loop, describe: Callable[[], Iterable[str]], logger: logging.Logger) -> None:
        """`describe` gives the lines of a new listing, each when it is asked for."""
        self._loop = loop
        self._describe = describe
        self._logger = logger
        self._lines: Iterator[str] | None = None

    def start(self) -> None:
        """Begin a listing; if one is being written, it goes on, and no other one begins."""
        if self._lines is None:
            self._lines = iter(self._describe())
            self._go_on(self._lines)

    def _go_on(self, lines: Iterator[str]) -> None:
        portion = list(islice(lines, PORTION))
        for line in portion:
            self._logger.info("%s", line)
        if len(portion) == PORTION:
            self._loop.call_at(self._loop.now, lambda: self._go_on(lines))
        else:
            self._lines = None
