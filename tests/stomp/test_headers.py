"""Header blocks and their escaping."""

from __future__ import annotations

import pytest

from forkbroker.stomp.errors import ErrorKind, ProtocolError
from forkbroker.stomp.headers import escape, escape_name, parse_block, parse_content_length, trim, unescape
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.versions import V10, V11, V12, Version, lenient

ODD = "a\\b:c\nd\re"


@pytest.mark.row("F18", "F19", "F20")
@pytest.mark.parametrize(
    ("version", "expected"),
    [(V10, "a\\b:c d\re"), (V11, "a\\\\b\\cc\\nd\re"), (V12, "a\\\\b\\cc\\nd\\re")],
    ids=["1.0", "1.1", "1.2"],
)
def test_escape_writes_what_the_version_has(version: Version, expected: str) -> None:
    """What it has not passes raw, but for a LF, which would end the line."""
    assert escape(ODD, version) == expected
    assert escape("plain", version) == "plain"


@pytest.mark.row("F15", "F21")
def test_names_are_escaped_too() -> None:
    """Where a colon in a name cannot be escaped it becomes a space."""
    assert escape_name("a:b", V12) == "a\\cb"
    assert escape_name("a:b", V10) == "a b"


@pytest.mark.parametrize("version", [V11, V12], ids=["1.1", "1.2"])
def test_unescape_undoes_escape(version: Version) -> None:
    """Also for text that looks like an escape sequence."""
    for text in (ODD, "\\n", "\\\\c", "\\", ""):
        assert unescape(escape(text, version), version) == text


@pytest.mark.row("F19", "F20")
@pytest.mark.parametrize(("version", "text"), [(V11, "\\r"), (V11, "\\"), (V12, "\\t"), (V12, "a\\\n")])
def test_undefined_sequence_is_named(version: Version, text: str) -> None:
    """Together with those that exist."""
    with pytest.raises(ProtocolError) as caught:
        unescape(text, version)

    assert "\\n" in caught.value.detail
    assert f"STOMP {version.name}" in caught.value.detail


@pytest.mark.row("F18")
def test_nothing_is_unescaped_in_1_0() -> None:
    """A backslash is itself."""
    assert unescape("\\n\\x", V10) == "\\n\\x"


def test_parse_block_gives_command_and_first_of_repeated_headers() -> None:
    """The whole block, its empty line included, goes in."""
    assert parse_block(b"SEND\na:1\na:2\nb:\n\n", V12, Limits()) == ("SEND", {"a": "1", "b": ""})


@pytest.mark.row("F24")
def test_names_are_compared_after_decoding() -> None:
    """Escaped and raw, padded and bare are the same name."""
    assert parse_block(b"SEND\n\\\\a:1\n\\\\a:2\n\n", V12, Limits())[1] == {"\\a": "1"}
    assert parse_block(b"SEND\na :1\na:2\n\n", V10, Limits())[1] == {"a": "1"}


def test_malformed_line_is_quoted_in_part() -> None:
    """The detail stays short whatever the client sent."""
    for version in (V10, V12):
        with pytest.raises(ProtocolError) as caught:
            parse_block(b"SEND\na:1\n" + b"x" * 900 + b"\n\n", version, Limits())

        assert f"line 3 of the frame, '{'x' * 40}', has no colon" in caught.value.detail


@pytest.mark.row("F17")
def test_trim_keeps_the_first_of_names_that_become_equal() -> None:
    """As for repeated headers."""
    assert trim({" a": " 1\r", "a": "2"}) == {"a": "1"}


@pytest.mark.row("F10")
def test_content_length_is_a_decimal_number_within_its_limit() -> None:
    """Of digits only; the limit itself is allowed."""
    limits = Limits(max_body=100)

    assert parse_content_length("0100", limits) == 100
    for text, kind in (("101", ErrorKind.LIMIT), ("9" * 30, ErrorKind.LIMIT), ("-1", ErrorKind.MALFORMED)):
        with pytest.raises(ProtocolError) as caught:
            parse_content_length(text, limits)
        assert caught.value.kind is kind


@pytest.mark.row("F25")
def test_number_of_headers_is_limited_in_small_and_large_blocks() -> None:
    """Whether or not a line might be too long as well."""
    for line in (b"a:1\n", b"a:" + b"x" * 50 + b"\n"):
        with pytest.raises(ProtocolError, match="too many headers"):
            parse_block(b"SEND\n" + line * 11 + b"\n", V12, Limits(max_headers=10, max_header_line=100))


