"""STOMP over WebSocket, as pages and other programs speak it."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import jwt
import pytest
from broker.test_users import line
from support.certificates import HAS_OPENSSL, make_certificate
from support.rawclient import RawClient, connect
from support.webclient import LISTEN, WebClient, url_of
from support.webhttp import ask_http
from websockets.exceptions import InvalidStatus

from forkbroker.testing.broker import PATIENCE_S, RunningBroker


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    """One for all tests that want nothing special."""
    with RunningBroker(*LISTEN, "--heart-beat", "1000,1000", "--frame-timeout", "1s") as broker:
        yield broker
        assert broker.stop() == 0
        assert broker.survivors == []
        assert not [line for line in broker.log if "Traceback" in line]


def ask(broker: RunningBroker, request: bytes) -> bytes:
    """Everything that answers these octets."""
    host, port = url_of(broker, path="").removeprefix("ws://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
        client.sendall(request)
        answer = b""
        while octets := client.recv(65_536):
            answer += octets
    return answer


@pytest.mark.parametrize("path", ["/", "/ws", "/stomp", "/ws/websocket", "/shop/broker/ws"])
def test_a_message_goes_round(broker: RunningBroker, path: str) -> None:
    """Each frame is a message of text, without anything behind its NUL."""
    with WebClient(broker, path, subprotocols=["v10.stomp", "v12.stomp", "v11.stomp"]) as client:
        assert client.link.subprotocol == "v12.stomp"
        assert client.login().startswith("CONNECTED\nversion:1.2\n")
        client.subscribe("/topic/a")
        client.send("SEND", "grüße", destination="/topic/a")
        message = client.receive()
        assert isinstance(message, str)
        assert message.startswith("MESSAGE\nsubscription:0\n")
        assert message.endswith("\n\ngrüße\0")


def test_clients_of_both_kinds_meet(broker: RunningBroker) -> None:
    """A hundred messages of a batch are a hundred messages; what is no UTF-8 is binary."""
    with WebClient(broker) as page, connect(broker.port) as worker:
        page.login()
        page.subscribe("/queue/both")
        for number in range(100):
            worker.send("SEND", destination="/queue/both", body=b"%d" % number)
        worker.send("SEND", destination="/queue/both", body=b"\xff\0")
        messages = [page.receive() for _ in range(101)]
        assert all(isinstance(message, str) for message in messages[:100])
        assert [str(message).partition("\n\n")[2] for message in messages[:100]] == [f"{n}\0" for n in range(100)]
        assert isinstance(messages[100], bytes)
        assert messages[100].endswith(b"\n\n\xff\0\0")


def test_frames_come_in_any_parts_and_packings(broker: RunningBroker) -> None:
    """Text and binary, one after the other, within a message or over several of them."""
    with WebClient(broker) as client:
        client.login()
        client.subscribe("/topic/parts")
        whole = b"".join(b"SEND\ndestination:/topic/parts\n\n%d\0\n" % number for number in range(5))
        client.link.send(whole[:40].decode())
        client.link.send(whole[40:41])
        client.link.send([whole[41:50].decode(), whole[50:90].decode(), whole[90:].decode()])
        assert [str(client.receive())[-2] for _ in range(5)] == list("01234")


def test_a_large_body_goes_both_ways(broker: RunningBroker) -> None:
    """Longer than what is read, made or written at once."""
    body = "ü" * 1_500_000
    with WebClient(broker) as client:
        client.login()
        client.subscribe("/topic/large")
        client.send("SEND", body, destination="/topic/large")
        message = client.receive()
        assert isinstance(message, str)
        assert message.partition("\n\n")[2] == f"{body}\0"


def test_heart_beats_are_messages_of_one_line_feed(broker: RunningBroker) -> None:
    """In both directions: the client's are nothing else."""
    with WebClient(broker) as client:
        client.login(heart_beat="1000,1000")
        client.link.send("\n")
        assert client.link.recv(timeout=PATIENCE_S) == "\n"
        client.subscribe("/topic/a")


def test_a_client_that_closes_is_gone_at_once(broker: RunningBroker) -> None:
    """The log has no connection that was lost; what it had claimed goes back."""
    with WebClient(broker) as client, connect(broker.port) as other:
        client.login(login="tab")
        client.subscribe("/queue/left", ack="client-individual")
        other.publish("/queue/left", "x")
        client.receive()
        client.link.close(1001)
        other.subscribe("/queue/left")
        other.expect("MESSAGE", "x")
    broker.wait_for_log(r"client \d+ \S+ tab: disconnected, client closed the connection, 0 s")


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        ("NONSENSE\n\n\0", 1002, "unknown command"),
        ("DISCONNECT\nreceipt:1\n\n\0", 1000, ""),
    ],
)
def test_the_close_says_why(broker: RunningBroker, frame: str, code: int, reason: str) -> None:
    """After the ERROR, or the last RECEIPT."""
    with WebClient(broker) as client:
        client.login()
        client.link.send(frame)
        last = str(client.receive())
        assert client.await_end() == (code, reason)
        assert last.startswith("ERROR\n" if reason else "RECEIPT\n")


