"""Patterns of names, kept in a trie of levels, so that a name finds its patterns by its own levels.

A canonical name has levels, each with the separator in front of it: `/topic/a.b` is `/topic`, `/a`, `.b`. Separators
are compared literally. In a pattern `*` stands for exactly one level; as the last level, `#` stands for any number of
levels, and `>` for at least one. Within a longer word these three are ordinary characters. A level may be empty.

The first level of a topic's name is matched by no wildcard if it begins with `$`, as in MQTT (version 5, 4.7.2): who
subscribes to `/topic/>` gets nothing from `/topic/$SYS/events/connect`. It is the same with the first level of a name
within a virtual host, `/topic/$HOST/shop/$a` (`forkbroker.hosts`).

The trie has a node for each beginning of a pattern. A look-up walks along the levels of the name, and in each node
follows the level itself and `*`. Only patterns whose beginning the name shares are ever touched. With many `*` among
their levels these can be thousands, made for one name: `widen` bounds that where more than what matches is permitted.
There are no regular expressions: these cost milliseconds to compile where clients choose their length.

A pattern's levels are limited (`MAX_LEVELS`), as each of them may be a node. Names need no limit: the walk ends where
no pattern goes on.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from forkbroker.errors import ForkbrokerError
from forkbroker.hosts import MARK

MAX_LEVELS = 64
"""Levels of one pattern behind its prefix. Precedents: VerneMQ 10, EMQX 128, mosquitto 200."""

WIDE_STARS = 3
WIDE_LEVELS = 16
"""What a pattern may have before `widen` cuts it: more than programs are seen to use."""

_SHOWN = 80
_HIDDEN = b"/topic/$"
"""What names begin with whose first level stands for itself alone."""
_HOST = b"/" + MARK.rstrip("/").encode()
"""The level before the key of a virtual host."""
_WILDCARDS = frozenset((b"*", b"#", b">"))
_TAILS = frozenset((b"#", b">"))

Value = TypeVar("Value")


class PatternError(ForkbrokerError):
    """A pattern that cannot be used. The text is meant for its author."""


def has_wildcards(name: bytes) -> bool:
    """Tell whether any level of this canonical name is a wildcard."""
    return not _WILDCARDS.isdisjoint(name.replace(b"/", b".").split(b"."))


def check_pattern(pattern: bytes) -> None:
    """Raise PatternError if `#` or `>` is not the last level, or if there are too many levels."""
    _, *levels = _split(pattern)
    if len(levels) > MAX_LEVELS:
        raise PatternError(f"pattern {_quoted(pattern)} has more than {MAX_LEVELS} levels, the limit for patterns")
    for level in levels[:-1]:
        if level[1:] in _TAILS:
            word = level[1:].decode()
            raise PatternError(f"pattern {_quoted(pattern)}: {word!r} is permitted as the last level only")


def covers(pattern: bytes, other: bytes) -> bool:
    """Tell whether this pattern matches whatever the other one, or plain name, does.

    Both have been checked. The answer may be False where two levels of a pattern can be read in one way only together:
    it is never True where it should not be.
    """
    levels, others = _split(pattern), _split(other)
    if other.startswith(_HIDDEN) and levels[:1] == others[:1] and levels[:2] != others[:2]:
        return False
    for place, level in enumerate(levels):
        word, separator = level[1:], level[:1]
        rest = others[place:]
        if word in _TAILS:
            if not rest:
                return word == b"#"
            return rest[0][:1] == separator and (word == b"#" or rest[0][1:] != b"#")
        if not rest:
            return False
        if level != rest[0] and (word != b"*" or rest[0][:1] != separator or rest[0][1:] in _TAILS):
            return False
    return len(levels) == len(others)


def widen(pattern: bytes) -> bytes:
    """Return a pattern that matches all that this checked one does, and perhaps more, and is cheap to look up.

    Behind `WIDE_STARS` levels of `*`, or `WIDE_LEVELS` in all, it matches whatever follows. A name has at most some
    hundred beginnings with so few `*` in them, so that is what a look-up visits for each of its levels, however many
    patterns there are. Without this limit it would be all patterns that a client has made to match the name.
    """
    levels = _split(pattern)
    stars = 0
    for place, level in enumerate(levels):
        is_star = level[1:] == b"*"
        if place > WIDE_LEVELS or (is_star and stars == WIDE_STARS):
            return b"".join(levels[:place]) + level[:1] + b"#"
        stars += is_star
    return pattern


class _Node(Generic[Value]):
    """What may follow after one beginning, and the patterns that end with it.

    The keys of `following` are levels with their separators. Those of wildcards have their separator last (`*.`, `>.`),
    which no level has. Below `>` and its separator is a node whose patterns match whatever follows.
    """

    __slots__ = ("ends", "following")

    def __init__(self) -> None:
        self.following: dict[bytes, _Node[Value]] = {}
        self.ends: dict[bytes, Value] = {}


class Patterns(Generic[Value]):
    """Values by pattern, found by the names that the patterns match."""

    def __init__(self) -> None:
        """Start empty."""
        self._root: _Node[Value] = _Node()
        self._values: dict[bytes, Value] = {}

    def __len__(self) -> int:
        """Return how many patterns there are."""
        return len(self._values)

    def get(self, pattern: bytes) -> Value | None:
        """Return the value of this pattern; None: there is no such pattern."""
        return self._values.get(pattern)

    def add(self, pattern: bytes, value: Value) -> None:
        """Give this pattern, or plain name, a value; the old one goes.

        Raises:
            PatternError: `#` or `>` is not the last level, or there are too many levels.
        """
        check_pattern(pattern)
        self._values[pattern] = value
        for path in _paths(pattern):
            node = self._root
            for key in path:
                following = node.following.get(key)
                if following is None:
                    following = node.following[key] = _Node()
                node = following
            node.ends[pattern] = value

    def remove(self, pattern: bytes) -> None:
        """Forget this pattern, and every node that only it needed.

        Raises:
            KeyError: there is no such pattern.
        """
        del self._values[pattern]
        for path in _paths(pattern):
            nodes = [self._root]
            for key in path:
                nodes.append(nodes[-1].following[key])
            del nodes[-1].ends[pattern]
            while path and not (nodes[-1].ends or nodes[-1].following):
                nodes.pop()
                del nodes[-1].following[path.pop()]

    def find(self, name: bytes) -> list[Value]:
        """Return the values of all patterns that match this canonical name, in no particular order."""
        found: list[Value] = []
        levels = _split(name)
        nodes = [self._root]
        if name.startswith(_HIDDEN):
            fixed = _count_hidden(levels)
            nodes = self._follow(levels[:fixed])
            levels = levels[fixed:]
        for level in levels:
            separator = level[:1]
            star, rest = b"*" + separator, b">" + separator
            following = []
            for node in nodes:
                get = node.following.get
                if (end := get(rest)) is not None:
                    found += end.ends.values()
                if (literal := get(level)) is not None:
                    following.append(literal)
                if (any_level := get(star)) is not None:
                    following.append(any_level)
            if not following:
                return found
            nodes = following
        for node in nodes:
            found += node.ends.values()
        return found

    def _follow(self, levels: list[bytes]) -> list[_Node[Value]]:
        """Return the node that these levels lead to, each for itself, if there is one."""
        node: _Node[Value] | None = self._root
        for level in levels:
            node = None if node is None else node.following.get(level)
        return [] if node is None else [node]


def _count_hidden(levels: list[bytes]) -> int:
    """Return how many levels stand for themselves alone, of a topic whose first one begins with `$`."""
    if levels[1] != _HOST:
        return 2
    return 4 if len(levels) > 3 and levels[3].startswith(b"/$") else 3


def _split(name: bytes) -> list[bytes]:
    """Return the levels of a canonical name, each behind its separator.

    No name has a NUL. Levels beyond those of the longest pattern stay together in the last one.
    """
    return name.replace(b".", b"\0.").replace(b"/", b"\0/").split(b"\0", MAX_LEVELS + 2)[1:]


def _paths(pattern: bytes) -> list[list[bytes]]:
    """Return where a checked pattern ends in the trie: `a.#` at `a`, and below it at whatever follows behind a dot."""
    *heads, last = _split(pattern)
    path = [b"*" + level[:1] if level[1:] == b"*" else level for level in heads]
    word, separator = last[1:], last[:1]
    if word in _TAILS:
        rest = [*path, b">" + separator]
        return [rest] if word == b">" else [path, rest]
    return [[*path, b"*" + separator if word == b"*" else last]]


def _quoted(pattern: bytes) -> str:
    text = pattern.decode("utf-8", "surrogateescape")
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
