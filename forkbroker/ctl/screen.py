"""The terminal of `top`: curses puts lines on it, and reads keys."""

from __future__ import annotations

import curses
import time
from contextlib import suppress
from dataclasses import replace

from forkbroker.ctl.connection import CtlError
from forkbroker.ctl.top import Sight, View, draw
from forkbroker.errors import Exit

_HELP = "sort: w u d c b a i o n   r reverse   arrows, pages   space look   q quit"
_HEAD = 4
"""Lines above the first row."""


def show(sight: Sight, view: View, interval_s: float) -> None:
    """Show the queues, looked at again after each interval (seconds), until `q` is pressed.

    Raises:
        CtlError: the terminal cannot be used, or the broker does not answer.
    """
    try:
        with suppress(KeyboardInterrupt):
            curses.wrapper(_Screen(sight, view, interval_s).run)
    except curses.error as error:
        raise CtlError(f"this terminal cannot be used ({error}): --once prints it once", Exit.USAGE) from None


class _Screen:
    """The terminal."""

    def __init__(self, sight: Sight, view: View, interval_s: float) -> None:
        self._sight = sight
        self._view = view
        self._interval_s = interval_s

    def run(self, window: curses.window) -> None:
        """Until `q` is pressed."""
        curses.use_default_colors()
        with suppress(curses.error):  # it has a cursor that can't be hidden
            curses.curs_set(0)
        again = time.monotonic() + self._interval_s
        while True:
            self._paint(window)
            window.timeout(max(0, round((again - time.monotonic()) * 1000)))
            key = self._read_key(window)
            if key == "q":
                return
            if key:
                self._view = self._view.press(key, window.getmaxyx()[0] - _HEAD - 1)
            if key == " " or time.monotonic() >= again:
                self._sight.look()
                self._view = replace(self._view, first=min(self._view.first, max(0, len(self._sight.rows) - 1)))
                again = time.monotonic() + self._interval_s

    def _read_key(self, window: curses.window) -> str:
        """A key, or nothing in time."""
        code = window.getch()
        return "" if code < 0 else curses.keyname(code).decode("ascii", "replace")

    def _paint(self, window: curses.window) -> None:
        height, width = window.getmaxyx()
        lines = draw(self._sight.status, self._sight.rows, self._view)[: max(0, height - 1)]
        window.erase()
        for number, line in enumerate(lines):
            shown = curses.A_REVERSE if number == _HEAD - 1 else curses.A_NORMAL
            window.addnstr(number, 0, line, max(0, width - 1), shown)
        if height > len(lines):
            order = f"{self._view.order}{' reversed' if self._view.is_reversed else ''}"
            window.addnstr(height - 1, 0, f"{order} | {_HELP}", max(0, width - 1), curses.A_DIM)
        window.refresh()