def test_a_wrong_passcode_is_1008_after_two_seconds(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """Pages connect again every five seconds, for ever."""
    users = tmp_path / "users"
    users.touch(0o600)
    users.write_text(line("alice", "right"))
    users.chmod(0o600)
    broker = make_broker(*LISTEN, "--users", str(users))
    with WebClient(broker) as client:
        assert client.login(login="alice", passcode="right").startswith("CONNECTED\n")
    with WebClient(broker) as client:
        began = time.monotonic()
        assert "login failed" in client.login(login="alice", passcode="wrong")
        assert time.monotonic() - began >= 2.0
        assert client.await_end() == (1008, "login failed")


def test_a_full_queue_is_no_fault(make_broker: Callable[..., RunningBroker]) -> None:
    """1013: try again later."""
    broker = make_broker(*LISTEN, "--max-queue-length", "1", "--queue-full", "refuse")
    with WebClient(broker) as client:
        client.login()
        client.send("SEND", "x", destination="/queue/full", receipt="1")
        client.receive()
        client.send("SEND", "y", destination="/queue/full")
        assert client.await_end()[0] == 1013


def test_the_end_of_the_broker_is_1001(make_broker: Callable[..., RunningBroker]) -> None:
    """With an ERROR before it, and the reason."""
    broker = make_broker(*LISTEN)
    with WebClient(broker) as client:
        client.login()
        broker.kill(signal.SIGTERM)
        assert "the broker is shutting down" in str(client.receive())
        assert client.await_end() == (1001, "the broker is shutting down")
    assert broker.wait() == 0


def test_what_is_no_websocket_is_answered_in_a_sentence(broker: RunningBroker) -> None:
    """And the connection stays for the next request."""
    answers = ask(
        broker,
        b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\nHEAD /ws HTTP/1.1\r\nHost: a\r\n\r\n"
        b"DELETE /ws HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )

    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"404", b"426", b"405"]
    assert b"STOMP over WebSocket is at /, /ws, /stomp and /ws/websocket" in answers
    assert b"Upgrade: websocket\r\n" in answers


def test_a_body_that_nobody_wants_ends_the_connection(broker: RunningBroker) -> None:
    """It is not taken for another request."""
    answers = ask(
        broker, b"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
    )

    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"404"]


def test_sockjs_is_told_what_to_use_instead(broker: RunningBroker) -> None:
    """Once in the log for each request."""
    url = url_of(broker, path="/ws/info?t=1").replace("ws://", "http://", 1)
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        urllib.request.urlopen(url)

    with caught.value:
        assert b"SockJS is not spoken here" in caught.value.read()
    broker.wait_for_log(r"warning client .*SockJS is not spoken here; use WebSocket")


@pytest.mark.parametrize("octets", [b"CONNECT\naccept-version:1.2\n\n\0", b"\x16\x03\x01\0", b"hello\r\n\r\n"])
def test_who_speaks_something_else_is_named_in_the_log(broker: RunningBroker, octets: bytes) -> None:
    """A client that was given the wrong port is told so."""
    assert ask(broker, octets).startswith(b"HTTP/1.1 400 ")
    broker.wait_for_log(r"warning client \d+ \S+: disconnected, HTTP: ")


def test_a_frame_that_breaks_the_protocol_ends_with_1002(broker: RunningBroker) -> None:
    """Here one without a mask."""
    with WebClient(broker) as client:
        client.login()
        client.link.socket.sendall(b"\x81\x01a")
        assert client.await_end() == (1002, "a frame of a client that is not masked")
    broker.wait_for_log("disconnected, WebSocket: a frame of a client that is not masked")


def test_half_a_request_ends_in_time(make_broker: Callable[..., RunningBroker]) -> None:
    """As a connection on which nothing comes at all, and a WebSocket without CONNECT."""
    broker = make_broker(*LISTEN, "--connect-timeout", "300ms")

    assert ask(broker, b"GET / HTTP/1.1\r\n").startswith(b"HTTP/1.1 408 ")
    assert ask(broker, b"") == b""
    with WebClient(broker) as client:
        assert client.await_end() == (1002, "not connected in time")


def test_a_client_without_a_process_gets_503(make_broker: Callable[..., RunningBroker]) -> None:
    """Browsers come again by themselves."""
    broker = make_broker(*LISTEN, "--max-clients", "1")
    with RawClient(broker.port):
        broker.wait_for_children(1)
        answer = ask(broker, b"")

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 5\r\n" in answer
    assert b"too many clients" in answer


