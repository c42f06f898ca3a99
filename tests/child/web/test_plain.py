"""What requests mean, as frames."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

import pytest

from forkbroker.child.web.exchange import Exchange
from forkbroker.child.web.plain import Desk
from forkbroker.child.web.requests import Request, RequestError, Response, parse_head
from forkbroker.child.web.router import Router
from forkbroker.child.web.upgrade import Origins
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.parser import Parser
from forkbroker.stomp.versions import V12


def ask(
    line: str, *headers: str, others: tuple[str, ...] = (), body: bytes = b"", fault: str = ""
) -> Response | list[dict[str, str]]:
    """The answer, or the headers of the frames that the session gets; `others`: origins."""
    exchange = Exchange(lambda: None, lambda _seconds, _callback: None)
    origins = Origins(others)

    def find_bearer(request: Request) -> str:
        return request.bearer or request.find_parameter("token")

    desk = Desk(exchange, origins, find_bearer, 1_000, lambda: fault)
    request = parse_head("\r\n".join((f"{line} HTTP/1.1", "Host: broker.example:80", *headers, "", "")).encode())
    assert isinstance(request, Request)
    answer = Router(desk.make_routes()).answer(request)
    if isinstance(answer, Response):
        return answer
    parser = Parser(Limits())
    parser.negotiated(V12)
    return [run.head.headers for run in parser.receive(exchange.receive(body))]


def refusal(line: str, *headers: str, others: tuple[str, ...] = ()) -> int:
    """The status of the answer that needs no session."""
    answer = ask(line, *headers, others=others)
    assert isinstance(answer, Response)
    return answer.status


def connect(line: str, *headers: str) -> dict[str, str]:
    """What the session is told first."""
    frames = ask(line, *headers)
    assert not isinstance(frames, Response)
    return frames[0]


def send(line: str, *headers: str) -> dict[str, str]:
    """The headers of the second frame."""
    frames = ask(line, *headers)
    assert not isinstance(frames, Response)
    return frames[1]


def basic(text: str) -> str:
    return f"Authorization: Basic {b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("target", "destination"),
    [
        ("/queue/a", "/queue/a"),
        ("/topic/a/b", "/topic/a/b"),
        ("/shop/broker/queue/a", "/queue/a"),
        ("/queue/a/queue/b", "/queue/a/queue/b"),
        ("/queue/a%2Fb%20%C3%BC?x=1", "/queue/a/b ü"),
        ("/queue/ws", "/queue/ws"),
        ("/queue/a%0Areceipt:x", "/queue/a\nreceipt:x"),
    ],
)
def test_the_path_is_the_destination(target: str, destination: str) -> None:
    """Below any prefix; what would be another header is none."""
    headers = send(f"POST {target}")

    assert headers == {"destination": destination, "content-length": "0"}


def test_headers_of_the_request_are_headers_of_the_message() -> None:
    """Those with the prefix, and some that have plain names."""
    given = send(
        "POST /queue/a",
        "Stomp-Correlation-Id: 7",
        "Stomp-Text: grüße",
        "Content-Type: text/plain",
        "Persistent: true",
        "TTL: 5",
        "Delay: 60",
        "Priority: 9",
        "Reply-To: /queue/answers",
        "User-Agent: x",
        "Accept: */*",
        "Stomp-: nothing",
    )

    assert given == {
        "destination": "/queue/a",
        "correlation-id": "7",
        "text": "grüße",
        "content-type": "text/plain",
        "persistent": "true",
        "ttl": "5",
        "x-delay": "60",
        "priority": "9",
        "reply-to": "/queue/answers",
        "content-length": "0",
    }


def test_what_browsers_say_of_a_request_is_nothing_of_the_message() -> None:
    """RFC 9218 has a header Priority, RFC 9111 one that is called Expires."""
    assert "priority" not in send("POST /queue/a", "Priority: u=1, i", "Expires: Thu, 01 Jan 1970 00:00:00 GMT")


@pytest.mark.parametrize("name", ["Destination", "Receipt", "Transaction", "Content-Length"])
def test_some_headers_are_not_the_clients(name: str) -> None:
    """The request itself says them."""
    assert refusal("POST /queue/a", f"Stomp-{name}: x") == 400


def test_there_is_no_temporary_queue_for_an_answer() -> None:
    """It would end with the connection, which ends with curl."""
    assert refusal("POST /queue/a", "Reply-To: /temp-queue/a") == 400


def test_a_login_is_that_of_connect() -> None:
    """By Basic or Bearer; the virtual host is that of the URL."""
    host = {"accept-version": "1.2", "host": "broker.example"}

    assert connect("POST /queue/a") == host
    assert connect("POST /queue/a", basic("ü:a:b")) == {**host, "login": "ü", "passcode": "a:b"}
    assert connect("POST /queue/a", "Authorization: bearer x.y") == {**host, "Authorization": "Bearer x.y"}
    assert connect("POST /queue/a?client-id=c") == {**host, "client-id": "c"}


def test_a_token_in_the_query_is_for_what_has_no_headers() -> None:
    """An EventSource has none."""
    assert connect("GET /topic/a?token=x")["Authorization"] == "Bearer x"
    assert "Authorization" not in connect("POST /queue/a?token=x")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Authorization: Basic !", 400),
        (basic("nothing"), 400),
        (basic("a:b\n"), 400),
        ("Authorization: Basic /////w==", 400),
        ("Authorization: Digest x", 401),
    ],
)
def test_a_login_that_cannot_be_read_is_refused(header: str, status: int) -> None:
    """Before there is a session."""
    answer = ask("POST /queue/a", header)

    assert isinstance(answer, Response) and answer.status == status
    assert ("WWW-Authenticate" in dict(answer.headers)) is (status == 401)


def test_pages_of_others_send_nothing() -> None:
    """A visitor's browser reaches brokers that nobody else reaches."""
    for line in ("POST /queue/a", "GET /topic/a", "OPTIONS /queue/a"):
        assert refusal(line, "Origin: https://evil.example") == 403
        assert refusal(line, "Origin: https://evil.example", others=("https://good.example",)) == 403
    assert not isinstance(ask("POST /queue/a", "Origin: http://broker.example"), Response)


