"""Titles, as ps shows them."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from setproctitle import getproctitle

from forkbroker.posix import children
from forkbroker.posix.titles import name_instance, set_title


def test_the_short_name_says_what_a_process_is_and_the_title_whose() -> None:
    """`pgrep -x stomp-broker` finds parents alone; a child has its broker's name from the process that forked it."""
    if not Path("/proc/self/comm").exists():
        pytest.skip("needs Linux")
    near, far = socket.socketpair()

    def show(*texts: str) -> None:
        for text in texts:
            set_title(text)
            far.send(f"{getproctitle()} ({Path('/proc/self/comm').read_text().strip()})\n".encode())

    def broker() -> int:
        show("parent localhost:61613")
        name_instance("orders")
        show("parent localhost:61613")
        os.waitpid(children.fork(lambda: show("client 127.0.0.1:40112", "store memory:") or 0, [far.fileno()]), 0)
        return 0

    os.waitpid(children.fork(broker, [far.fileno()]), 0)
    shown = near.recv(1000).decode().splitlines()
    near.close()
    far.close()

    assert shown == [
        "stomp-broker: parent localhost:61613 (stomp-broker)",
        "stomp-broker orders: parent localhost:61613 (stomp-broker)",
        "stomp-broker orders: client 127.0.0.1:40112 (stomp-client)",
        "stomp-broker orders: store memory: (stomp-store)",
    ]


@pytest.mark.parametrize(
    ("login", "shown"), [("alice", "alice"), ("a\x1b[2J\n\u202e\u2028e", r"a\x1b[2J\x0a\u202e\u2028e")]
)
def test_ps_shows_the_title_of_each_process(login: str, shown: str) -> None:
    """A child sets its own, whatever its client is called; its parent keeps its name."""
    near, far = socket.socketpair()

    def child() -> int:
        set_title(f"client 127.0.0.1:40112 {login} 2 subscriptions")
        far.send(b"!")
        far.recv(1)
        return 0

    pid = children.fork(child, [far.fileno()])
    far.close()
    near.recv(1)
    try:
        titles = subprocess.run(
            ["ps", "-o", "args=", "-p", f"{pid},{os.getpid()}"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    except FileNotFoundError:
        pytest.skip("needs ps (Debian: procps)")
    finally:
        near.close()
        os.waitpid(pid, 0)

    title = f"stomp-broker: client 127.0.0.1:40112 {shown} 2 subscriptions"
    assert sum(line.strip() == title for line in titles) == 1
    assert len(titles) == 2
