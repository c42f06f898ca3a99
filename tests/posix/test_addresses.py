"""Addresses as they are written, and the sockets behind them."""

from __future__ import annotations

import errno
import os
import socket
import stat

import pytest

from forkbroker.errors import ConfigurationError, Exit, StartError
from forkbroker.posix.addresses import (
    ListenAddress,
    close_and_unlink,
    describe_listener,
    describe_peer,
    is_loopback,
    open_listener,
    parse_address,
    reaches_beyond,
    source_of,
)


@pytest.fixture
def listen():
    """Open listeners that are closed after the test."""
    opened: list[socket.socket] = []

    def run(text: str) -> list[socket.socket]:
        opened.extend(fresh := open_listener(parse_address(text), 16))
        return fresh

    yield run
    for listener in opened:
        listener.close()


def has_ipv6() -> bool:
    """Whether this host has the other loopback address."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:61613", ListenAddress("127.0.0.1", 61613)),
        ("[::1]:61613", ListenAddress("::1", 61613)),
        ("LocalHost:0", ListenAddress("localhost", 0)),
        ("broker.example:61613", ListenAddress("broker.example", 61613)),
        ("unix:/run/broker", ListenAddress(path="/run/broker")),
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


def test_a_listener_accepts_and_both_ends_are_described(listen) -> None:
    """The chosen port is told; nobody waits for a client."""
    (listener,) = listen("127.0.0.1:0")
    with pytest.raises(BlockingIOError):
        listener.accept()
    with socket.create_connection(listener.getsockname()) as client:
        listener.setblocking(True)
        accepted, _ = listener.accept()

        assert describe_listener(listener) == f"127.0.0.1:{listener.getsockname()[1]}"
        assert describe_peer(accepted) == f"127.0.0.1:{client.getsockname()[1]}"
        assert not reaches_beyond(listener)
        accepted.close()


def test_localhost_is_both_families_on_one_port(listen) -> None:
    """The system chooses, once."""
    if not has_ipv6():
        pytest.skip("needs the address ::1")

    four, six = listen("localhost:0")

    assert four.getsockname()[:2] == ("127.0.0.1", six.getsockname()[1])
    assert describe_listener(six) == f"[::1]:{four.getsockname()[1]}"


def test_localhost_with_a_port_that_one_family_has_lost_is_in_use(listen) -> None:
    """Half a name is not enough; the other half is closed again."""
    if not has_ipv6():
        pytest.skip("needs the address ::1")
    (six,) = listen("[::1]:0")
    port = six.getsockname()[1]

    with pytest.raises(StartError, match=rf"\[::1\]:{port}: address in use"):
        listen(f"localhost:{port}")

    listen(f"127.0.0.1:{port}")


def test_an_ipv6_listener_leaves_ipv4_to_others(listen) -> None:
    """One socket a family, so that clients show under their own addresses."""
    if not has_ipv6():
        pytest.skip("needs the address ::1")
    (six,) = listen("[::]:0")

    listen(f"0.0.0.0:{six.getsockname()[1]}")

    assert reaches_beyond(six)


@pytest.mark.parametrize(
    ("text", "problem", "status"),
    [
        ("192.0.2.1:0", "not an address of this host", Exit.UNAVAILABLE),
        ("no-such-host.invalid:0", "cannot find the host", Exit.CONFIG),
        ("unix:/nonexistent/socket", "cannot listen: No such file", Exit.OSERR),
    ],
)
def test_what_the_system_refuses_is_a_start_error(listen, text, problem, status) -> None:
    """The message names the address."""
    with pytest.raises(StartError, match=problem) as caught:
        listen(text)

    assert status == caught.value.status


def test_an_address_in_use_is_told(listen) -> None:
    """With a status that scripts can tell from others."""
    (first,) = listen("127.0.0.1:0")

    with pytest.raises(StartError, match="address in use") as caught:
        listen(describe_listener(first))

    assert caught.value.status == Exit.UNAVAILABLE
    assert caught.value.__cause__.errno == errno.EADDRINUSE


def test_a_port_of_a_broker_that_just_ended_can_be_used_again(listen) -> None:
    """Connections that linger in the kernel keep nobody out."""
    (first,) = listen("127.0.0.1:0")
    name = first.getsockname()
    with socket.create_connection(name) as client:
        first.setblocking(True)
        accepted, _ = first.accept()
        accepted.close()
        first.close()
        assert client.recv(1) == b""

    assert name == listen(f"127.0.0.1:{name[1]}")[0].getsockname()


def test_a_unix_listener_lets_everybody_connect_and_goes_with_its_path(tmp_path) -> None:
    """Also under a strict umask."""
    path = tmp_path / "socket"
    before = os.umask(0o077)
    (listener,) = open_listener(parse_address(f"unix:{path}"), 16)
    os.umask(before)
    mode = stat.S_IMODE(path.stat().st_mode)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        listener.setblocking(True)
        accepted, _ = listener.accept()
        described = describe_listener(listener), describe_peer(accepted), reaches_beyond(listener)
        accepted.close()

    close_and_unlink(listener)

    assert mode == 0o666
    assert described == (f"unix:{path}", "unix", False)
    assert not path.exists()


def test_a_stale_unix_socket_is_no_obstacle(listen, tmp_path) -> None:
    """A killed broker leaves its path; the next one takes it over."""
    (dead,) = listen(f"unix:{tmp_path}/socket")
    dead.close()

    (fresh,) = listen(f"unix:{tmp_path}/socket")

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(fresh.getsockname())


def test_a_living_unix_socket_is_in_use(listen, tmp_path) -> None:
    """And is left alone, also when nobody has time for the connection."""
    listen(f"unix:{tmp_path}/socket")

    for _ in range(40):
        with pytest.raises(StartError, match="address in use"):
            listen(f"unix:{tmp_path}/socket")


def test_a_file_that_is_no_socket_is_never_removed(listen, tmp_path) -> None:
    """Whoever mistypes a path loses nothing."""
    path = tmp_path / "letter"
    path.write_text("dear")

    with pytest.raises(StartError, match="not a socket") as caught:
        listen(f"unix:{path}")

    assert caught.value.status == Exit.CANTCREAT
    assert path.read_text() == "dear"


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
