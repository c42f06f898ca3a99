"""Header lines as they stand in envelopes: each `name:value`, escaped as STOMP 1.2 has it (section Value Encoding).

Children write and read them with what they know of STOMP. This is for the processes that know none, where they make a
message themselves, or show one to an administrator.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SEQUENCES = {b"\\": b"\\\\", b"\r": b"\\r", b"\n": b"\\n", b":": b"\\c"}
_MEANINGS = {sequence: octet for octet, sequence in _SEQUENCES.items()}
_TO_ESCAPE = re.compile(rb"[\\\r\n:]")
_ESCAPED = re.compile(rb"\\.?", re.DOTALL)


def escape(text: bytes) -> bytes:
    """A name or value as it stands in a line."""
    return _TO_ESCAPE.sub(lambda match: _SEQUENCES[match[0]], text)


def unescape(text: bytes) -> bytes:
    """Undo `escape`. A backslash that begins no sequence is left out, with what follows it."""
    return _ESCAPED.sub(lambda match: _MEANINGS.get(match[0], b""), text)


def pack_line(name: str, value: str) -> bytes:
    """One line, without its end."""
    return b":".join(escape(text.encode(errors="surrogateescape")) for text in (name, value))


def unpack_lines(lines: Iterable[bytes]) -> dict[str, str]:
    """The headers that these lines are: of repeated ones the first (STOMP 1.2, Repeated Header Entries)."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        found.setdefault(_decode(name), _decode(value))
    return found


def _decode(text: bytes) -> str:
    return unescape(text).decode("utf-8", "surrogateescape")
