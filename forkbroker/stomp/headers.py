"""Header blocks: raw octets to a command and a mapping, and the escaping of each version.

A *block* is everything of a frame before its body: command line, header lines, and the empty line. The rules
that differ between versions come in as a `Version`; leniency is only another such record (see `parser`).
"""

from __future__ import annotations

import re
from functools import lru_cache

from forkbroker.stomp.errors import ErrorKind, ProtocolError
from forkbroker.stomp.frame import CONNECT_COMMANDS
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.versions import Version

_MEANINGS = {"n": "\n", "r": "\r", "c": ":", "\\": "\\"}
_SEQUENCE = re.compile(r"\\(.?)", re.DOTALL)
PADDING = " \t\r"
"""White space that 1.0 clients put around names and values."""


def escape(text: str, version: Version) -> str:
    """Write `text` so that it may stand as a header name or value in this version (F18-F21).

    Colons are escaped in values too (F15). An octet that the version cannot carry becomes a space: a LF in 1.0.
    A CR passes raw where there is no escape for it.
    """
    if text.isalnum():
        return text
    return text.translate(_escape_table(version.escapes))


@lru_cache(maxsize=8)
def _escape_table(escapes: str) -> dict[int, str]:
    table = {ord("\n"): " "}
    table.update({ord(_MEANINGS[letter]): "\\" + letter for letter in escapes})
    return table


def escape_name(text: str, version: Version) -> str:
    """As `escape`, for a header name: where a colon cannot be escaped it would end the name: a space."""
    return escape(text if version.escapes else text.replace(":", " "), version)


def unescape(text: str, version: Version) -> str:
    """Undo `escape`.

    Raises:
        ProtocolError: a backslash that starts no sequence of this version: fatal by the text of 1.1 and 1.2.
    """
    if not version.escapes or "\\" not in text:
        return text

    def meaning(match: re.Match[str]) -> str:
        letter = match[1]
        if not letter or letter not in version.escapes:
            raise ProtocolError(
                "undefined escape sequence in a header",
                f"undefined escape sequence {match[0]!a} in a header; "
                f"STOMP {version.name} has {_name_sequences(version)}",
            )
        return _MEANINGS[letter]

    return _SEQUENCE.sub(meaning, text)


def _name_sequences(version: Version) -> str:
    return " ".join("\\" + letter for letter in version.escapes)


def parse_block(block: bytes, version: Version, limits: Limits) -> tuple[str, dict[str, str]]:
    """Check a whole block and give its command and its decoded headers, the first of repeated ones (F24).

    The fast way for what nearly all blocks are: one decode, one split, one partition for each line. It costs
    0.6 us for an ACK with one header, which is never in the parser's dictionary as its id is unique.

    Raises:
        ProtocolError: a limit is exceeded, or a line is malformed. Its `detail` names the line, counted from 1.
    """
    if 0 in block:  # a number: seven times as fast as looking for b"\0"
        raise nul_in_block()
    # No line can be too long, nor can there be too many, in a block that is shorter than either limit.
    if block.find(b"\n") > limits.max_command or len(block) > limits.max_header_line:
        check_lines(block, limits)
    elif len(block) > limits.max_headers:
        check_line_count(block.count(b"\n") - 2, limits)
    try:
        text = block.decode("utf-8", "strict" if version.utf8_required else "surrogateescape")
    except UnicodeDecodeError as error:
        raise ProtocolError(
            "headers are not UTF-8",
            f"octet {error.start} of the frame, {block[error.start]:#04x}, is not UTF-8 ({error.reason})",
        ) from None
    lines = text.split("\n")
    if version.cr_ends_line and "\r" in text:
        lines = [line.removesuffix("\r") for line in lines]
    command = lines[0]
    if version.trims_headers or ("\\" in text and command not in CONNECT_COMMANDS):
        return command, _parse_lines_thoroughly(lines, version)
    headers: dict[str, str] = {}
    for line in lines[1:-2]:
        name, colon, value = line.partition(":")
        if not colon or not name:
            raise _malformed(lines, line)
        headers.setdefault(name, value)
    return command, headers