@pytest.mark.skipif(not HAS_OPENSSL, reason="openssl is not installed: no certificates")
def test_tls_is_outside_and_a_proxys_header_before_it(
    make_broker: Callable[..., RunningBroker], tmp_path: Path
) -> None:
    """wss://."""
    certificate, key = make_certificate(tmp_path, "broker")
    broker = make_broker(
        *("--listen", "wss://127.0.0.1:0", "--tls-certificate", str(certificate), "--tls-key", str(key)),
    )
    with WebClient(broker, tls=ssl.create_default_context(cafile=str(certificate))) as client:
        client.login(login="alice")
        client.subscribe("/topic/a")
        client.send("SEND", "x" * 300_000, destination="/topic/a")
        assert str(client.receive()).endswith("x\0")
        client.link.close()
    broker.wait_for_log("alice: disconnected, client closed the connection")


def test_a_proxys_header_comes_first(make_broker: Callable[..., RunningBroker]) -> None:
    """The log has the address that it says."""
    broker = make_broker(*LISTEN, "--proxy-address", "127.0.0.1")
    request = (
        b"PROXY TCP4 192.0.2.9 198.51.100.7 40112 80\r\nGET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        b"\x81\xa8\0\0\0\0CONNECT\naccept-version:1.2\nlogin:page\n\n\0"
        b"\x81\x8d\0\0\0\0DISCONNECT\n\n\0"
    )

    assert b"CONNECTED" in ask(broker, request)
    broker.wait_for_log(r"client \d+ 192\.0\.2\.9:40112 page: connected")


@pytest.mark.parametrize(
    "lack",
    ["sys.modules['websockets'] = None", "import websockets.server; del websockets.server.ServerProtocol"],
    ids=["missing", "old"],
)
def test_without_the_library_the_start_says_what_to_install(tmp_path: Path, lack: str) -> None:
    """Status 78: the configuration asks for what is not there."""
    import subprocess

    hidden = f"import sys; {lack}; from forkbroker.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", hidden, "--listen", "ws://127.0.0.1:0", "--store", "memory:"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 3,
    )

    assert done.returncode == 78
    assert "websockets 13 or newer is not installed; pip install 'forkbroker[web]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_slow_page_gets_all_of_a_large_message(broker: RunningBroker) -> None:
    """The kernel takes it in parts, and pongs wait for its end."""
    with WebClient(broker) as client, connect(broker.port) as other:
        client.login()
        client.subscribe("/topic/slow")
        for _ in range(3):
            other.publish("/topic/slow", "y" * 3_000_000)
        began = time.monotonic()
        pong = client.link.ping()
        assert [len(str(client.receive())) > 3_000_000 for _ in range(3)] == [True] * 3
        assert pong.wait(PATIENCE_S), time.monotonic() - began


# -- options


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[list[str], Callable[..., str]]:
    """Options of a broker that verifies tokens, and what signs them: `sign(sub)`."""
    secret = "0123456789abcdef" * 4
    key = tmp_path / "key"
    key.write_text(secret)

    def sign(user: str) -> str:
        return jwt.encode({"sub": user, "exp": time.time() + 600}, secret, "HS256")

    return [*LISTEN, "--token-key", str(key), "--token-algorithms", "HS256"], sign


def test_a_token_may_come_with_the_request(
    make_broker: Callable[..., RunningBroker], tokens: tuple[list[str], Callable[..., str]]
) -> None:
    """In a cookie, in the query, or in a header of either; it is never in the log, nor what `ps` shows."""
    options, sign = tokens
    broker = make_broker(*options, "--web-cookie", "session", "--web-query-token")
    token = sign("alice")
    with WebClient(broker, headers={"Cookie": f"a=b; session={token}"}) as client:
        connected = client.login(login="alice")
        assert "\nuser-name:alice\n" in connected
        assert all(token not in title for _, title in broker.children())
    with WebClient(broker, f"/ws?token={token}") as client:
        assert "\nuser-name:alice\n" in client.login()
    with WebClient(broker, headers={"Authorization": f"Bearer {token}"}) as client:
        assert "\nuser-name:alice\n" in client.login()
    with WebClient(broker) as client:
        assert "\nuser-name:bob\n" in client.login(Authorization=f"Bearer {sign('bob')}")
    for path, headers in ((f"/ws?token={token}x", {}), ("/ws", {"Cookie": f"other={token}"})):
        with WebClient(broker, path, headers=headers) as client:
            assert "login failed" in client.login()
            assert client.await_end()[0] == 1008
    broker.wait_for_log("login failed, user '': no login")
    assert not any(token in line for line in broker.log)


