"""Requests of one connection, without a connection; the test says what the session says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.child.web.bodies import make_body
from forkbroker.child.web.errands import Posting, Resuming, Taking, Watching
from forkbroker.child.web.exchange import Exchange, Login
from forkbroker.child.web.requests import Response, parse_head
from forkbroker.session.policy import FRAME_PROGRESS
from forkbroker.stomp.encoder import encode_frame
from forkbroker.stomp.versions import V12
from forkbroker.wire.kinds import Cause
from forkbroker.wire.memory_file import MemoryFile

ALICE, BOB = Login((("login", "alice"), ("passcode", "a:b"))), Login((("login", "bob"),))
CONNECTED = encode_frame(V12, "CONNECTED", [("version", "1.2")])
RECEIPT = encode_frame(V12, "RECEIPT", [("receipt-id", "done")])


class Talk:
    """One exchange, and how often the session was told that the client is there."""

    def __init__(self) -> None:
        self.times_heard = 0
        self.alarms: list[tuple[float, Callable[[], None]]] = []
        self.exchange = Exchange(self._hear, lambda seconds, callback: self.alarms.append((seconds, callback)))

    def _hear(self) -> None:
        self.times_heard += 1

    def post(self, *headers: str, login: Login = ALICE, version: str = "1.1") -> Response | Exchange:
        """Begin to send a message."""
        octets = "\r\n".join((f"POST /queue/a HTTP/{version}", "Host: x", *headers, "", "")).encode()
        request = parse_head(octets)
        assert request is not None
        errand = Posting([("destination", "/queue/a")], make_body(request, 10**6))
        return self.exchange.begin(request, login, errand, (("X", "y"),))

    def watch(self) -> None:
        """Begin to watch a topic."""
        request = parse_head(b"GET /topic/a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert request is not None
        self.exchange.begin(request, ALICE, Watching([("destination", "/topic/a")], ()))

    def take(self) -> None:
        """Begin to take a message."""
        request = parse_head(b"GET /queue/a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert request is not None
        errand = Taking([("destination", "/queue/a")], "k" * 32, wait_s=30.0, lease_ms=1)
        self.exchange.begin(request, ALICE, errand)

    def say(self, *frames: bytes, cuts: Sequence[int] = ()) -> bytes:
        """What the client gets of these frames."""
        rest, answer = b"".join(frames), b""
        for cut in (*cuts, len(rest)):
            part, rest = rest[:cut], rest[cut:]
            while part:
                octets, used = self.exchange.send([part[:3], part[3:]])
                answer += bytes(octets)
                part = part[used:]
        return answer

    def fail(self, message: str, cause: Cause, detail: str = "it is so") -> bytes:
        """The answer, if the session ends with this ERROR."""
        headers = [("message", message), ("content-type", "text/plain")]
        return self.say(encode_frame(V12, "ERROR", headers, f"{detail}\n".encode())) + self.exchange.close(cause)


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_the_first_request_connects(talk: Talk) -> None:
    """As its user; what a passcode has in it comes through."""
    talk.post("Content-Length: 1")

    connect, send = talk.exchange.receive(b"x").split(b"\0\n", 1)
    assert connect == b"CONNECT\naccept-version:1.2\nlogin:alice\npasscode:a:b\n\n"
    assert send.startswith(b"SEND\n") and send.endswith(b"\n\nx\0\n")
    assert talk.say(CONNECTED) == b""
    answer = talk.say(RECEIPT)
    assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
    assert b"\r\nX: y\r\n" in answer and b"Connection: keep-alive" in answer
    assert talk.exchange.is_free and not talk.exchange.is_over


def test_the_next_request_does_not_connect_again(talk: Talk) -> None:
    """Unless it is somebody else's: then it is refused, and the first one may go on."""
    for number in range(3):
        assert talk.post() is talk.exchange
        assert talk.exchange.has_more
        assert talk.exchange.receive(b"").count(b"CONNECT\n") == (not number)
        assert not talk.exchange.has_more
        talk.say(RECEIPT)
    answer = talk.post(login=BOB)

    assert isinstance(answer, Response) and answer.status == 421
    assert talk.exchange.is_free


def test_requests_before_the_answer_wait(talk: Talk) -> None:
    """They are there when the answer is."""
    talk.post("Content-Length: 2")
    talk.exchange.receive(b"abPOST /more")
    talk.exchange.receive(b" HTTP/1.1")

    assert not talk.exchange.is_free and not talk.exchange.has_more
    talk.say(RECEIPT)
    assert talk.exchange.is_free and talk.exchange.has_more
    assert talk.exchange.rest == b"POST /more HTTP/1.1"


