"""Clients that speak TLS, beside others that don't."""

from __future__ import annotations

import hashlib
import signal
import socket
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from support.certificates import HAS_OPENSSL, make_certificate
from support.deadline import wait_until

from forkbroker.passwords import Hash
from forkbroker.testing.broker import RunningBroker

pytestmark = pytest.mark.skipif(not HAS_OPENSSL, reason="openssl is not installed: no certificates")

CONNECT = b"CONNECT\naccept-version:1.2\nhost:/\nlogin:alice\n\n\0"
PATIENCE_S = 20.0


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The broker's certificate, and its key."""
    return make_certificate(tmp_path, "broker")


@pytest.fixture
def broker(make_broker, files: tuple[Path, Path]) -> RunningBroker:
    """A broker with a plain address, and one with TLS."""
    certificate, key = map(str, files)
    return make_broker("--listen", "tls://127.0.0.1:0", "--tls-certificate", certificate, "--tls-key", key)


def port_of(broker: RunningBroker) -> int:
    (address,) = [address for address in broker.addresses if address.startswith("tls://")]
    return int(address.rpartition(":")[2])


def meet(broker: RunningBroker, trusted: Path) -> ssl.SSLSocket:
    """A client behind its handshake."""
    context = ssl.create_default_context(cafile=str(trusted))
    plain = socket.create_connection(("127.0.0.1", port_of(broker)), timeout=PATIENCE_S)
    return context.wrap_socket(plain, server_hostname="broker")


def read_frame(client: socket.socket) -> bytes:
    heard = b""
    while not heard.endswith((b"\0", b"\0\n")):
        octets = client.recv(65_536)
        assert octets, heard
        heard += octets
    return heard


def test_a_message_goes_from_a_plain_client_to_one_with_tls(broker: RunningBroker, files, join) -> None:
    """And back; the log names the login, and `ps` shows it."""
    with meet(broker, files[0]) as client:
        client.sendall(CONNECT)
        assert read_frame(client).startswith(b"CONNECTED\n")
        client.sendall(b"SUBSCRIBE\nid:1\ndestination:/topic/a\nreceipt:1\n\n\0")
        read_frame(client)
        other = join(broker)
        other.subscribe("/queue/b", 1)
        other.publish("/topic/a", "hello")
        assert b"\n\nhello\0" in read_frame(client)
        client.sendall(b"SEND\ndestination:/queue/b\n\nback\0")
        other.expect("MESSAGE", "back")
        wait_until(lambda: any("alice" in title for _, title in broker.children()), "the title of the client")


def test_a_handshake_that_hangs_ends_by_itself_and_holds_nobody(make_broker, files) -> None:
    """It is the client's own process that waits for it."""
    broker = make_broker(
        "--listen", "tls://127.0.0.1:0", "--connect-timeout", "500ms",
        "--tls-certificate", str(files[0]), "--tls-key", str(files[1]),
    )  # fmt: skip
    with socket.create_connection(("127.0.0.1", port_of(broker)), timeout=PATIENCE_S) as silent:
        with meet(broker, files[0]) as client:
            client.sendall(CONNECT)
            assert read_frame(client).startswith(b"CONNECTED\n")
        assert silent.recv(1) == b""


@pytest.mark.parametrize("words", [CONNECT, b"GET / HTTP/1.1\r\n\r\n"])
def test_who_speaks_no_tls_there_is_named_in_the_log(broker: RunningBroker, words: bytes) -> None:
    """A client that was given the wrong port."""
    with socket.create_connection(("127.0.0.1", port_of(broker)), timeout=PATIENCE_S) as client:
        client.sendall(words)
        with suppress(ConnectionError):
            client.recv(1)

    broker.wait_for_log(r"client \d+ \S+: disconnected, connection lost, TLS: ")


def test_a_renewed_certificate_is_shown_after_a_reload(broker: RunningBroker, files, tmp_path: Path) -> None:
    """Whoever is connected goes on; a file that is broken changes nothing."""
    old = tmp_path / "old.pem"
    old.write_bytes(files[0].read_bytes())
    with meet(broker, old) as client:
        client.sendall(CONNECT)
        read_frame(client)
        files[0].write_text("broken")
        broker.kill(signal.SIGHUP)
        broker.wait_for_log("reload: .*TLS: ")
        meet(broker, old).close()

        make_certificate(tmp_path, "broker")
        broker.kill(signal.SIGHUP)
        broker.wait_for_log("reload: done")
        wait_until(lambda: _is_trusted(broker, files[0]), "the new certificate")
        client.sendall(b"SEND\ndestination:/topic/a\nreceipt:1\n\n\0")
        assert read_frame(client).startswith(b"RECEIPT\n")


def _is_trusted(broker: RunningBroker, certificate: Path) -> bool:
    try:
        meet(broker, certificate).close()
    except ssl.SSLError:
        return False
    return True


def test_no_process_for_a_client_closes_the_connection(make_broker, files) -> None:
    """It could not read an ERROR that is not encrypted."""
    broker = make_broker(
        "--listen", "tls://127.0.0.1:0", "--max-clients", "1",
        "--tls-certificate", str(files[0]), "--tls-key", str(files[1]),
    )  # fmt: skip
    with meet(broker, files[0]) as client:
        client.sendall(CONNECT)
        read_frame(client)
        with socket.create_connection(("127.0.0.1", port_of(broker)), timeout=PATIENCE_S) as other:
            assert other.recv(1) == b""

    broker.wait_for_log("refused, too many clients")


def test_a_login_over_tls_is_verified_as_any_other(make_broker, files: tuple[Path, Path], tmp_path: Path) -> None:
    """Encryption is no proof of who it is."""
    users = tmp_path / "users"
    users.touch(0o600)
    key = hashlib.scrypt(b"a", salt=b"salt", n=2, r=8, p=1, dklen=32)
    users.write_text(f"alice:{Hash(1, 8, 1, b'salt', key)}\n")
    certificate, private = files
    broker = make_broker(
        "--listen", "tls://127.0.0.1:0", "--tls-certificate", str(certificate), "--tls-key", str(private),
        "--users", str(users),
    )  # fmt: skip
    for passcode, answer in ((b"a", b"CONNECTED\n"), (b"b", b"ERROR\nmessage:login failed\n")):
        with meet(broker, certificate) as client:
            client.sendall(b"CONNECT\naccept-version:1.2\nhost:x\nlogin:alice\npasscode:" + passcode + b"\n\n\0")
            assert read_frame(client).startswith(answer)