def _parse_lines_thoroughly(lines: list[str], version: Version) -> dict[str, str]:
    headers: dict[str, str] = {}
    for number, line in enumerate(lines[1:-2], 2):
        name, colon, value = line.partition(":")
        if version.trims_headers:
            name, value = name.strip(PADDING), value.strip(PADDING)
        if not colon or not name:
            raise _malformed(lines, line)
        if lines[0] not in CONNECT_COMMANDS:
            try:
                name, value = unescape(name, version), unescape(value, version)
            except ProtocolError as error:
                raise ProtocolError(error.message, f"line {number} of the frame: {error.detail}") from None
        headers.setdefault(name, value)
    return headers


def _malformed(lines: list[str], line: str) -> ProtocolError:
    fault = "has an empty name" if line.lstrip(PADDING).startswith(":") else "has no colon"
    number = lines.index(line, 1) + 1
    # A mistyped passcode must not come back in an ERROR, or get into the log.
    shown = "" if lines[0] in CONNECT_COMMANDS else f", {line[:40]!a},"
    return ProtocolError(
        f"header line {fault}", f"line {number} of the frame{shown} {fault}; a header line is name, colon, value"
    )


def nul_in_block() -> ProtocolError:
    """A NUL in a header would end the frame for every receiver that looks for its end there."""
    return ProtocolError(
        "NUL in a header",
        "a NUL stands before the empty line that ends the headers; is the empty line missing?",
    )


def trim(headers: dict[str, str]) -> dict[str, str]:
    """Names and values without the white space around them, as 1.0 clients write it (F17)."""
    trimmed: dict[str, str] = {}
    for name, value in headers.items():
        trimmed.setdefault(name.strip(PADDING), value.strip(PADDING))
    return trimmed


def check_lines(block: bytes, limits: Limits) -> None:
    """Check all sizes of a whole block.

    Raises:
        ProtocolError: of kind LIMIT.
    """
    end = block.find(b"\n")
    check_line(1, len(block[:end].removesuffix(b"\r")), limits)
    for number, line in enumerate(block.split(b"\n")[1:-2], 2):
        check_line(number, len(line.removesuffix(b"\r")), limits)
    check_line_count(block.count(b"\n") - 2, limits)


def check_line(number: int, size: int, limits: Limits) -> None:
    """Check the size of line `number` (1 is the command line), its end not counted."""
    what, limit, name = ("header line", limits.max_header_line, "max-header-line")
    if number == 1:
        what, limit, name = ("command line", limits.max_command, "max-command")
    if size > limit:
        raise ProtocolError(
            f"{what} too long",
            f"line {number} of the frame: {what} of {size:,} bytes or more exceeds {name} ({limit:,})",
            kind=ErrorKind.LIMIT,
        )


def check_line_count(count: int, limits: Limits) -> None:
    """Check the number of header lines."""
    if count > limits.max_headers:
        raise ProtocolError(
            "too many headers",
            f"frame with {count:,} headers or more exceeds max-headers ({limits.max_headers:,})",
            kind=ErrorKind.LIMIT,
        )


def parse_content_length(text: str, limits: Limits) -> int:
    """The number in a `content-length` header (F10); nothing is allocated before this check has passed.

    Raises:
        ProtocolError: not a plain decimal number, or more than the largest body.
    """
    if not (text.isascii() and text.isdigit()):
        raise ProtocolError(
            "content-length is not a number",
            f"content-length {text[:40]!a} is not a number; it is the size of the body in bytes",
        )
    # int() refuses thousands of digits with a ValueError: look at the length before it does.
    if len(text) > 18 or int(text) > limits.max_body:
        raise ProtocolError(
            "body too large",
            f"content-length {text[:40]} exceeds max-body ({limits.max_body:,} bytes)",
            kind=ErrorKind.LIMIT,
        )
    return int(text)