def test_a_request_that_ends_the_connection_ends_it(talk: Talk) -> None:
    """Behind its answer."""
    talk.post("Connection: close")

    assert b"Connection: close" in talk.say(RECEIPT)
    assert talk.exchange.is_over
    assert talk.exchange.close(Cause.ASKED) == b""


def test_a_client_that_asks_may_send_the_body_once_it_is_known(talk: Talk) -> None:
    """Not before its login is verified; one of HTTP/1.0 knows nothing of that, and without a body there is no need."""
    expects = "Expect: 100-continue"
    talk.post(expects, "Content-Length: 1")
    assert talk.exchange.outgoing == b""
    assert talk.say(CONNECTED) == b"HTTP/1.1 100 Continue\r\n\r\n"
    talk.exchange.receive(b"x")
    talk.say(RECEIPT)
    talk.post(expects, "Content-Length: 1")
    assert talk.exchange.outgoing == b"HTTP/1.1 100 Continue\r\n\r\n"

    for headers, version in [
        ((expects,), "1.1"),
        ((expects, "Content-Length: 1"), "1.0"),
        (("Content-Length: 1",), "1.1"),
    ]:
        other = Talk()
        other.post(*headers, version=version)
        assert other.say(CONNECTED) == b""


def test_a_broken_body_is_answered(talk: Talk) -> None:
    """What follows it is nothing."""
    talk.post("Transfer-Encoding: chunked")

    assert b"SEND" not in talk.exchange.receive(b"zz\r\nPOST / HTTP/1.1")
    assert talk.exchange.outgoing.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert talk.exchange.is_over and not talk.exchange.has_more


def test_a_body_in_chunks_has_to_grow(talk: Talk) -> None:
    """The session sees nothing of it until it is whole: it is told now and then that the client is there."""
    talk.post("Transfer-Encoding: chunked")
    talk.exchange.receive(b"%X\r\n" % (2 * FRAME_PROGRESS))
    for _ in range(4):
        talk.exchange.receive(b"x" * (FRAME_PROGRESS // 2))

    assert talk.times_heard == 2


def test_who_waits_may_be_silent(talk: Talk) -> None:
    """Who is to send something may not, and neither may who has nothing to wait for."""
    talk.post("Content-Length: 1")
    talk.exchange.tick()
    assert talk.times_heard == 0
    talk.exchange.receive(b"x")
    talk.exchange.tick()
    assert talk.times_heard == 1
    talk.say(CONNECTED, RECEIPT)
    talk.exchange.tick()
    assert talk.times_heard == 1
    talk.watch()
    talk.say(RECEIPT)
    talk.exchange.tick()
    assert talk.times_heard == 2
    assert talk.exchange.outgoing == b":\n\n"
    assert talk.say(encode_frame(V12, "MESSAGE", [("message-id", "1")], b"x")) == b":\n\nid: 1\ndata: x\n\n"


@pytest.mark.parametrize(
    ("message", "cause", "status"),
    [
        ("login failed", Cause.DENIED, 401),
        ("permission denied", Cause.DENIED, 403),
        ("refused", Cause.FULL, 507),
        ("too many clients", Cause.FULL, 503),
        ("body too large", Cause.FAULT, 413),
        ("missed heart-beat", Cause.FAULT, 408),
        ("incomplete frame", Cause.FAULT, 408),
        ("bad SEND", Cause.FAULT, 400),
        ("the broker ends", Cause.AWAY, 503),
        ("kicked", Cause.ASKED, 400),
    ],
)
def test_an_error_is_the_answer(talk: Talk, message: str, cause: Cause, status: int) -> None:
    """With what it says, and the end of the connection."""
    talk.post()
    talk.exchange.receive(b"")
    head, _, body = talk.fail(message, cause).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode()))
    assert b"\r\nConnection: close" in head and b"\r\nX: y\r\n" in head
    assert (b"it is so" in body) is (status != 401)
    assert head.count(b"WWW-Authenticate: ") == 2 * (status == 401)
    assert talk.exchange.is_over


def test_an_error_between_requests_is_no_answer(talk: Talk) -> None:
    """A client that reads one would take it for that of its next request."""
    assert talk.fail("the broker ends", Cause.AWAY) == b""
    other = Talk()
    other.watch()
    other.say(RECEIPT)
    assert other.fail("the broker ends", Cause.AWAY) == b""


def test_a_session_that_ends_without_a_word_is_told(talk: Talk) -> None:
    """As when the client has shut down its side behind half a body."""
    talk.post("Content-Length: 5")

    assert talk.exchange.close(Cause.ASKED).startswith(b"HTTP/1.1 400 ")
    assert talk.exchange.close(Cause.ASKED) == b""
    other = Talk()
    other.take()
    assert other.exchange.close(Cause.ASKED).startswith(b"HTTP/1.1 503 ")


