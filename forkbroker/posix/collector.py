"""Python's garbage collector, in a process that must not stop for long.

A full collection visits every object that may be part of a cycle. With a hundred thousand messages in memory that is
some tenths of a second, in which the process does nothing else, and it finds next to nothing: reference counts free
nearly everything at once. Collections of young objects visit a few thousand at most. So those go on, and full ones do
not start by themselves. Cycles that grow old stay in memory, so a process that uses this makes none (there is a test).
"""

from __future__ import annotations

import gc

from forkbroker.posix.heap import empty_holes, fill_holes

_NEVER = 1_000_000_000
_usual = gc.get_threshold()


def settle() -> None:
    """Leave all objects that exist now alone from now on, in forked processes as well, and collect only young ones.

    What has been imported stays until the end. A collector that does not visit it leaves the pages on which it lies
    shared between a process and those that it forks.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_usual[:2], _NEVER)


def settle_for_forks() -> None:
    """As `settle`, in a process that only forks: there is nothing to collect here, until `begin` in a forked one.

    What forked processes allocate lies close together, behind all that is there now.
    """
    gc.collect()
    fill_holes()
    gc.freeze()
    gc.disable()


def unsettle() -> None:
    """Undo `settle_for_forks`: objects that nobody needs any more make room for new ones."""
    empty_holes()
    gc.unfreeze()


def begin() -> None:
    """In a forked process: leave alone what was inherited, and collect as usual what comes."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(*_usual)
