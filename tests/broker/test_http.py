"""Plain HTTP, as shells, scripts and pages speak it."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from broker.test_control import ask
from broker.test_users import configure
from support.deadline import wait_until
from support.rawclient import connect
from support.webclient import LISTEN
from support.webhttp import (
    NEEDS_CURL,
    Events,
    ask_http,
    basic,
    curl,
    exchange,
    open_http,
    open_raw,
    read_all,
    read_answer,
    statuses,
)

from forkbroker.testing.broker import RunningBroker

POST = b"POST /queue/%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    """One for all tests that want nothing special."""
    with RunningBroker(*LISTEN, "--max-body", "5MiB", "--frame-timeout", "1s") as broker:
        yield broker
        assert broker.stop() == 0
        assert broker.survivors == []
        assert not [line for line in broker.log if "Traceback" in line]


def receive(broker: RunningBroker, name: str, count: int = 1) -> list[tuple[bytes, dict[str, str]]]:
    """Take messages from a queue."""
    with connect(broker.port) as client:
        client.subscribe(f"/queue/{name}")
        frames = [client.receive() for _ in range(count)]
        return [(frame.body, dict(reversed(frame.headers))) for frame in frames]


def test_a_request_is_a_message(broker: RunningBroker) -> None:
    """With its headers; below any prefix."""
    status, body, headers = ask_http(
        broker,
        "POST",
        "/any/prefix/queue/one",
        b"a\0b",
        Content_Type="text/x",
        Stomp_Colour="blue:green",
        Persistent="true",
    )

    assert (status, body, headers["connection"]) == (201, b"", "keep-alive")
    [(body, message)] = receive(broker, "one")
    assert body == b"a\0b"
    assert (message["content-type"], message["colour"], message["persistent"]) == ("text/x", "blue:green", "true")
    assert message["destination"] == "/queue/one"


def test_a_connection_takes_one_request_after_the_other(broker: RunningBroker) -> None:
    """Of all kinds; the process is the same, and so is the session."""
    with closing(open_http(broker)) as client:
        found = []
        for method, path in [
            ("GET", "/healthz"),
            ("POST", "/queue/many"),
            ("GET", "/nothing"),
            ("POST", "/queue/many"),
        ]:
            client.request(method, path, b"x" if method == "POST" else None)
            found.append(read_answer(client.getresponse())[0])

    assert found == [200, 201, 404, 201]
    assert len(receive(broker, "many", 2)) == 2


def test_requests_may_come_before_the_answers(broker: RunningBroker) -> None:
    """They are answered in order, also if the client has said its last word."""
    answers = exchange(broker, b"".join(POST % (b"pipe", 2, b"%02d" % number) for number in range(50)))

    assert statuses(answers) == [201] * 50
    assert [body for body, _ in receive(broker, "pipe", 50)] == [b"%02d" % number for number in range(50)]


@pytest.mark.parametrize("size", [1, 70_000, 1_000_000, 5 * 1_048_576])
def test_bodies_of_all_sizes_arrive(broker: RunningBroker, size: int) -> None:
    """With a length, or in chunks."""
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)

    assert ask_http(broker, "POST", "/queue/sizes", body)[0] == 201
    with closing(open_http(broker)) as client:
        parts = iter([body[:1000], body[1000:]])
        client.request("POST", "/queue/sizes", parts, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        assert read_answer(client.getresponse())[0] == 201
    assert [found for found, _ in receive(broker, "sizes", 2)] == [body, body]


def test_a_body_above_the_limit_is_refused(broker: RunningBroker) -> None:
    """Before it has come; one in chunks as soon as it is known."""
    head = b"POST /queue/large HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"

    announced = exchange(broker, head + b"Content-Length: 5242881\r\n\r\n")
    in_chunks = exchange(broker, head + b"Transfer-Encoding: chunked\r\n\r\n500001\r\n")
    assert statuses(announced) == [413] and b"5,242,880" in announced
    assert statuses(in_chunks)[-1] == 413


def test_messages_come_as_events(broker: RunningBroker) -> None:
    """Lines as lines, what is no text in base64; in order, and from any client."""
    with closing(Events(broker, "/topic/news")) as events, connect(broker.port) as worker:
        assert b"text/event-stream" in events.head
        assert ask_http(broker, "POST", "/topic/news", "één\r\ntwo".encode())[0] == 201
        assert next(events)["data"] == "één\ntwo"
        worker.send("SEND", destination="/topic/news", body=b"\xff\0")
        event = next(events)
        assert (event["event"], b64decode(event["data"])) == ("base64", b"\xff\0")
        for number in range(100):
            worker.send("SEND", destination="/topic/news", body=b"%d" % number)
        many = [next(events) for _ in range(100)]
        assert [event["data"] for event in many] == [str(number) for number in range(100)]
        assert len({event["id"] for event in many}) == 100


def test_a_durable_subscription_goes_on_where_it_was(broker: RunningBroker) -> None:
    """What came while nobody was there is there; what was seen is not sent again, what was not is."""
    path = "/topic/kept?durable=mine"
    with closing(Events(broker, path)) as events, connect(broker.port) as worker:
        for number in range(3):
            worker.publish("/topic/kept", str(number))
        seen = [next(events) for _ in range(3)]
        assert [event["data"] for event in seen] == ["0", "1", "2"]
        events.close()
        wait_until(lambda: not any("1 subscription" in title for _, title in broker.children()), "the end")
        worker.publish("/topic/kept", "3")
        worker.sync()
    with closing(Events(broker, path, f"Last-Event-ID: {seen[1]['id']}")) as events:
        found = [next(events) for _ in range(2)]
        assert [event["data"] for event in found] == ["2", "3"]
    wait_until(lambda: not any("1 subscription" in title for _, title in broker.children()), "the end")
    with closing(Events(broker, f"{path}&last-event-id={found[1]['id']}")) as events:
        assert ask_http(broker, "POST", "/topic/kept", b"4")[0] == 201
        assert next(events)["data"] == "4"


def test_a_large_message_is_one_event(broker: RunningBroker) -> None:
    """Larger than any buffer on the way."""
    body = b"line\n" * 500_000
    with closing(Events(broker, "/topic/large")) as events:
        assert ask_http(broker, "POST", "/topic/large", body)[0] == 201
        assert next(events)["data"] == body.decode()


def test_who_watches_and_goes_leaves_no_process(broker: RunningBroker) -> None:
    """The end of the connection is the end of the subscription."""
    broker.wait_for_children(0)
    with closing(Events(broker, "/topic/gone")):
        wait_until(lambda: any("1 subscription" in title for _, title in broker.children()), "a subscription")
    broker.wait_for_children(0)


def test_a_client_that_goes_in_the_middle_sends_nothing(broker: RunningBroker) -> None:
    """Half a message is none."""
    with open_raw(broker) as client:
        client.sendall(POST % (b"half", 5, b"hal"))
    with open_raw(broker) as client:
        client.sendall(b"POST /queue/half HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhal\r\n")
    assert ask_http(broker, "POST", "/queue/half", b"whole")[0] == 201
    assert [body for body, _ in receive(broker, "half")] == [b"whole"]


def test_a_body_that_does_not_come_has_an_end(broker: RunningBroker) -> None:
    """The client is told, and the process is free."""
    with open_raw(broker) as client:
        client.sendall(POST % (b"slow", 5, b"sl"))
        answer = read_all(client)

    assert statuses(answer) == [408]
    assert b"frame-timeout" in answer


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 40",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding : chunked",
        "Content-Length: 4\r\n Transfer-Encoding: chunked",
        "X: 1\nTransfer-Encoding: chunked",
    ],
)
def test_what_two_programs_read_differently_is_read_by_none(broker: RunningBroker, lines: str) -> None:
    """The request behind such a head is not carried out, whatever the head means."""
    hidden = b"0\r\n\r\n" + POST % (b"smuggled", 1, b"x")
    answers = exchange(broker, f"POST /queue/front HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n".encode() + hidden)

    assert len(statuses(answers)) == 1 and statuses(answers)[0] in (400, 501)
    assert b"Connection: close" in answers
    with connect(broker.port) as client:
        client.subscribe("/queue/smuggled")
        client.sync()
        client.expect_nothing()


def test_an_error_of_the_broker_is_the_answer(broker: RunningBroker) -> None:
    """Requests behind it have none: the connection is over."""
    bad = b"POST /queue/a HTTP/1.1\r\nHost: x\r\nTTL: soon\r\nContent-Length: 0\r\n\r\n"
    answers = exchange(broker, bad + POST % (b"behind", 1, b"x"))

    assert statuses(answers) == [400]
    assert b"ttl is 'soon'; it must be a whole number" in answers


def test_a_topic_that_may_not_be_watched_is_an_error(broker: RunningBroker) -> None:
    """And no stream of events."""
    status, body, _ = ask_http(broker, "GET", "/topic/" + "*." * 70 + "a")

    assert status == 400 and b"levels" in body


def probe(broker: RunningBroker, path: str) -> tuple[int, bytes]:
    return ask_http(broker, "GET", path)[:2]


def test_probes_tell_life_from_readiness(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """A broker that is drained is there, and takes no work; that is over when it is drained no more."""
    broker = make_broker(*LISTEN, "--listen", f"unix:{tmp_path}/socket")
    wait_until(lambda: probe(broker, "/readyz") == (200, b"ready\n"), "the broker to be ready")
    with connect(f"{tmp_path}/socket") as admin, closing(open_http(broker)) as kept:

        def ask_kept(path: str) -> tuple[int, bytes]:
            kept.request("GET", path)
            return read_answer(kept.getresponse())[:2]

        assert ask_kept("/readyz") == (200, b"ready\n")
        assert ask(admin, "drain")["ok"]
        # the connection was there before
        wait_until(lambda: ask_kept("/readyz") == (503, b"the broker is being drained\n"), "the connection to know it")
        assert ask_kept("/healthz") == (200, b"ok\n")
        assert probe(broker, "/healthz") == (200, b"ok\n")
        assert probe(broker, "/readyz") == (503, b"the broker is being drained, connect to another one\n")
        assert ask(admin, "undrain")["ok"]
        wait_until(lambda: probe(broker, "/readyz")[0] == 200, "the broker to be ready again")


def test_a_broker_that_is_full_is_alive_and_not_ready(make_broker: Callable[..., RunningBroker]) -> None:
    """The probe has no process of its own then."""
    broker = make_broker(*LISTEN, "--max-clients", "1")
    with connect(broker.port):
        assert probe(broker, "/healthz") == (200, b"ok\n")
        status, text = probe(broker, "/readyz")
        assert status == 503 and b"too many clients" in text


def test_a_broker_whose_store_is_stopped_is_not_ready(make_broker: Callable[..., RunningBroker]) -> None:
    """Until it writes again: the connection of the probe stays."""
    broker = make_broker(*LISTEN, "--disk-free", "1000000GiB")
    wait_until(lambda: probe(broker, "/readyz") == (503, b"the store takes nothing\n"), "the broker not to be ready")
    assert probe(broker, "/healthz") == (200, b"ok\n")


def test_each_user_has_rights(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """Without a login there are none here; a wrong one is as wrong as in STOMP. The log names the user."""
    tables = '[permissions.user.alice]\nwrite = ["/queue/jobs"]\ncreate = ["/queue/jobs"]\n'
    broker = make_broker(*LISTEN, "--config", str(configure(tmp_path, ["alice", "bob"], tables)))

    for given in ({}, {"Authorization": basic("alice", "wrong")}):
        status, body, headers = ask_http(broker, "POST", "/queue/jobs", b"x", **given)
        assert status == 401
        assert headers["www-authenticate"].startswith("Basic ")
    assert ask_http(broker, "POST", "/queue/jobs", b"x", Authorization=basic("alice", "alice"))[0] == 201
    status, body, _ = ask_http(broker, "POST", "/queue/jobs", b"x", Authorization=basic("bob", "bob"))
    assert status == 403 and b"/queue/jobs" in body
    assert ask_http(broker, "GET", "/topic/a", Authorization=basic("alice", "alice"))[0] == 403
    assert ask_http(broker, "GET", "/healthz")[0] == 200
    broker.wait_for_log("client .* bob: disconnected, permission denied")
    assert not [line for line in broker.log if "wrong" in line and "passcode is" in line]


def test_a_connection_is_one_users(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """Requests of another one are for another connection, as a proxy might mix them."""
    broker = make_broker(*LISTEN, "--config", str(configure(tmp_path, ["alice", "bob"], "")))

    with closing(open_http(broker)) as client:
        found = []
        for user in ("alice", "bob", "alice"):
            client.request("POST", "/queue/a", headers={"Authorization": basic(user, user)})
            found.append(read_answer(client.getresponse())[0])
    assert found == [201, 421, 201]


def test_a_full_queue_refuses(make_broker: Callable[..., RunningBroker]) -> None:
    """507, with what is full."""
    broker = make_broker(*LISTEN, "--policy", "/queue/small max-length=2 full=refuse")

    found = [ask_http(broker, "POST", "/queue/small", b"x") for _ in range(3)]
    assert [status for status, _, _ in found] == [201, 201, 507]
    assert b"/queue/small" in found[2][1]


def test_pages_need_an_origin_that_is_permitted(make_broker: Callable[..., RunningBroker]) -> None:
    """As for WebSocket; the browser is told that the page may see the answer."""
    broker = make_broker(*LISTEN, "--web-origin", "https://good.example")

    status, _, headers = ask_http(broker, "POST", "/queue/a", b"x", Origin="https://good.example")
    assert status == 201
    assert headers["access-control-allow-origin"] == "https://good.example"
    assert ask_http(broker, "POST", "/queue/a", b"x", Origin="https://evil.example")[0] == 403
    assert ask_http(broker, "OPTIONS", "/queue/a", Origin="https://good.example")[0] == 204


def test_the_end_of_the_broker_is_the_end_of_events(make_broker: Callable[..., RunningBroker]) -> None:
    """And of connections that wait for a request: nothing is left."""
    broker = make_broker(*LISTEN)

    with closing(Events(broker, "/topic/a")) as events, closing(open_http(broker)) as client:
        client.request("POST", "/queue/a")
        assert read_answer(client.getresponse())[0] == 201
        assert broker.stop() == 0
        with pytest.raises(AssertionError, match="has ended"):
            next(events)


@NEEDS_CURL
def test_curl_uploads_what_it_reads(broker: RunningBroker) -> None:
    """In chunks, and with a question before it; nothing is printed if all is well."""
    body = b"x" * 2_000_000

    assert curl(broker, "-f", "-X", "POST", "-T", "-", "http://127.0.0.1:15674/queue/curl", stdin=body) == ""
    assert curl(broker, "-f", "--data-binary", "@-", "http://127.0.0.1:15674/queue/curl", stdin=body) == ""
    assert [found for found, _ in receive(broker, "curl", 2)] == [body, body]
