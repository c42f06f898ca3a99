"""The way to a broker: where it is, what it may answer, and what is said when it does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from support.certificates import HAS_OPENSSL, make_certificate

from forkbroker.ctl.connection import DEFAULT, SOCKET, Connection, CtlError, Target, find_url, parse_url
from forkbroker.errors import Exit
from forkbroker.testing.broker import RunningBroker

from .played import CONNECTED, message, played


def say(*answers: bytes) -> list[bytes]:
    return list(answers)


def fail(path: Path, answers: list[bytes], verb: str = "status", timeout_s: float = 30.0, **more: str) -> CtlError:
    """What a request to a broker ends with that says this, one after the other."""

    def answer(_command: str, _headers: Mapping[str, str], _body: bytes) -> bytes:
        return answers.pop(0) if answers else b""

    with (
        played(path / "s", answer) as url,
        pytest.raises(CtlError) as caught,
        Connection(Target(url, timeout_s=timeout_s, **more)) as connection,
    ):
        connection.ask_one(verb, {})
    assert str(caught.value).startswith(f"unix:{path}/s: ") or caught.value.word
    return caught.value


@pytest.mark.parametrize(
    ("answer", "said", "status"),
    [
        (b"", "the broker has closed the connection", Exit.UNAVAILABLE),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n\0", "this is no STOMP broker", Exit.UNAVAILABLE),
        (b"RECEIPT\nreceipt-id:1\n\n\0", "this is no STOMP broker, it answers 'RECEIPT'", Exit.UNAVAILABLE),
        (b"ERROR\nmessage:login failed\n\n\0", "login failed", Exit.NOPERM),
        (b"ERROR\nmessage:busy\n\ntoo many clients\n\0", "busy: too many clients", Exit.UNAVAILABLE),
        (b"ERROR\nmessage:busy\n\nbusy\n\0", "busy", Exit.UNAVAILABLE),
        (b"ERROR\n\n\0", "an error without a message", Exit.UNAVAILABLE),
    ],
)
def test_what_is_no_welcome_is_told(tmp_path: Path, answer: bytes, said: str, status: Exit) -> None:
    """With the URL, and a status of its kind."""
    error = fail(tmp_path, say(answer))

    assert (str(error).partition("/s: ")[2][: len(said)], error.status) == (said, status)


def test_an_error_instead_of_an_answer_is_told(tmp_path: Path) -> None:
    """As is the end of the connection."""
    assert str(fail(tmp_path, say(CONNECTED, b"ERROR\nmessage:kicked\n\n\0"))).endswith("/s: kicked")
    other = tmp_path / "other"
    other.mkdir()
    assert str(fail(other, say(CONNECTED))).endswith("/s: the broker has closed the connection")


def test_a_broker_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    """After the time that it has; heart-beats are no answer."""
    assert str(fail(tmp_path, say(b"\n"), timeout_s=0.1)).endswith("/s: no answer within 0.1 s")


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("bad-request", Exit.DATAERR),
        ("denied", Exit.NOPERM),
        ("not-found", Exit.NOINPUT),
        ("conflict", Exit.UNAVAILABLE),
        ("a-word-of-later", Exit.UNAVAILABLE),
    ],
)
def test_an_answer_that_is_an_error_has_its_status(tmp_path: Path, word: str, status: Exit) -> None:
    """And its text as it is."""
    answer = message("status-1", {"ok": False, "error": word, "text": "because"})
    error = fail(tmp_path, say(CONNECTED, answer))

    assert (str(error), error.status, error.word) == ("because", status, word)


def test_answers_to_others_are_passed_over_and_parts_are_joined(tmp_path: Path) -> None:
    """Messages of another request, receipts, and rows in several messages."""
    parts = [
        message("older-7", {"ok": True, "rows": [9], "more": False}),
        b"RECEIPT\nreceipt-id:1\n\n\0",
        message("who-1", {"ok": True, "rows": [1, 2], "more": True}),
        message("who-1", {"ok": True, "rows": [], "more": True}),
        message("who-1", {"ok": True, "rows": [3], "more": False}),
    ]
    answers = say(CONNECTED, b"".join(parts))
    with (
        played(tmp_path / "s", lambda *_: answers.pop(0)) as url,
        Connection(Target(url)) as connection,
    ):
        assert list(connection.ask("who", {})) == [1, 2, 3]


def test_login_and_passcode_are_given_if_there_is_one(tmp_path: Path) -> None:
    """Without, the system says who it is."""
    seen: list[dict[str, str]] = []

    def answer(_command: str, headers: Mapping[str, str], _body: bytes) -> bytes:
        seen.append({name: headers[name] for name in ("login", "passcode") if name in headers})
        return CONNECTED

    with played(tmp_path / "s", answer) as url:
        for target in (Target(url), Target(url, login="alice"), Target(url, login="alice", passcode="a:b\\")):
            Connection(target).close()

    assert seen == [{}, {"login": "alice", "passcode": ""}, {"login": "alice", "passcode": "a:b\\"}]


def test_where_there_is_nothing_the_reason_is_told(tmp_path: Path) -> None:
    """No socket, and nobody who listens."""
    with pytest.raises(CtlError, match=f"^unix:{tmp_path}/none: No such file or directory$") as caught:
        Connection(Target(f"unix:{tmp_path}/none"))
    assert caught.value.status is Exit.UNAVAILABLE
    with pytest.raises(CtlError, match="Connection refused"):
        Connection(Target("127.0.0.1:1"))


@pytest.mark.parametrize(
    ("url", "shown", "is_tls"),
    [
        ("localhost", "localhost:61613", False),
        ("stomp://host:7", "host:7", False),
        ("tls://host:7", "host:7", True),
        ("host:7", "host:7", False),
        ("[::1]:7", "[::1]:7", False),
    ],
)
def test_a_url_says_where_a_broker_is(url: str, shown: str, is_tls: bool) -> None:
    """With or without the port of STOMP."""
    found = parse_url(url)

    assert (f"{f'[{found.host}]' if ':' in found.host else found.host}:{found.port}", found.is_tls) == (shown, is_tls)
    assert parse_url("unix:/run/s").path == "/run/s"


@pytest.mark.parametrize("url", ["http://host", "host:port", "unix:", "tls://", "ws://host:1", "wss://host:1"])
def test_a_url_that_leads_nowhere_is_a_mistake(url: str) -> None:
    """The text says what would be right."""
    with pytest.raises(CtlError, match="write stomp://HOST:PORT, tls://HOST:PORT or unix:/PATH") as caught:
        parse_url(url)
    assert caught.value.status is Exit.USAGE


def test_without_a_word_it_is_the_environment_or_this_machine() -> None:
    """The socket of the service, where there is one."""
    assert find_url("x:1", {"FORKBROKER_URL": "y:1"}) == "x:1"
    assert find_url(None, {"FORKBROKER_URL": "y:1"}) == "y:1"
    assert find_url(None, {}) == (f"unix:{SOCKET}" if Path(SOCKET).exists() else DEFAULT)


@pytest.mark.skipif(not HAS_OPENSSL, reason="openssl is not installed: no certificates")
def test_what_is_wrong_with_tls_is_told(tmp_path: Path) -> None:
    """Which file it is, or what is at the address."""
    certificate, key = make_certificate(tmp_path, "localhost")
    none, other = tmp_path / "none.pem", tmp_path / "other.pem"
    other.write_text("no certificate\n")
    options = ("--listen", "tls://localhost:0", "--tls-certificate", str(certificate), "--tls-key", str(key))
    with RunningBroker(*options) as broker:
        port = next(a for a in broker.addresses if a.startswith("tls://127.")).rpartition(":")[2]
        plain, encrypted = f"tls://localhost:{broker.port}", f"tls://localhost:{port}"
        for url, more, said, status in (
            (plain, {}, f"{plain}: TLS: there is no TLS at this address; write stomp://", Exit.UNAVAILABLE),
            (encrypted, {}, f"{encrypted}: TLS: the certificate of the broker is not trusted: ", Exit.UNAVAILABLE),
            (encrypted, {"ca_file": none}, f"{none}: No such file or directory", Exit.NOINPUT),
            (encrypted, {"ca_file": other}, f"{other}: has no certificate in PEM", Exit.DATAERR),
            (encrypted, {"certificate": none}, f"{none}: No such file or directory", Exit.NOINPUT),
            (encrypted, {"certificate": other}, f"{other}: has no certificate with its key in PEM", Exit.DATAERR),
            (encrypted, {"certificate": certificate}, f"{certificate}: has no certificate with its key", Exit.DATAERR),
        ):
            with pytest.raises(CtlError) as caught:
                Connection(Target(url, **more))
            assert (str(caught.value)[: len(said)], caught.value.status) == (said, status)
        with Connection(Target(encrypted, ca_file=certificate)) as connection:
            assert connection.ask_one("status", {})["phase"] == "running"


@pytest.mark.parametrize("host", ["a..b", "a" * 64, ".a"])
def test_a_host_that_can_have_no_address_is_told(host: str) -> None:
    """Before it is looked up."""
    with pytest.raises(CtlError) as caught:
        Connection(Target(f"{host}:1"))

    assert str(caught.value) == f"{host}:1: {host!r} is not the name of a host"
    assert caught.value.status is Exit.USAGE


@pytest.mark.parametrize(("passcode", "hint"), [("", "; see --login and --passcode-file"), ("secret", "")])
def test_a_login_without_a_passcode_is_told_how_to_give_one(tmp_path: Path, passcode: str, hint: str) -> None:
    """Where it fails, and only then."""
    error = fail(tmp_path, say(b"ERROR\nmessage:login failed\n\n\0"), login="alice", passcode=passcode)

    assert str(error).endswith(f"/s: login failed{hint}")
