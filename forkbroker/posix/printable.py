"""Text of strangers, made fit for one line that people read: of a log, or of ps(1).

A control character moves the cursor of a terminal, or ends the line and begins a forged one. A mark of direction
(U+202E) makes a line read as another one, and a line separator (U+2028) ends it for some programs. So whatever
Unicode does not call printable is written as Python would write it in a literal.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` on one line, in which every character shows; those that would not become `\\x1b`, `\\u202e`, and so on."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escape(ord(letter)) for letter in text)


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