@given(st.lists(st.integers(0, 40), max_size=10), st.lists(st.integers(0, 60), max_size=10))
def test_octets_may_come_in_any_parts(cuts_of_client: list[int], cuts_of_session: list[int]) -> None:
    """From the client and from the session."""
    talk = Talk()
    talk.post("Content-Length: 30")
    stream, body = b"", b"\0" * 30 + b"POST / HTTP/1.1\r\n"
    for cut in (*cuts_of_client, len(body)):
        stream += talk.exchange.receive(body[:cut])
        body = body[cut:]

    assert stream.endswith(b"\n\n" + b"\0" * 31 + b"\n")
    assert talk.exchange.rest == b"POST / HTTP/1.1\r\n"
    answer = talk.say(CONNECTED, b"\n", RECEIPT, cuts=cuts_of_session)
    assert answer.startswith(b"HTTP/1.1 201 ") and answer.count(b"HTTP/1.1") == 1


def test_frames_in_a_file_are_events_as_well(talk: Talk) -> None:
    """Large ones come so."""
    talk.watch()
    talk.say(RECEIPT)
    frames = b"..." + encode_frame(V12, "MESSAGE", [("message-id", "1")], b"x" * 100_000)
    file = MemoryFile.make([frames])
    events, offset = b"", 3
    while offset < len(frames):
        octets, used = talk.exchange.send_file(file, offset, len(frames) - offset)
        events, offset = events + bytes(octets), offset + used

    assert events == b"id: 1\ndata: " + b"x" * 100_000 + b"\n\n"


def test_a_request_that_waits_ends_by_itself(talk: Talk) -> None:
    """When its time has come; not another one in its place."""
    talk.take()
    talk.exchange.receive(b"")
    [(seconds, expire)] = talk.alarms
    assert seconds == 30.0
    expire()
    assert talk.exchange.has_more
    assert talk.exchange.receive(b"").startswith(b"UNSUBSCRIBE\n")
    assert talk.say(RECEIPT).startswith(b"HTTP/1.1 204 ")
    talk.take()
    talk.exchange.receive(b"")
    expire()
    assert not talk.exchange.has_more


def test_what_follows_from_a_frame_is_said(talk: Talk) -> None:
    """The session is asked for more, though the client has sent nothing."""
    talk.take()
    talk.exchange.receive(b"")
    assert talk.say(CONNECTED, encode_frame(V12, "MESSAGE", [("message-id", "1"), ("ack", "1-1")], b"x")) == b""

    assert talk.exchange.has_more
    assert talk.exchange.receive(b"").startswith(b"ACK\n")


def test_a_refusal_means_what_the_errand_says(talk: Talk) -> None:
    """Of a SEND, that there is no room; of a message that is taken, that it is gone again."""
    talk.take()
    assert talk.fail("refused", Cause.FULL).startswith(b"HTTP/1.1 503 ")


def test_what_an_errand_says_in_its_time_goes_to_the_client(talk: Talk) -> None:
    """It is there without anything that has come."""
    request = parse_head(b"GET /topic/a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert request is not None
    talk.exchange.begin(request, ALICE, Resuming([("destination", "/topic/a")], (), "gone"))
    talk.exchange.receive(b"")
    frame = encode_frame(V12, "MESSAGE", [("message-id", "1"), ("ack", "1-1"), ("redelivered", "true")], b"x")
    assert b"data: x" not in talk.say(RECEIPT, frame)
    [(_, expire)] = talk.alarms
    expire()

    assert talk.exchange.has_more
    assert talk.exchange.outgoing == b"id: 1\ndata: x\n\n"


def test_an_errand_may_want_its_time_again(talk: Talk) -> None:
    """As long as it says so, one alarm at a time."""
    request = parse_head(b"GET /topic/a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert request is not None
    talk.exchange.begin(request, ALICE, Resuming([("destination", "/topic/a")], (), ""))
    talk.exchange.receive(b"")
    talk.say(RECEIPT)
    assert talk.alarms == []
    for number in range(2):
        for again in ("a", "b"):
            ident = f"{number}{again}"
            headers = [("message-id", ident), ("ack", ident), ("redelivered", "true")]
            talk.say(encode_frame(V12, "MESSAGE", headers, b"x"))
        for half in (1, 2):
            # what came while the first one's time ran has another
            assert len(talk.alarms) == 2 * number + half
            talk.alarms[-1][1]()
            assert talk.exchange.receive(b"").count(b"ACK\n") == 1
    assert len(talk.alarms) == 4
