"""Work that is too long for one turn of the loop: done in steps, a part of it in each turn.

A chore is an iterator whose steps take a few microseconds each, some 50 at most. Chores are done one after the other,
in the order in which they came. Who makes one sees to it that all is right between any two of its steps: the queues
that it concerns may be used, deleted and made anew meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import Any

STEPS = 250
"""Steps in one turn, for each of those that count them: some 5 ms."""

_DROPPED = 20
"""Objects that take as long to free as one step of other work."""

Work = Generator[None, None, str | None]
"""Steps, and at the end a reason for a refusal, or none."""


class Chores:
    """Those that are not done."""

    def __init__(self, steps: int = STEPS) -> None:
        """`steps`: so many in one turn."""
        self._steps = steps
        self._left = steps
        self.all: deque[Iterator[None]] = deque()
        """To read."""
        self.has_run = False
        """Something of the turn's part is done: the next turn is to have its own; to read."""
        self._is_running = False

    def add(self, chore: Iterator[None]) -> None:
        """Do this: at once, as far as the turn's part of all chores goes, and behind all others."""
        self.all.append(chore)
        self._run()

    def go_on(self) -> None:
        """A new turn: do its part."""
        self._left = self._steps
        self.has_run = False
        if self.all:
            self._run()

    def _run(self) -> None:
        if self._is_running:
            # a chore has made another one, which is done behind it
            return
        self._is_running = self.has_run = True
        try:
            while self.all and self._left > 0:
                self._left -= 1
                if advance(self.all[0]):
                    self.all.popleft()
        finally:
            self._is_running = False


def advance(work: Iterator[None]) -> bool:
    """Do a step; tell whether there was none any more."""
    try:
        next(work)
    except StopIteration:
        return True
    return False


def drop(container: list[Any] | deque[Any]) -> Iterator[None]:
    """Let go of what this contains: to free a hundred thousand objects at once takes long."""
    while container:
        for _ in range(min(len(container), _DROPPED)):
            container.pop()
        yield
