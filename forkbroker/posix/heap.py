"""The heap of a process that is there to be forked.

A page that a process writes to is no longer shared with the process that has forked it. Free memory lies in holes
between objects that are there to stay, so each new object would cost a page, or two with that of the allocator's notes.
If the holes are filled before, new objects come from fresh memory and lie side by side.

Nothing here knows the allocators but this: where they have no hole for a size, blocks that are asked for one after the
other have ascending addresses without gaps. With an allocator that is not so, some memory is wasted, a few MiB at most.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

_SMALL = range(16, 513, 16)
"""Sizes of blocks that the interpreter manages itself, each in pools of its own (pymalloc)."""
_LARGE = (*range(8_192, 1_024, -1_024), *range(1_024, 512, -16))
"""Sizes of the C library's blocks that are worth it, the largest first: what is left of a hole may do for others."""
_HEAD = 33
"""Octets that an object of `bytes` has besides its content."""
_RUN = 12
"""So many blocks without gaps: they come from fresh memory."""
_NOTES = 32
"""Octets that the C library puts between two of its blocks at most. The interpreter puts none."""
_NUMBER = _SMALL[1]
"""The size of a number's block."""
_BATCH = 512
_MOST = 1_048_576
"""Octets that are tried for one size at most."""

_filling: list[object] = []


def fill_holes() -> None:
    """Fill the holes between all objects that exist now: only in a process that is there to be forked."""
    for size in _LARGE:
        blocks = _take_until_fresh(size)
        # what is fresh is given back, and is what comes next
        _filling.extend(blocks[:-_RUN])
    for size in (*_SMALL, *_SMALL):  # what is used to fill holes of one size leaves holes of others
        blocks = _take_until_fresh(size)
        # the rest of this pool as well: the next one has its first blocks on the page of its notes
        make = _maker(size)
        while len(blocks) < _MOST // size and id(blocks[-1]) == id(blocks[-2]) + size:
            blocks.append(make())
        _filling.extend(blocks[:-1])


def empty_holes() -> None:
    """Undo `fill_holes`."""
    _filling.clear()


def _maker(size: int) -> Callable[[], object]:
    """What makes an object in a block of this size, of a kind that the interpreter keeps no stock of."""
    if size == _SMALL[0]:
        return object
    if size == _NUMBER:
        return count(1 << 32).__next__
    return lambda: bytes(size - _HEAD)


def _take_until_fresh(size: int) -> list[object]:
    """Blocks of this size, of which the last ones have no gaps between them."""
    if size == _NUMBER:
        return _take_numbers()
    make = _maker(size)
    most = size if size in _SMALL else size + _NOTES
    blocks = [make()]
    gaps_since = 0
    while len(blocks) - gaps_since < _RUN and len(blocks) < _MOST // size:
        blocks.append(make())
        if not size <= id(blocks[-1]) - id(blocks[-2]) <= most:
            gaps_since = len(blocks) - 1
    return blocks


def _take_numbers() -> list[object]:
    """Such blocks of the size of a number.

    Addresses that are compared are numbers themselves. They come and go among the blocks, of which the last ones are
    therefore looked at when there are many, and may be in another order.
    """
    make = _maker(_NUMBER)
    blocks: list[object] = []
    for _ in range(_MOST // (_NUMBER * _BATCH)):
        blocks += [make() for _ in range(_BATCH)]
        places = sorted(map(id, blocks[-_RUN:]))
        if places[-1] - places[0] < 2 * _RUN * _NUMBER:
            break
    return blocks
