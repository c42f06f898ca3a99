"""Listeners: where they are, who may connect, what they leave."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat

import pytest

from forkbroker.errors import Exit, StartError
from forkbroker.posix.addresses import describe_listener, describe_peer, parse_address, reaches_beyond
from forkbroker.posix.listening import SocketRights, close_listener, open_listener


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
        # nothing that is written waits for company, and a client that has vanished is noticed at last
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
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


def test_a_unix_listener_is_for_its_user_and_group_and_goes_with_its_path(tmp_path) -> None:
    """Whatever the umask."""
    path = tmp_path / "socket"
    before = os.umask(0)
    (listener,) = open_listener(parse_address(f"unix:{path}"), 16)
    assert os.umask(before) == 0
    mode = stat.S_IMODE(path.stat().st_mode)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        listener.setblocking(True)
        accepted, _ = listener.accept()
        described = describe_listener(listener), describe_peer(accepted), reaches_beyond(listener)
        accepted.close()

    close_listener(listener)

    assert mode == 0o660
    assert described == (f"unix:{path}", "unix", False)
    assert not path.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_mode_owner_and_group_are_as_asked_for(tmp_path) -> None:
    """From the first moment that somebody can connect."""
    path = tmp_path / "socket"
    (listener,) = open_listener(parse_address(f"unix:{path}"), 16, SocketRights(0o606, 12_345, 23_456))
    found = path.stat()
    close_listener(listener)

    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o606, 12_345, 23_456)


def test_a_file_that_is_not_the_listeners_any_more_stays(tmp_path) -> None:
    """Somebody has made another socket of the same name."""
    path = tmp_path / "socket"
    (first,) = open_listener(parse_address(f"unix:{path}"), 16)
    path.rename(tmp_path / "moved")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))

        close_listener(first)

        assert path.is_socket()


def test_a_socket_that_does_not_listen_yet_is_in_use(listen, tmp_path) -> None:
    """Its program is about to."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as starting:
        starting.bind(str(path))
        with pytest.raises(StartError, match="address in use"):
            listen(f"unix:{path}")
        starting.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_directory_in_which_another_broker_looks_for_sockets_is_waited_for(tmp_path) -> None:
    """But not for ever: it may be stopped."""
    directory = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    with pytest.raises(StartError, match="another broker opens a socket in this directory"):
        open_listener(parse_address(f"unix:{tmp_path}/socket"), 16, patience_s=0.02)
    os.close(directory)

    close_listener(open_listener(parse_address(f"unix:{tmp_path}/socket"), 16, patience_s=0.0)[0])


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