def test_pages_that_may_ask_are_told_so() -> None:
    """By the answer to the browser's own question; credentials are for those that are named."""
    for others in (("https://good.example",), ("*",)):
        answer = ask(
            "OPTIONS /queue/a",
            "Origin: https://good.example",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: stomp-x",
            others=others,
        )
        assert isinstance(answer, Response) and answer.status == 204
        headers = dict(answer.headers)
        assert headers["Access-Control-Allow-Origin"] == "https://good.example"
        assert headers["Access-Control-Allow-Headers"] == "stomp-x"
        assert "POST" in headers["Access-Control-Allow-Methods"]
        assert ("Access-Control-Allow-Credentials" in headers) is (others != ("*",))
    plain = ask("OPTIONS /queue/a")
    assert isinstance(plain, Response) and "Access-Control-Allow-Origin" not in dict(plain.headers)


def test_a_topic_is_watched_by_who_takes_events() -> None:
    """Whoever names nothing takes all."""
    for accepted in ("text/event-stream", "*/*", "text/*", "text/html, */*;q=0.8"):
        assert send("GET /topic/a", f"Accept: {accepted}")["destination"] == "/topic/a"
    assert send("GET /topic/a")["id"] == "0"
    assert refusal("GET /topic/a", "Accept: application/json") == 406
    assert refusal("HEAD /topic/a") == 405
    assert refusal("GET /topic/a", "Content-Length: 5") == 400


def test_other_methods_are_told_which_ones_there_are() -> None:
    """PUT may be sent twice by whoever passes it on, and would be two messages."""
    answer = ask("PUT /queue/a")

    assert isinstance(answer, Response) and answer.status == 405
    assert answer.body == b"PUT is not possible here, but POST, GET, DELETE and OPTIONS are.\n"
    assert dict(answer.headers)["Allow"] == "POST, GET, DELETE, OPTIONS"


