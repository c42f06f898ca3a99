"""The process groups of the programs that run, in memory that guard and runner share.

The runner ends its programs. If it is killed, the guard has to end them, and so has to know of them at any instant:

- A program's process notes its own group before it becomes the program. Had the runner done that, killed after the
  fork it would leave a program that nobody knows of.
- A process that notes itself when the guard has looked already ends by itself. The kernel gives it another parent
  before the guard hears of the runner's end, and it looks for that after it has noted itself.
- The runner strikes a group out when that has ended. If it is killed just before, the guard finds the number of a group
  that is no more. It is used right then, and the kernel gives numbers out in a circle.
"""

from __future__ import annotations

import mmap
import os
import signal
from contextlib import suppress

_OCTETS = 8
"""Of a number: it is written by one instruction, and is never half there."""


class Groups:
    """A table with a place for each program that may run."""

    def __init__(self, most: int) -> None:
        """`most`: so many places. Made before the processes are forked that share it."""
        table = memoryview(mmap.mmap(-1, (most + 1) * _OCTETS)).cast("q")
        self._table, self._turns = table[:most], table[most:]
        self._free = list(range(most))

    def take_place(self) -> int:
        """A place that is free, for the runner; there must be one."""
        return self._free.pop()

    def give_back(self, place: int) -> None:
        """The program of this place has ended with all of its group, or there is none."""
        self._table[place] = 0
        self._free.append(place)

    @property
    def turns(self) -> int:
        """How often the loop of a runner has turned."""
        return self._turns[0]

    def note_turn(self) -> None:
        """The runner's loop has turned: so it is neither stopped nor stuck."""
        self._turns[0] += 1

    def enter(self, place: int, runner: int) -> bool:
        """Begin a group of this process's own, and note it. False: the runner has ended, and this process has to."""
        os.setpgid(0, 0)
        self._table[place] = os.getpid()
        return os.getppid() == runner

    def kill_all(self) -> None:
        """The runner has died: end what it has left, and begin with an empty table."""
        for place, number in enumerate(self._table):
            if number:
                kill_group(number)
                self._table[place] = 0


def kill_group(number: int) -> None:
    """End all processes of a group at once, if there are some."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(number, signal.SIGKILL)
