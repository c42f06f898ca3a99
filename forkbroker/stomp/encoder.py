"""Frames to bytes, in the escaping of each version; and the broker's own form of a header block.

Inside the broker headers travel as a *canonical block*: `name:value` lines in the escaping of 1.2, whichever
version the sender spoke. It is written once by the sender's session and handed to every 1.2 client as it is;
`translate_block` makes of it what clients of other versions must get.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from forkbroker.stomp.frame import CONNECT_COMMANDS, Buffer
from forkbroker.stomp.headers import escape, escape_name, unescape
from forkbroker.stomp.versions import V12, Version

HEART_BEAT = b"\n"
"""One LF: an end of line in every version that has heart-beats (H05)."""

END = b"\0\n"
"""End of every frame that the server writes: the optional LF keeps text tools readable (F05)."""

_UNESCAPED_COMMANDS = CONNECT_COMMANDS | {"CONNECTED"}
_UNSAFE_BEFORE_NEGOTIATION = re.compile(r"[\r\n:\\]+")
_UNSAFE_UNESCAPED = re.compile(r"[\r\n]+")


def encode_frame(
    version: Version | None, command: str, headers: Iterable[tuple[str, str]], body: Buffer = b""
) -> bytes:
    """A whole frame, NUL and LF included.

    Headers of CONNECT, STOMP and CONNECTED are never escaped (F22); a line end in them becomes a space. Before
    negotiation (`version` None) no escaping is agreed: CR, LF, colon and backslash become a space (F23).
    `content-length` is added where there is a body and the headers have none.
    """
    lines = [command]
    has_length = False
    for name, value in headers:
        has_length = has_length or name == "content-length"
        lines.append(_encode_line(version, command, name, value))
    if len(body) and not has_length:
        lines.append(f"content-length:{len(body)}")
    block = "\n".join(lines).encode("utf-8", "surrogateescape")
    return b"".join((block, b"\n\n", body, END))


def _encode_line(version: Version | None, command: str, name: str, value: str) -> str:
    if version is None:
        clean = _UNSAFE_BEFORE_NEGOTIATION.sub
        return f"{clean(' ', name)}:{clean(' ', value)}"
    if command in _UNESCAPED_COMMANDS:
        return f"{_UNSAFE_BEFORE_NEGOTIATION.sub(' ', name)}:{_UNSAFE_UNESCAPED.sub(' ', value)}"
    return f"{escape_name(name, version)}:{escape(value, version)}"


def encode_block(headers: Iterable[tuple[str, str]]) -> bytes:
    """The canonical block of these headers: `name:value` and LF for each, in the escaping of 1.2.

    What a 1.0 client sent beyond UTF-8 comes out as the octets that it sent: `readable_block` is for all other clients.
    """
    text = "".join([f"{escape(name, V12)}:{escape(value, V12)}\n" for name, value in headers])
    return text.encode("utf-8", "surrogateescape")


def translate_block(block: bytes, version: Version) -> bytes:
    """A canonical block as a client of `version` must get it.

    1.2 gets it unchanged. 1.1 has no sequence for CR, so a CR stands raw, which its grammar permits. 1.0 has no
    sequences at all: colon, backslash and CR stand raw, but a LF, and a colon in a name, become a space, as
    they would make another header of it. A block without a backslash is the same in every version: callers
    need not call this for one.
    """
    if version.escapes == V12.escapes:
        return block
    text = block.decode("utf-8", "surrogateescape")
    lines = [_translate_line(line, version) for line in text.split("\n")]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def readable_block(block: bytes) -> bytes:
    """A canonical block in UTF-8, as clients of 1.1 and 1.2 must get it (F13).

    A 1.0 client may have written any octets. A line of them that is not UTF-8 is read as ISO 8859-1, which is what such
    clients mostly mean, and in which all octets mean something.
    """
    if block.isascii() or _is_utf8(block):
        return block
    lines = block.split(b"\n")
    return b"\n".join(line if _is_utf8(line) else line.decode("latin-1").encode() for line in lines)


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _translate_line(line: str, version: Version) -> str:
    if "\\" not in line:
        return line
    name, _, value = line.partition(":")
    return f"{escape_name(unescape(name, V12), version)}:{escape(unescape(value, V12), version)}"
