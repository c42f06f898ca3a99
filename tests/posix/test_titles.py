"""Titles, as ps shows them."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from forkbroker.posix import children
from forkbroker.posix.titles import set_title


def test_ps_shows_the_title_of_each_process() -> None:
    """A child sets its own; its parent keeps its name."""
    near, far = socket.socketpair()

    def child() -> int:
        set_title("client 127.0.0.1:40112 alice 2 subscriptions")
        far.send(b"!")
        far.recv(1)
        return 0

    pid = children.fork(child, [far.fileno()])
    far.close()
    near.recv(1)
    try:
        shown = subprocess.run(
            ["ps", "-o", "args=", "-p", f"{pid},{os.getpid()}"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    except FileNotFoundError:
        pytest.skip("needs ps (Debian: procps)")
    finally:
        near.close()
        os.waitpid(pid, 0)

    assert sum(line.strip() == "stomp-broker: client 127.0.0.1:40112 alice 2 subscriptions" for line in shown) == 1
    assert len(shown) == 2
