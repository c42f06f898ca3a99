"""Properties of the parser: cutting does not matter, runs are frames, encoding is undone, mutations do no harm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from feeding import Frame, connected, feed, feed_every_way
from hypothesis import given, settings
from hypothesis import strategies as st

from forkbroker.stomp.encoder import encode_frame
from forkbroker.stomp.errors import ProtocolError
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.parser import Parser
from forkbroker.stomp.versions import V10, V11, V12, Version

VERSIONS = st.sampled_from([V10, V11, V12])
CUTS = st.lists(st.integers(1, 400), max_size=60)
BLOCKS = [b"SEND\na:1\n\n", b"SEND\nb:2\n\n", b"SEND\nb:2\nreceipt:r\n\n", b"SEND\r\na:1\r\n\r\n"]
PIECES = [*BLOCKS, b"\0", b"\0\n", b"\n", b"x", b"receipt:q", b"\0" + BLOCKS[0], b"\0\n" + BLOCKS[1], b"12345678"]
BODIES = st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join)

MOST_FED = 3000
"""Octets of a stream that are fed one by one as well."""

quick = settings(max_examples=150)


def block_lines(data: bytes, position: int) -> tuple[list[bytes], int]:
    """The lines of the block at `position`, read octet by octet, and where the body begins."""
    lines = [bytearray()]
    while True:
        octet = data[position : position + 1]
        position += 1
        if octet != b"\n":
            lines[-1] += octet
            continue
        line = bytes(lines[-1]).removesuffix(b"\r")
        lines[-1] = bytearray(line)
        if not line:
            return [bytes(line) for line in lines[:-1]], position
        lines.append(bytearray())


def reference(data: bytes) -> Iterator[Frame]:
    """A parser for streams of well-formed 1.2 SEND frames, as simple as can be."""
    position = 0
    while True:
        while data[position : position + 1] in (b"\n", b"\r", b"\0"):
            position += 1
        if position == len(data):
            return
        lines, position = block_lines(data, position)
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.decode().partition(":")
            headers.setdefault(name, value)
        receipt = headers.pop("receipt", None)
        body = bytearray()
        while len(body) < int(headers.get("content-length", "0")) or data[position] != 0:
            body.append(data[position])
            position += 1
        yield lines[0].decode(), headers, bytes(body), receipt
        position += 1


def assert_read_as_by_the_reference(stream: bytes, cuts: list[int]) -> None:
    """Fail unless the parser reads what the simple parser reads, from the whole stream and from the cut one."""
    expected = list(reference(stream))

    for sizes in ([], cuts):
        parser = connected(V12)
        assert feed(parser, stream, sizes) == expected
        assert parser.error is None
        assert not parser.is_within_frame


def damage(data: st.DataObject, stream: bytes) -> bytes:
    """Replace up to three octets by up to three others, in the part that is fed in every way, or change nothing."""
    if not stream or not data.draw(st.booleans()):
        return stream
    at = data.draw(st.integers(0, min(MOST_FED, len(stream)) - 1))
    return stream[:at] + data.draw(st.binary(max_size=3)) + stream[at + data.draw(st.integers(0, 3)) :]


def sized(block: bytes, body: bytes) -> bytes:
    end = b"\r\n" if b"\r\n" in block else b"\n"
    return block[: -len(end)] + b"content-length:%d" % len(body) + end + end + body


def unsized(block: bytes, body: bytes) -> bytes:
    return block + body.replace(b"\0", b"0")


FRAMES = st.builds(
    lambda form, block, body, gap: form(block, body) + b"\0" + gap,
    st.sampled_from([sized, unsized]),
    st.sampled_from(BLOCKS),
    BODIES,
    st.sampled_from([b"", b"\n", b"\n", b"\r\n", b"\n\n\0"]),
)
STREAMS = st.lists(st.tuples(FRAMES, st.sampled_from([1, 1, 2, 5, 12, 90])), max_size=8).map(
    lambda parts: b"".join(frame * times for frame, times in parts)
)


@quick
@given(STREAMS, CUTS)
def test_runs_are_what_a_simple_parser_reads(stream: bytes, cuts: list[int]) -> None:
    """Whatever the bodies hold, and however the stream is cut."""
    assert_read_as_by_the_reference(stream, cuts)


@quick
@given(st.lists(BODIES, min_size=1, max_size=200), st.sampled_from([b"", b"\n"]), st.sampled_from([1, 12, 90]))
def test_bodies_that_look_like_frames_stay_bodies(bodies: list[bytes], gap: bytes, times: int) -> None:
    """One destination, one block: nothing but the length says where a body ends."""
    longest = max(map(len, bodies))
    padded = [body.ljust(longest, b"\0") for body in bodies]
    stream = b"".join(sized(BLOCKS[0], body) + b"\0" + gap for body in padded for _ in range(times))

    assert [frame[2] for frame in feed(connected(V12), stream, [])] == [b for b in padded for _ in range(times)]


@quick
@given(STREAMS, st.data())
@pytest.mark.row("F26")
def test_cutting_changes_nothing(stream: bytes, data: st.DataObject) -> None:
    """Neither the frames nor the error, for streams that were damaged too."""
    version = data.draw(VERSIONS)
    stream = damage(data, stream)

    feed_every_way(lambda: connected(version), stream[:MOST_FED])


RECEIPTS = st.sampled_from(["1", "22", "a-b.c:d", "", " padded", "a\\\\b", "a\\nb", "é", "x" * 64, "x" * 65, "y" * 300])
RECEIPT_FRAMES = st.builds(
    lambda form, lines, receipt, body, gap, crlf: (
        form(
            f"SEND\n{lines[0]}receipt:{receipt}\n{lines[1]}\n".encode().replace(b"\n", b"\r\n" if crlf else b"\n"), body
        )
        + b"\0"
        + gap
    ),
    st.sampled_from([sized, unsized]),
    st.sampled_from([("a:1\n", ""), ("", "a:1\n"), ("a:1\n", "b:2\n"), ("a:1\n", "receipt:other\n")]),
    RECEIPTS,
    st.sampled_from([b"", b"body", b"12345678", b"\0SEND\na:1\nreceipt:7\n\n", b"\n\n"]),
    st.sampled_from([b"", b"\n", b"\n\n"]),
    st.sampled_from([False, False, False, True]),
)
RECEIPT_STREAMS = st.lists(st.tuples(RECEIPT_FRAMES, st.sampled_from([1, 1, 5, 1100])), max_size=4).map(
    lambda parts: b"".join(
        # numbers of other lengths among them
        frame.replace(b"receipt:1\n", b"receipt:1%d\n" % number, 1)
        for frame, times in parts
        for number in range(times)
    )
)


@quick
@given(RECEIPT_STREAMS.filter(lambda stream: b"\\" not in stream), CUTS)
def test_frames_with_receipts_are_what_a_simple_parser_reads(stream: bytes, cuts: list[int]) -> None:
    """Whatever the receipts are, and however the stream is cut."""
    assert_read_as_by_the_reference(stream, cuts)


@quick
@given(RECEIPT_STREAMS, st.data())
def test_cutting_frames_with_receipts_changes_nothing(stream: bytes, data: st.DataObject) -> None:
    """Neither the frames nor the error, in any version, for streams that were damaged too, or within narrow limits."""
    version = data.draw(VERSIONS)
    limits = data.draw(st.sampled_from([Limits(), Limits(max_header_line=70), Limits(max_body=6)]))
    # of two faults in one line the limit is found first, or the other one
    if limits == Limits():
        stream = damage(data, stream)

    feed_every_way(lambda: connected(version, limits=limits), stream[:MOST_FED])


ACKS = st.builds(
    bytes.replace,
    st.sampled_from(
        [
            b"ACK\nid:N\n\n\0",
            b"ACK\nid:N\n\n\0\n",
            b"ACK\nid:N\n\n\0\n\n",
            b"ACK\nid:N\nreceipt:r\n\n\0",
            b"ACK\nid:N\ntransaction:t\n\n\0",
            b"ACK\nid:N\ncontent-length:0\n\n\0",
            b"ACK\nid: N\n\n\0",
            b"ACK\r\nid:N\r\n\r\n\0",
            b"NACK\nid:N\n\n\0",
            b"SEND\nid:N\n\nACK\nid:1-1\n\n\0",
        ]
    ),
    st.just(b"N"),
    st.sampled_from([b"1-1", b"12-34", b"12-35", b"0-0", b"0-a.b-1", b"1", b"-", b"1-", b"1-2-3", b"9" * 11 + b"-1"]),
)
ACK_STREAMS = st.lists(st.tuples(ACKS, st.sampled_from([1, 1, 3, 4, 5, 40, 1500])), max_size=5).map(
    lambda parts: b"".join(frame * times for frame, times in parts)
)


@quick
@given(ACK_STREAMS, CUTS)
def test_acks_that_come_together_are_what_a_simple_parser_reads(stream: bytes, cuts: list[int]) -> None:
    """Of whatever form, among frames of other forms, and however the stream is cut."""
    assert_read_as_by_the_reference(stream, cuts)


@quick
@given(ACK_STREAMS, st.data())
def test_cutting_acks_changes_nothing(stream: bytes, data: st.DataObject) -> None:
    """Neither the frames nor the error, in any version, for streams that were damaged too, or within narrow limits."""
    version = data.draw(VERSIONS)
    limits = data.draw(st.sampled_from([Limits(), Limits(max_header_line=8, max_headers=1)]))
    if limits == Limits():
        stream = damage(data, stream)

    feed_every_way(lambda: connected(version, limits=limits), stream[:MOST_FED])


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
NAMES = TEXT.filter(lambda name: name not in ("", "receipt", "content-length"))


def representable(text: str, version: Version) -> str:
    """What this version can say: no line ends in 1.0, no raw CR before LF, no padding in 1.0."""
    if "r" not in version.escapes:
        text = text.replace("\r", "")
    return text if version.escapes else text.replace("\n", "").strip()


@quick
@given(VERSIONS, st.dictionaries(NAMES, TEXT, max_size=5), st.binary(max_size=50), CUTS)
def test_encoded_frame_is_parsed_back(version: Version, headers: dict[str, str], body: bytes, cuts: list[int]) -> None:
    """In every version, what it can represent."""
    kept = {representable(name, version): representable(value, version) for name, value in headers.items()}
    if not version.escapes:
        kept = {name.replace(":", ""): value for name, value in kept.items()}
    kept = {name: value for name, value in kept.items() if name.strip(" \t\r") not in ("", "receipt", "content-length")}
    stream = encode_frame(version, "SEND", kept.items(), body)
    length = {"content-length": str(len(body))} if body else {}

    assert feed(connected(version), stream, cuts) == [("SEND", kept | length, body, None)]


@quick
@given(st.one_of(st.binary(max_size=300), STREAMS), VERSIONS, st.booleans(), st.data())
def test_mutated_streams_end_in_a_protocol_error_and_nothing_else(
    stream: bytes, version: Version, strict: bool, data: st.DataObject
) -> None:
    """Before and after negotiation, with limits that are soon met."""
    changed = bytearray(stream)
    for _ in range(data.draw(st.integers(0, 4))):
        if changed:
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    limits = Limits(max_header_line=200, max_headers=5, max_body=2000, max_login_frame=500)
    for parser in (Parser(limits), connected(version, limits=limits, strict=strict)):
        feed(parser, bytes(changed), data.draw(CUTS))

        assert parser.error is None or type(parser.error) is ProtocolError
