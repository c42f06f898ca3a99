"""Where the bodies of requests end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.child.web.bodies import ChunkedBody, SizedBody, make_body
from forkbroker.child.web.requests import RequestError, parse_head


def read(body: SizedBody | ChunkedBody, octets: bytes, cuts: Sequence[int] = ()) -> tuple[bytes, bytes]:
    """What the body is, and what is behind it, if the octets come in these parts."""
    places = sorted({0, len(octets), *(cut % (len(octets) + 1) for cut in cuts)})
    own, rest = b"", b""
    for begin, end in pairwise(places):
        part = octets[begin:end]
        if body.is_complete:
            rest += part
        else:
            found, rest = body.receive(part)
            own += found
    return own, rest


def in_chunks(parts: Sequence[bytes], *, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    chunks = b"".join(b"%X%b\r\n%b\r\n" % (len(part), extension, part) for part in parts if part)
    return chunks + b"0\r\n" + trailers + b"\r\n"


CUTS = st.lists(st.integers(0, 1000), max_size=12)


@given(st.binary(max_size=200), st.binary(max_size=50), CUTS)
def test_a_body_with_a_length_ends_there(body: bytes, behind: bytes, cuts: list[int]) -> None:
    """However it comes."""
    assert read(SizedBody(len(body)), body + behind, cuts) == (body, behind)


@given(st.lists(st.binary(max_size=40), max_size=6), st.binary(max_size=50), CUTS)
def test_chunks_are_put_together(parts: list[bytes], behind: bytes, cuts: list[int]) -> None:
    """What is behind the last one is the next request's; extensions and trailers are nobody's."""
    octets = in_chunks(parts, extension=b' ;a="b"', trailers=b"X-Sum: 1\r\nX-More:\r\n")

    assert read(ChunkedBody(1_000), octets + behind, cuts) == (b"".join(parts), behind)


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b"+1\r\n",
        b" 1\r\n",
        b"1_0\r\n",
        b"123456789\r\n",
        b"1\n",
        b"1 2\r\n",
        b"1;\x01\r\n",
        b"2\r\nabc",
        b"2\r\nab\n",
        b"2\r\nab\r\r",
        b"0\r\n Folded: 1\r\n",
        b"0\r\nno header\r\n",
        b"0\r\na: 1\n\n",
        b"1" + b";" * 1_100,
        b"0\r\n" + b"a: 1\r\n" * 17,
    ],
)
@pytest.mark.parametrize("is_whole", [True, False])
def test_what_others_may_read_differently_is_refused(octets: bytes, is_whole: bool) -> None:
    """RFC 9112, 7.1, by the letter; also if it comes octet for octet."""
    with pytest.raises(RequestError) as raised:
        read(ChunkedBody(1_000), octets, () if is_whole else range(len(octets)))

    assert raised.value.status == 400


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_body_in_chunks_has_a_limit(is_whole: bool) -> None:
    """It is known before the octets have come."""
    octets = in_chunks([b"x" * 60])
    body = ChunkedBody(100)
    read(body, octets.removesuffix(b"0\r\n\r\n"))
    with pytest.raises(RequestError) as raised:
        read(body, b"29\r\n", () if is_whole else range(4))

    assert raised.value.status == 413
    assert read(ChunkedBody(60), octets) == (b"x" * 60, b"")


def head(*lines: str, version: str = "1.1") -> bytes:
    return "\r\n".join((f"POST /queue/a HTTP/{version}", "Host: x", *lines, "", "")).encode()


def status_of(octets: bytes) -> int:
    """Of the refusal of a body of at most 100 octets; 0: it is taken."""
    try:
        request = parse_head(octets)
        assert request is not None
        make_body(request, 100)
    except RequestError as error:
        return error.status
    return 0


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (head(), 0),
        (head("Content-Length: 100"), 0),
        (head("Content-Length: 101"), 413),
        (head("Transfer-Encoding: chunked"), 0),
        (head("Transfer-Encoding: Chunked"), 0),
        (head("Transfer-Encoding: chunked", version="1.0"), 501),
        (head("Transfer-Encoding: gzip, chunked"), 501),
        (head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 501),
        (head("Transfer-Encoding: identity"), 501),
        (head("Transfer-Encoding: xchunked"), 501),
        (head("Transfer-Encoding:"), 501),
        (head("Transfer-Encoding: chunked", "Content-Length: 5"), 400),
        (head("Content-Length: 5", "Content-Length: 5"), 400),
        (head("Content-Length: 5, 5"), 400),
        (head("Content-Length: +5"), 400),
        (head("Content-Length : 5"), 400),
        (head("Content-Length: 5\r\n folded"), 400),
        (head("Content-Length: 0x5"), 400),
    ],
)
def test_only_one_reading_of_a_head_is_taken(octets: bytes, status: int) -> None:
    """The shapes of request smuggling: two lengths, a length and chunks, a coding that hides another."""
    assert status_of(octets) == status
