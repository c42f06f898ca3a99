"""Header blocks and their escaping."""

from __future__ import annotations

import pytest

from forkbroker.stomp.errors import ErrorKind, ProtocolError
from forkbroker.stomp.headers import escape, escape_name, parse_block, parse_content_length, trim, unescape
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.versions import V10, V11, V12, Version

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

        assert "line 3" in caught.value.detail
        assert len(caught.value.detail) < 200


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
