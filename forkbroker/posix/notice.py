"""A short text that one process writes, and that all processes which it forks can read at any time, without a message.

It stands in memory that they share. There are two places for it: the writer writes the one that is not shown, and then
shows it by one octet. So a reader finds the old text or the new one, wherever either process is interrupted or killed,
as long as it reads faster than the text changes twice.
"""

from __future__ import annotations

_MOST = 255
"""Octets of a text. One octet says how many."""
_PLACES = (1, 1 + 1 + _MOST)


class Notice:
    """The text. Make it before the first fork."""

    def __init__(self, text: str) -> None:
        # a broker without a notice should not have its memory
        from mmap import mmap

        self._memory = mmap(-1, _PLACES[1] + 1 + _MOST)
        self.write(text)

    def write(self, text: str) -> None:
        """Put this in the place of the text; what is too long is cut."""
        octets = text.encode()[:_MOST]
        shown = 1 - self._memory[0]
        place = _PLACES[shown]
        self._memory[place : place + 1 + len(octets)] = bytes([len(octets)]) + octets
        self._memory[0] = shown

    def read(self) -> str:
        """What was written last."""
        place = _PLACES[self._memory[0]]
        return self._memory[place + 1 : place + 1 + self._memory[place]].decode(errors="ignore")
