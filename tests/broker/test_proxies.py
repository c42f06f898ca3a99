"""Clients that come through a proxy."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from support.certificates import HAS_OPENSSL, make_certificate
from support.rawclient import RawClient, connect

from forkbroker.testing.broker import PATIENCE_S, RunningBroker

HEADER = b"PROXY TCP4 192.0.2.9 198.51.100.7 40112 61613\r\n"


@pytest.fixture
def broker(make_broker: Callable[..., RunningBroker]) -> RunningBroker:
    """A broker for a proxy on this machine, and not for IPv6."""
    return make_broker("--proxy-address", "127.0.0.1", "--max-clients-per-address", "2")


def meet(broker: RunningBroker, header: bytes = HEADER, **headers: str) -> RawClient:
    """A client that is connected, and of which the parent knows where it is: CONNECTED does not wait for that."""
    client = RawClient(broker.port)
    client.send_raw(header)
    client.login(**headers)
    client.sync()
    return client


def test_the_log_has_the_address_that_the_proxy_says(broker: RunningBroker) -> None:
    """And `ps`."""
    with meet(broker, login="alice"):
        broker.wait_for_log(r"client \d+ 192\.0\.2\.9:40112 alice: connected")
    broker.wait_for_log(r"192\.0\.2\.9:40112 alice: disconnected")


def test_limits_are_those_of_the_clients_address(broker: RunningBroker) -> None:
    """The proxy itself has none."""
    with meet(broker), meet(broker), meet(broker, HEADER.replace(b".9 ", b".8 ")):
        with RawClient(broker.port) as third:
            third.send_raw(HEADER)
            third.expect_error("too many clients from 192.0.2.9")
        with meet(broker, HEADER.replace(b".9 ", b".8 ")):
            pass


def test_who_comes_without_a_header_is_not_served(broker: RunningBroker) -> None:
    """It could say itself where it is. The log has the reason; the proxy's own look at the port is no event."""
    with RawClient(broker.port) as client:
        client.send("CONNECT", accept_version="1.2", host="x")
        with suppress(ConnectionResetError):  # as what it sent was not read
            client.expect_eof()
    broker.wait_for_log("PROXY protocol: no PROXY header")
    with RawClient(broker.port) as client:
        client.send_raw(b"PROXY UNKNOWN\r\n")
        client.login(login="check")
    broker.wait_for_log(r"127\.0\.0\.1:\d+ check: connected")


def test_others_cannot_say_where_they_are(make_broker: Callable[..., RunningBroker]) -> None:
    """Only the addresses of the option may."""
    broker = make_broker("--proxy-address", "192.0.2.0/24")
    with RawClient(broker.port) as client:
        client.send_raw(HEADER)
        client.send("CONNECT", accept_version="1.2", host="x")
        client.expect("ERROR")
    with connect(broker.port) as client:
        client.sync()
    assert not re.search("192", "".join(text for text in broker.log if "connected" in text))


def test_a_proxys_client_is_not_on_this_machine(broker: RunningBroker) -> None:
    """Although the proxy is: to manage the broker is for clients that are, where there are no users."""
    with meet(broker) as client:
        client.send("SEND", destination="/control/status", reply_to="/temp-queue/a", body=b"{}")
        assert b"denied" in client.receive().body
    with meet(broker, b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n") as client:
        client.send("SEND", destination="/control/status", reply_to="/temp-queue/a", body=b"{}")
        assert b"denied" not in client.receive().body


@pytest.mark.skipif(not HAS_OPENSSL, reason="openssl is not installed: no certificates")
def test_the_header_comes_before_tls(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """What is behind it is the handshake."""
    certificate, key = make_certificate(tmp_path, "broker")
    broker = make_broker(
        *("--proxy-address", "127.0.0.1", "--listen", "tls://127.0.0.1:0", "--tls-certificate", str(certificate)),
        *("--tls-key", str(key)),
    )
    (address,) = [address for address in broker.addresses if address.startswith("tls://")]
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=PATIENCE_S) as plain:
        plain.sendall(HEADER)
        context = ssl.create_default_context(cafile=str(certificate))
        with context.wrap_socket(plain, server_hostname="broker") as client:
            client.sendall(b"CONNECT\naccept-version:1.2\nhost:/\nlogin:alice\n\n\0")
            assert client.recv(9) == b"CONNECTED"
    broker.wait_for_log("192.0.2.9:40112 alice: connected")
