"""Titles, as ps shows them."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from forkbroker.posix import children
from forkbroker.posix.titles import set_title


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
