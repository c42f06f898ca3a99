"""Header lines in envelopes: what is written twice, here and for clients of STOMP 1.2, is the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.stomp import headers
from forkbroker.stomp.encoder import encode_block
from forkbroker.stomp.versions import V12
from forkbroker.wire.lines import escape, pack_line, unescape, unpack_lines

TEXTS = st.text(st.sampled_from("ab\\:\r\nnrcä") | st.characters(codec="utf-8"), max_size=12)


@given(TEXTS)
def test_it_is_the_escaping_of_stomp(text: str) -> None:
    """Both ways."""
    escaped = escape(text.encode())

    assert escaped.decode() == headers.escape(text, V12)
    assert unescape(escaped) == text.encode()
    assert headers.unescape(escaped.decode(), V12) == text


@given(st.binary(max_size=12))
def test_octets_that_are_no_text_come_back_as_they_were(octets: bytes) -> None:
    """A 1.0 client may have sent any."""
    assert unescape(escape(octets)) == octets


@given(st.dictionaries(TEXTS, TEXTS, max_size=4))
def test_lines_are_those_of_a_block(found: dict[str, str]) -> None:
    """As a child writes it."""
    lines = [pack_line(name, value) for name, value in found.items()]

    assert b"".join(line + b"\n" for line in lines) == encode_block(list(found.items()))
    assert unpack_lines(lines) == found


@pytest.mark.parametrize(("line", "expected"), [(b"a\\tb:c", {"ab": "c"}), (b"a:b\\", {"a": "b"}), (b"a", {"a": ""})])
def test_what_is_no_sequence_is_left_out(line: bytes, expected: dict[str, str]) -> None:
    """No envelope of ours has one, and a child that lies harms itself alone."""
    assert unpack_lines([line]) == expected


def test_the_first_of_repeated_headers_counts() -> None:
    """STOMP 1.2, Repeated Header Entries."""
    assert unpack_lines([b"a:1", b"a:2"]) == {"a": "1"}


def test_headers_are_read_and_written_as_they_stand_in_envelopes() -> None:
    """In the escaping of STOMP 1.2."""
    line = pack_line("a:b", "c\\d\ne\rf:g")

    assert line == b"a\\cb:c\\\\d\\ne\\rf\\cg"
    assert unpack_lines([line, b"x:1", b"x:2"]) == {"a:b": "c\\d\ne\rf:g", "x": "1"}
