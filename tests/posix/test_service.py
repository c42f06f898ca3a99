"""A service manager's protocols, with the test as manager."""

from __future__ import annotations

import os
import re
import socket
import sys

import pytest

from forkbroker.posix.service import Service, take_listeners


@pytest.fixture
def manager(tmp_path):
    """A manager's notification socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.settimeout(10)
        one.bind(str(tmp_path / "notify"))
        yield one


def _hear(manager: socket.socket) -> str:
    return manager.recv(4096).decode()


def test_each_notice_is_one_datagram(manager) -> None:
    """In the words of sd_notify(3)."""
    service = Service({"NOTIFY_SOCKET": manager.getsockname()})
    for notice in (service.ready, service.stopping, service.alive):
        notice()
    service.status("3 clients")
    service.reloading()

    assert [_hear(manager) for _ in range(4)] == ["READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=3 clients"]
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", _hear(manager))


def test_an_abstract_address_is_understood() -> None:
    """The at sign stands for a zero octet."""
    if sys.platform != "linux":
        pytest.skip("needs Linux")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"forkbroker-test-{os.getpid()}"
        manager.bind(f"\0{name}")
        manager.settimeout(10)
        Service({"NOTIFY_SOCKET": f"@{name}"}).ready()

        assert _hear(manager) == "READY=1"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_manager_nothing_is_said(environment) -> None:
    """And nothing goes wrong."""
    service = Service(environment)
    service.ready()

    assert not service.is_there


def test_a_manager_that_is_gone_or_deaf_stops_nobody(manager, tmp_path) -> None:
    """No socket there, or one that is full."""
    Service({"NOTIFY_SOCKET": str(tmp_path / "none")}).ready()
    deaf = Service({"NOTIFY_SOCKET": manager.getsockname()})
    for _ in range(5000):
        deaf.status("x" * 100)


def test_what_was_read_is_no_longer_in_the_environment() -> None:
    """Children would take it for their own."""
    environment = dict.fromkeys(
        ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "HOME"), "1"
    )
    Service(environment)
    take_listeners(environment)

    assert environment == {"HOME": "1"}


TAKE = """
import os, socket, sys
from forkbroker.errors import StartError
from forkbroker.posix.addresses import describe_listener
from forkbroker.posix.service import take_listeners
given = [int(fd) for fd in sys.argv[1:]]
for place, fd in enumerate(given): os.dup2(fd, 3 + place)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(given)), LISTEN_FDNAMES="stomp:extra")
try:
    for listener in take_listeners():
        print(listener.fileno(), describe_listener(listener), listener.getblocking(), listener.get_inheritable())
        if listener.family == socket.AF_INET: print(bool(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
except StartError as error:
    print(int(error.status), error)
"""


def _pass(run_script, *sockets: socket.socket) -> list[str]:
    """Hand sockets to a fresh program as a manager does; gives what the program prints."""
    # Numbers far above 3, so that the copies to 3 and on overwrite none of them.
    high = [os.dup(one.fileno()) + 100 for one in sockets]
    for one, fd in zip(sockets, high, strict=True):
        os.close(fd - 100)
        os.dup2(one.fileno(), fd)
    ended = run_script(TAKE, *high, pass_fds=tuple(high))
    for fd in high:
        os.close(fd)
    assert ended.stderr == ""
    return ended.stdout.splitlines()


def test_passed_sockets_are_taken_in_their_order(run_script, tmp_path) -> None:
    """TCP and Unix; non-blocking and ours alone."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        unix.listen()

        assert _pass(run_script, tcp, unix) == [
            f"3 127.0.0.1:{tcp.getsockname()[1]} False False",
            "True",
            f"4 unix:{tmp_path}/socket False False",
        ]


def test_a_socket_that_does_not_listen_is_refused_by_name(run_script) -> None:
    """Also datagram sockets, and what is no socket."""
    with socket.socket() as idle, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        idle.bind(("127.0.0.1", 0))

        assert _pass(run_script, idle)[0].startswith("78 descriptor 3 (stomp) from the service manager does not listen")
        assert _pass(run_script, datagram)[0].startswith(
            "78 descriptor 3 (stomp) from the service manager is not a TCP"
        )


def test_a_descriptor_that_is_no_socket_is_refused(run_script) -> None:
    """The unit passed something else."""
    ended = run_script(
        "import os\n"
        "from forkbroker.posix.service import take_listeners\n"
        "os.dup2(0, 3)\n"
        "take_listeners({'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'})\n"
    )

    assert "descriptor 3 (no name) from the service manager is not a socket" in ended.stderr


def test_sockets_for_another_process_are_left_alone() -> None:
    """The variables were inherited from somebody who did not clean up."""
    assert take_listeners({"LISTEN_PID": "1", "LISTEN_FDS": "2"}) == []
    assert take_listeners({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "two"}) == []
    assert take_listeners({}) == []