@pytest.mark.row("F25")
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_sizes_of_lines_are_limited_exactly(end: bytes) -> None:
    """The limit itself is allowed, the end of the line is not counted; the ERROR names line, size and limit."""
    limits = Limits(max_command=4, max_header_line=20)

    parse_block(b"SEND" + end + (b"a:" + b"x" * 18 + end) * 2 + end, lenient(V12), limits)
    for block, detail in (
        (b"SENDS" + end + end, "line 1 of the frame: command line of 5 bytes or more exceeds max-command (4)"),
        (
            b"SEND" + end + b"a:b" + end + b"a:" + b"x" * 19 + end + end,
            "line 3 of the frame: header line of 21 bytes or more exceeds max-header-line (20)",
        ),
    ):
        with pytest.raises(ProtocolError) as caught:
            parse_block(block, lenient(V12), limits)
        assert (caught.value.detail, caught.value.kind) == (detail, ErrorKind.LIMIT)


@pytest.mark.row("F25")
@pytest.mark.parametrize("line", [b"a:1\n", b"a:" + b"x" * 18 + b"\n"])
def test_as_many_headers_as_the_limit_are_allowed(line: bytes) -> None:
    """And not one more."""
    limits = Limits(max_headers=5, max_header_line=20)

    parse_block(b"SEND\n" + line * 5 + b"\n", V12, limits)
    with pytest.raises(ProtocolError) as caught:
        parse_block(b"SEND\n" + line * 6 + b"\n", V12, limits)
    assert (caught.value.kind, "6 headers or more" in caught.value.detail) == (ErrorKind.LIMIT, True)


@pytest.mark.row("F10")
def test_a_content_length_has_at_most_18_digits() -> None:
    """Zeros in front count, too: a number that nobody writes."""
    assert parse_content_length("0" * 15 + "100", Limits(max_body=100)) == 100
    with pytest.raises(ProtocolError, match="too large"):
        parse_content_length("0" * 16 + "100", Limits(max_body=100))


@pytest.mark.parametrize(("line", "fault"), [(b"x", "has no colon"), (b":x", "has an empty name")])
@pytest.mark.parametrize("version", [V10, V12], ids=["1.0", "1.2"])
def test_a_malformed_line_is_named(version: Version, line: bytes, fault: str) -> None:
    """By its number, with its text, but for a CONNECT: a mistyped passcode is nothing for a log."""
    for command, shown in (
        (b"SEND", f", {line.decode()!r}, {fault}"),
        (b"CONNECT", f" {fault}"),
        (b"STOMP", f" {fault}"),
    ):
        with pytest.raises(ProtocolError) as caught:
            parse_block(command + b"\na:1\n" + line + b"\n\n", version, Limits())
        assert f"line 3 of the frame{shown}; a header line" in caught.value.detail
        assert caught.value.message == f"header line {fault}"


@pytest.mark.row("F19", "F20")
def test_an_undefined_sequence_is_named_with_its_line() -> None:
    """In a name as in a value; CONNECT has no sequences at all."""
    for line in (b"a\\t:1", b"a:\\t"):
        with pytest.raises(ProtocolError, match="undefined escape") as caught:
            parse_block(b"SEND\nb:1\n" + line + b"\n\n", V12, Limits())
        assert "line 3 of the frame: undefined escape sequence" in caught.value.detail
        assert parse_block(b"CONNECT\n" + line + b"\n\n", V12, Limits())[0] == "CONNECT"


def test_a_nul_in_a_block_is_an_error() -> None:
    """Wherever it stands."""
    for block in (b"SEND\n\0a:1\n\n", b"SE\0ND\n\n", b"SEND\na:1\0\n\n"):
        with pytest.raises(ProtocolError, match="NUL in a header"):
            parse_block(block, V12, Limits())


@pytest.mark.row("F13")
def test_a_header_that_is_not_utf_8_is_an_error_where_the_version_says_so() -> None:
    """The place and the octet are named; 1.0 takes it."""
    with pytest.raises(ProtocolError, match="not UTF-8") as caught:
        parse_block(b"SEND\na:\xff\n\n", V11, Limits())
    assert "octet 7 of the frame, 0xff" in caught.value.detail
    assert parse_block(b"SEND\na:\xff\n\n", V10, Limits()) == ("SEND", {"a": "\udcff"})


def test_a_malformed_first_header_is_line_2() -> None:
    """The command is line 1."""
    with pytest.raises(ProtocolError) as caught:
        parse_block(b"SEND\nx\na:1\n\n", V12, Limits())

    assert "line 2 of the frame, 'x', has no colon" in caught.value.detail


@pytest.mark.row("F02", "F04")
@pytest.mark.parametrize(
    ("version", "command", "value"),
    [(V12, "SEND", "1\r"), (lenient(V11), "SEND", "1\r"), (V11, "SEND\r", "1\r\r"), (lenient(V10), "SEND", "1")],
    ids=["1.2", "1.1 lenient", "1.1 strict", "1.0 lenient"],
)
def test_one_cr_before_the_lf_belongs_to_the_end_where_the_version_says_so(
    version: Version, command: str, value: str
) -> None:
    """A second one belongs to the line; in 1.0 it is padding."""
    assert parse_block(b"SEND\r\na:1\r\r\n\n", version, Limits()) == (command, {"a": value})