@pytest.mark.parametrize("path", ["/queue", "/queue/", "/a/topic/"])
def test_a_message_without_a_name_to_go_to_is_told_so(path: str) -> None:
    """What else may be there is none of its business."""
    answer = ask(f"POST {path}")

    assert isinstance(answer, Response) and answer.status == 404
    assert answer.body.startswith(b"A name is missing: ")


@pytest.mark.parametrize(
    ("path", "fault", "status", "body"),
    [
        ("/healthz", "", 200, b"ok\n"),
        ("/any/prefix/healthz", "the store is not open", 200, b"ok\n"),
        ("/readyz", "", 200, b"ready\n"),
        ("/any/prefix/readyz", "the store is not open", 503, b"the store is not open\n"),
    ],
)
def test_probes_get_an_answer(path: str, fault: str, status: int, body: bytes) -> None:
    """Without a login. A broker that takes no work is there all the same."""
    answer = ask(f"GET {path}", fault=fault)

    assert isinstance(answer, Response)
    assert (answer.status, answer.body) == (status, body)


def test_a_body_above_the_limit_is_refused_before_it_comes() -> None:
    """A client that asks first sends nothing."""
    assert refusal("POST /queue/a", "Content-Length: 1001", "Expect: 100-continue") == 413


def test_a_message_is_taken_by_get() -> None:
    """It waits for a second, and has a minute to be settled, if nothing else is said."""
    assert send("GET /queue/a")["destination"] == "/queue/a"
    assert send("GET /queue/a?wait=30.5&lease=0.25")["credit"] == "1,1"
    assert refusal("HEAD /queue/a") == 405
    assert refusal("GET /queue/a", "Accept: text/event-stream") == 406
    assert refusal("GET /queue/a", "Content-Length: 1") == 400


@pytest.mark.parametrize(
    "query", ["wait=3601", "wait=-1", "wait=soon", "wait=1e3", "lease=43201", "lease=٣", "wait=" + "9" * 5_000]
)
def test_times_have_limits(query: str) -> None:
    """An hour to wait, half a day to settle."""
    assert refusal(f"GET /queue/a?{quote(query, safe='=')}") == 400


def test_a_message_is_settled_by_its_key() -> None:
    """At the place where it was taken."""
    key = "k" * 32
    assert send(f"DELETE /queue/a?ack={key}") == {"parked": key}
    assert send(f"POST /queue/a?nack={key}") == {"parked": key}
    given = send(f"POST /queue/a?nack={key}&requeue=false&reason=no%0Ax%3Ay")
    assert given == {"parked": key, "requeue": "false", "reason": "no\nx:y"}


@pytest.mark.parametrize(
    "line",
    [
        "DELETE /queue/a",
        "DELETE /queue/a?ack=",
        "DELETE /queue/a?ack=short",
        "POST /queue/a?nack=a%0Ab",
        "POST /queue/a?nack=",
    ],
)
def test_a_key_is_needed(line: str) -> None:
    """An empty one sends no message either."""
    assert refusal(line) == 400


def test_an_image_takes_no_message() -> None:
    """A page of somebody else sends no Origin with it, but browsers say where it comes from."""
    for site in ("cross-site", "same-site"):
        assert refusal("GET /queue/a", f"Sec-Fetch-Site: {site}") == 403
    for site in ("none", "same-origin"):
        assert not isinstance(ask("GET /queue/a", f"Sec-Fetch-Site: {site}"), Response)


def test_a_durable_subscription_is_named_in_the_query() -> None:
    """The last event that the client has seen is none of the frame's business."""
    given = send("GET /topic/a?durable=mine&last-event-id=7")

    assert (given["durable-subscription-name"], given["ack"]) == ("mine", "client-individual")
    assert "durable-subscription-name" not in send("GET /topic/a")


@pytest.mark.parametrize("target", ["/queue/a%00b", "/queue/a?durable=%00", "/queue/a?ack=%2500%00"])
def test_a_nul_is_nowhere(target: str) -> None:
    """It would end a frame of STOMP."""
    with pytest.raises(RequestError, match="NUL"):
        ask(f"GET {target}")
