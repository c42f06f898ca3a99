"""Heads of requests, whole answers."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from forkbroker.child.web.requests import MAX_HEAD, Request, RequestError, Response, parse_head, refuse, say

HEAD = (
    b'GET /chat%20a/ws?token=x%26y&b HTTP/1.1\r\nHost: a:1\r\nCookie: a=1; s="t.u"\r\nCookie: b=2\r\n'
    b"X-Forwarded-For: 1.2.3.4\r\nx-forwarded-for:5.6.7.8 \r\n\r\n"
)


def parse(octets: bytes) -> Request:
    request = parse_head(octets)
    assert request is not None
    return request


def test_a_head_is_read_as_it_ends() -> None:
    """Names are without case, repeated headers are one, and what follows is left."""
    assert [parse_head(HEAD[:end]) for end in range(len(HEAD))] == [None] * len(HEAD)

    request = parse(HEAD + b"rest")

    assert (request.method, request.path, request.query) == ("GET", "/chat a/ws", "token=x%26y&b")
    assert request.headers["x-forwarded-for"] == "1.2.3.4, 5.6.7.8"
    assert [request.find_cookie(name) for name in ("a", "s", "b", "c")] == ["1", "t.u", "2", ""]
    assert (request.find_parameter("token"), request.find_parameter("none")) == ("x&y", "")
    assert request.octets == HEAD
    assert request.body_octets == 0


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"GET ws HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nb\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 128 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nCookie: " + b"x" * MAX_HEAD, 431),
        (b"CONNECT\naccept-version:1.2\n", 400),
        (b"STOMP\r\n", 400),
        (b"\x16\x03\x01", 400),
    ],
)
def test_what_is_no_request_is_refused(octets: bytes, status: int) -> None:
    """What two programs could read differently, too."""
    with pytest.raises(RequestError) as caught:
        parse_head(octets)

    assert caught.value.status == status


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_a_connection_stays_unless_the_client_says_otherwise(head: bytes, stays: bool) -> None:
    """RFC 9112, 9.3."""
    assert parse(head).stays is stays


@pytest.mark.parametrize(
    ("value", "token"), [("Bearer a.b.c", "a.b.c"), ("bearer  x ", "x"), ("Basic eDp5", ""), ("", "")]
)
def test_a_bearer_token_is_read(value: str, token: str) -> None:
    """Whatever the case of its scheme."""
    head = f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {value}\r\n\r\n".encode()

    assert parse(head).bearer == token


def test_a_body_may_be_of_unknown_length() -> None:
    """With Transfer-Encoding."""
    assert parse(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n").body_octets == 12
    assert parse(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").body_octets is None


def test_an_answer_says_its_length_and_whether_the_connection_stays() -> None:
    """That to HEAD has no body."""
    answer = Response(HTTPStatus.OK, b"hello", (("ETag", "1"),))

    head, _, body = answer.encode(stays=True).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nDate: ")
    assert b"\r\nETag: 1\r\nContent-Length: 5\r\nConnection: keep-alive" in head
    assert body == b"hello"
    assert answer.encode(stays=False, has_body=False).endswith(b"Connection: close\r\n\r\n")


def test_a_sentence_is_plain_text() -> None:
    """In UTF-8."""
    answer = say(HTTPStatus.NOT_FOUND, "nichts für dich")

    assert answer.body == "nichts für dich\n".encode()
    assert ("Content-Type", "text/plain; charset=utf-8") in answer.headers


def test_who_gets_no_process_is_told_when_to_come_again() -> None:
    """Whatever it was going to ask."""
    octets = refuse("too many clients", b"GET /ws HTTP/1.1\r\n")

    assert octets.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 5\r\n" in octets
    assert octets.endswith(b"\r\n\r\ntoo many clients\n")


@pytest.mark.parametrize(
    ("heard", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /any/prefix/healthz?x=1 HTTP/1.0\r\n", 200),
        (b"HEAD /healthz HTTP/1.1\r\n", 200),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /healthz HTTP/1.1\r\n", 200),
        (b"GET /readyz HTTP/1.1\r\n", 503),
        (b"GET /xhealthz HTTP/1.1\r\n", 503),
        (b"GET /healthz/x HTTP/1.1\r\n", 503),
        (b"GET /?/healthz HTTP/1.1\r\n", 503),
        (b"POST /queue/a HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\n", 503),
        (b"GET /health", 503),
        (b"", 503),
    ],
)
def test_a_probe_of_life_is_answered_whatever_the_broker_has_room_for(heard: bytes, status: int) -> None:
    """A broker that is full, or is being drained, must not be started again for that."""
    octets = refuse("too many clients", heard)

    assert octets.startswith(f"HTTP/1.1 {status} ".encode())
    assert octets.endswith(b"\r\n\r\n") == heard.startswith(b"HEAD")
