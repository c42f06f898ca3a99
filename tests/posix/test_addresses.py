"""Addresses as they are written, and the sockets behind them."""

from __future__ import annotations

import os
import socket

import pytest

from forkbroker.errors import ConfigurationError
from forkbroker.posix.addresses import (
    ListenAddress,
    describe_peer,
    is_loopback,
    is_on_this_machine,
    parse_address,
    parse_http_address,
    source_of,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:61613", ListenAddress("127.0.0.1", 61613)),
        ("[::1]:61613", ListenAddress("::1", 61613)),
        ("LocalHost:0", ListenAddress("localhost", 0)),
        ("broker.example:61613", ListenAddress("broker.example", 61613)),
        ("unix:/run/broker", ListenAddress(path="/run/broker")),
        ("tls://[::]:61614", ListenAddress("::", 61614, is_tls=True)),
    ],
)
def test_an_address_is_read_and_written_in_the_same_form(text, address) -> None:
    """Names are not looked up for that."""
    assert address == parse_address(text)
    assert text.lower() == address.describe()


def test_a_relative_path_becomes_absolute(tmp_path, monkeypatch) -> None:
    """A daemon leaves the directory in which it was started."""
    monkeypatch.chdir(tmp_path)

    assert parse_address("unix:socket").path == f"{tmp_path}/socket"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not an address"),
        ("61613", "not an address"),
        ("localhost", "not an address"),
        ("localhost:stomp", "not an address"),
        ("::1:61613", "not an address"),
        (":61613", r"no host; write localhost:61613, or 0\.0\.0\.0:61613"),
        ("localhost:65536", "there is no port 65536"),
        ("[localhost]:61613", "brackets are for IPv6"),
        ("[127.0.0.1]:61613", "brackets are for IPv6"),
        ("unix:", "no path"),
        ("tls://unix:/run/broker", "not an address"),
        ("unix:/a\0b", "no path"),
        ("unix:/" + "x" * 103, "a path above 103 bytes"),
    ],
)
def test_what_is_no_address_is_refused_with_what_would_be_right(text, problem) -> None:
    """Each row has its own problem."""
    with pytest.raises(ConfigurationError, match=problem):
        parse_address(text)


@pytest.mark.parametrize(
    "text", ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "localhost:1", "unix:/x", "[::ffff:127.0.0.1]:1"]
)
def test_loopback_and_unix_sockets_are_local(text) -> None:
    """No other host reaches them."""
    assert parse_address(text).is_local


@pytest.mark.parametrize("text", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[fe80::1]:1", "broker.example:1"])
def test_everything_else_is_not(text) -> None:
    """A name may mean anything."""
    assert not parse_address(text).is_local


def test_loopback_is_known_by_address_only() -> None:
    """For clients, whose addresses come from the system."""
    assert is_loopback("127.0.0.1")
    assert not is_loopback("localhost")
    assert not is_loopback("")


def test_a_client_that_has_left_is_gone() -> None:
    """Its address can no longer be asked for."""
    with socket.socket() as never_connected:
        assert describe_peer(never_connected) == "gone"


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("", ""),
        ("127.0.0.1", ""),
        ("127.9.9.9", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("fe80::2", "fe80::2"),
        ("no address", "no address"),
    ],
)
def test_what_a_host_is_counted_as(host: str, source: str) -> None:
    """IPv4 as itself, IPv6 by its network, this machine not at all."""
    assert source_of(host) == source


def test_an_address_for_http_is_a_host_and_a_port() -> None:
    """Neither a path nor TLS; what would be right is said."""
    assert parse_http_address("[::1]:80") == parse_address("[::1]:80")
    for text in ("unix:/run/x", "tls://localhost:1", "http://localhost:1", "9613", "localhost"):
        with pytest.raises(ConfigurationError, match="write HOST:PORT, for example localhost:9613"):
            parse_http_address(text)


def test_a_client_of_this_machine_is_known_whatever_its_object_says(monkeypatch) -> None:
    """A child's socket object was made before its client came: it says that it is a Unix socket."""
    prepared, other = socket.socketpair()
    seen = [is_on_this_machine(prepared)]
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        os.dup2(client.fileno(), prepared.fileno())
        seen.append(is_on_this_machine(prepared))
        # there is no other machine here
        monkeypatch.setattr("forkbroker.posix.addresses.is_loopback", lambda host: host != "127.0.0.1")
        seen.append(is_on_this_machine(prepared))
    prepared.close()
    other.close()

    assert seen == [True, True, False]
