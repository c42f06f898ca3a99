"""Frames to bytes, and the canonical block."""

from __future__ import annotations

import pytest
from feeding import connected, flat
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.stomp.encoder import HEART_BEAT, encode_block, encode_frame, readable_block, translate_block
from forkbroker.stomp.versions import V10, V11, V12, Version

ODD = [("a:b", "c:d\\e\nf\rg")]


@pytest.mark.row("F01", "F05")
def test_frame_ends_in_nul_and_lf_and_its_lines_in_lf() -> None:
    """Nothing else is added to a frame without a body."""
    assert encode_frame(V12, "RECEIPT", [("receipt-id", "1")]) == b"RECEIPT\nreceipt-id:1\n\n\0\n"


def test_content_length_is_added_to_a_body() -> None:
    """Unless the headers have it."""
    assert encode_frame(V12, "ERROR", [], b"\0\0") == b"ERROR\ncontent-length:2\n\n\0\0\0\n"
    assert encode_frame(V12, "ERROR", [("content-length", "1")], memoryview(b"x")).count(b"content-length") == 1


@pytest.mark.row("F15", "F19", "F20", "F21")
@pytest.mark.parametrize(
    ("version", "line"),
    [(V10, b"a b:c:d\\e f\rg"), (V11, b"a\\cb:c\\cd\\\\e\\nf\rg"), (V12, b"a\\cb:c\\cd\\\\e\\nf\\rg")],
    ids=["1.0", "1.1", "1.2"],
)
def test_names_and_values_are_escaped_as_the_version_demands(version: Version, line: bytes) -> None:
    """The canonical block, translated, says the same as the frame."""
    assert encode_frame(version, "MESSAGE", ODD) == b"MESSAGE\n" + line + b"\n\n\0\n"
    assert translate_block(encode_block(ODD), version) == line + b"\n"


@pytest.mark.row("F22")
@pytest.mark.parametrize("version", [V10, V11, V12])
def test_connected_is_never_escaped(version: Version) -> None:
    """But a line end in it cannot make another header."""
    headers = [("session", "a\\b:c"), ("server", "x\r\ny:1")]

    assert encode_frame(version, "CONNECTED", headers) == b"CONNECTED\nsession:a\\b:c\nserver:x y:1\n\n\0\n"


@pytest.mark.row("F23")
def test_headers_before_negotiation_need_no_escaping() -> None:
    """CR, LF, colon and backslash are gone."""
    frame = encode_frame(None, "ERROR", [("message", "a\r\nb:c\\d"), ("version", "1.0,1.1")], b"why")

    assert frame == b"ERROR\nmessage:a b c d\nversion:1.0,1.1\ncontent-length:3\n\nwhy\0\n"


def test_canonical_block_is_in_1_2_escaping() -> None:
    """A 1.2 client gets it as it is."""
    block = encode_block([("a", "1"), ("b", "x:\r\n\\")])

    assert block == b"a:1\nb:x\\c\\r\\n\\\\\n"
    assert translate_block(block, V12) is block
    assert encode_block([]) == b""


def test_translation_decodes_each_sequence_once() -> None:
    """An escaped backslash before a letter is no sequence, and other lines stay."""
    block = encode_block([("a", "1"), ("b", "\\r\\n\\c"), ("c", "2")])

    assert translate_block(block, V11) == b"a:1\nb:\\\\r\\\\n\\\\c\nc:2\n"
    assert translate_block(block, V10) == b"a:1\nb:\\r\\n\\c\nc:2\n"


@pytest.mark.row("F13")
def test_octets_of_a_1_0_header_come_out_as_they_were() -> None:
    """Through the parser, the canonical block and the translation."""
    frame = flat(connected(V10).receive(b"SEND\na:\xff\\\xe4\n\n\0"))[0]
    block = encode_block(frame[1].items())

    assert block == b"a:\xff\\\\\xe4\n"
    assert translate_block(block, V10) == b"a:\xff\\\xe4\n"


@pytest.mark.row("F13")
@pytest.mark.parametrize(
    ("block", "readable"),
    [
        (b"", b""),
        (b"a:b\n", b"a:b\n"),
        ("ä:€\n".encode(), "ä:€\n".encode()),
        (b"a:\xe4\\n\nb:c\n", "a:ä\\n\nb:c\n".encode()),
        ("a:ä\n".encode() + b"\xe4:\x9b\n", "a:ä\nä:\x9b\n".encode()),
        ("a:ä".encode() + b"\xff\n", "a:Ã¤ÿ\n".encode()),
    ],
)
def test_a_line_that_is_not_utf_8_is_read_as_iso_8859_1(block: bytes, readable: bytes) -> None:
    """That line alone; others stay as they are."""
    assert readable_block(block) == readable


@given(st.binary())
def test_a_readable_block_is_utf_8_with_as_many_lines(block: bytes) -> None:
    """Whatever it was; no colon and no backslash comes or goes."""
    readable = readable_block(block)

    readable.decode()
    for octet in b"\n:\\\0":
        assert readable.count(octet) == block.count(octet)


@pytest.mark.row("H05")
def test_heart_beat_is_one_lf() -> None:
    """An end of line in every version that has heart-beats."""
    assert HEART_BEAT == b"\n"