def test_what_is_not_enabled_is_no_token(
    make_broker: Callable[..., RunningBroker], tokens: tuple[list[str], Callable[..., str]]
) -> None:
    """Neither a cookie nor the query."""
    options, sign = tokens
    broker = make_broker(*options)
    for path, headers in ((f"/ws?token={sign('alice')}", {}), ("/ws", {"Cookie": f"session={sign('alice')}"})):
        with WebClient(broker, path, headers=headers) as client:
            assert "login failed" in client.login()


def test_a_page_of_another_origin_may_not_connect(make_broker: Callable[..., RunningBroker]) -> None:
    """Unless the list has it."""
    broker = make_broker(*LISTEN, "--web-origin", "https://shop.example", "--web-origin", "null")
    own = url_of(broker, path="").replace("ws://", "http://", 1)
    for origin in (own, "https://shop.example", "null", None):
        with WebClient(broker, origin=origin) as client:
            client.login()
    with pytest.raises(InvalidStatus, match="403"), WebClient(broker, origin="https://evil.example"):
        pass
    broker.wait_for_log(r"warning client .*refused a page of https://evil.example, as it is not of 127.*web-origin")


def test_the_paths_may_be_fewer(make_broker: Callable[..., RunningBroker]) -> None:
    """These and no others: below no prefix either."""
    broker = make_broker(*LISTEN, "--web-path", "/chat", "--web-path", "/a.b")
    for path in ("/chat", "/a.b"):
        with WebClient(broker, path) as client:
            client.login()
    # the page is told so
    assert b'new URL("../chat", location.href)' in ask_http(broker, "GET", "/admin/broker.js")[1]
    for path in ("/ws", "/x/chat", "/axb"):
        with pytest.raises(InvalidStatus, match="404"), WebClient(broker, path):
            pass


def test_a_reverse_proxy_says_for_whom_it_comes(make_broker: Callable[..., RunningBroker]) -> None:
    """The limits are those of the client; without the header it is the proxy that counts."""
    broker = make_broker(*LISTEN, "--web-proxy", "127.0.0.0/8", "--max-clients-per-address", "1")
    forwarded = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9, 127.0.0.7"}
    with WebClient(broker, headers=forwarded) as client:
        client.login(login="alice")
        broker.wait_for_log(r"client \d+ 203\.0\.113\.9 alice: connected")
        client.send("SEND", "{}", destination="/control/status", reply_to="/temp-queue/a")
        assert "denied" in str(client.receive())
        with WebClient(broker, headers=forwarded) as second:
            code, reason = second.await_end()
            assert code == 1013
            assert reason.startswith("too many clients from 203.0.113.9")
    with WebClient(broker) as client:
        client.login(login="bob")
        broker.wait_for_log(r"client \d+ 127\.0\.0\.1:\d+ bob: connected")


def test_others_cannot_say_for_whom_they_come(make_broker: Callable[..., RunningBroker]) -> None:
    """The header is ignored."""
    broker = make_broker(*LISTEN, "--web-proxy", "192.0.2.0/24")
    with WebClient(broker, headers={"X-Forwarded-For": "203.0.113.9"}) as client:
        client.login(login="alice")
    broker.wait_for_log(r"client \d+ 127\.0\.0\.1:\d+ alice: connected")


def test_before_login_there_is_little_to_send(broker: RunningBroker) -> None:
    """64 KiB of CONNECT, 32 KiB of a request's head."""
    assert ask(broker, b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"x" * 40_000).startswith(b"HTTP/1.1 431 ")
    with WebClient(broker) as client:
        client.send("CONNECT", "x" * 70_000, accept_version="1.2")
        assert client.await_end()[0] == 1002


def test_pages_leave_one_after_the_other_at_the_end(make_broker: Callable[..., RunningBroker]) -> None:
    """Thirty of them in half a second, as five leave in a tenth; nobody is lost."""
    broker = make_broker(*LISTEN)
    with ExitStack() as stack:
        pages = [stack.enter_context(WebClient(broker)) for _ in range(30)]
        for page in pages:
            page.login()
        began = time.monotonic()
        broker.kill(signal.SIGTERM)
        assert {page.await_end() for page in pages} == {(1001, "the broker is shutting down")}
        assert time.monotonic() - began >= 0.5
    assert broker.wait() == 0


def test_a_drained_page_is_told_to_go_elsewhere(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """1001; and a page that comes meanwhile is told so before it has a WebSocket."""
    broker = make_broker(*LISTEN, "--listen", f"unix:{tmp_path}/s")
    with WebClient(broker) as client, RawClient(f"{tmp_path}/s") as administrator:
        client.login()
        administrator.login()
        administrator.send("SEND", destination="/control/drain", reply_to="/temp-queue/a", body=b'{"within": 0.001}')
        assert client.await_end() == (1001, "the broker is being drained, connect to another one")
        assert ask(broker, b"").startswith(b"HTTP/1.1 503 ")
