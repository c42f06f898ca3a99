"""top, in a pseudo-terminal and once."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.deadline import stretched
from support.rawclient import connect

from forkbroker.ctl.top import ORDERS, View, draw
from forkbroker.testing.broker import RunningBroker

COMMAND = [sys.executable, str(Path(__file__).parents[2] / "bin" / "stomp-brokerctl"), "top"]


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    """With two queues: /queue/a has more messages, /queue/b more consumers."""
    with RunningBroker() as broker, connect(broker.port) as client:
        for queue, count in (("a", 3), ("b", 1)):
            for number in range(count):
                client.publish(f"/queue/{queue}", str(number))
        client.subscribe("/queue/b", 1, ack="client")
        client.expect("MESSAGE")
        yield broker


def once(broker: RunningBroker, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "--url", f"{broker.host}:{broker.port}", "--interval", "100ms", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=stretched(60.0), stdin=subprocess.DEVNULL)


def test_it_is_printed_once(broker: RunningBroker) -> None:
    """Sorted as is said; as JSON with all that the table has not."""
    lines = once(broker, "--once").stdout.splitlines()
    assert lines[0].startswith("forkbroker ") and "2 clients, 2 queues" in lines[0]
    assert lines[1].startswith("messages: 3 waiting, 1 unsettled, 0 delayed; 0 in and 0 out a second")
    assert [line.split()[0] for line in lines[3:]] == ["QUEUE", "/queue/a", "/queue/b"]
    lines = once(broker, "--once", "--sort", "unsettled").stdout.splitlines()
    assert [line.split()[0] for line in lines[4:]] == ["/queue/b", "/queue/a"]
    found = json.loads(once(broker, "a", "--json").stdout)

    assert [row["name"] for row in found["queues"]] == ["/queue/a"] and found["status"]["clients"] == 2


def test_without_a_terminal_it_says_how(broker: RunningBroker) -> None:
    """And a wrong order is an error of the command line."""
    done = once(broker)
    assert (done.returncode, "--once prints it once" in done.stderr) == (2, True)
    assert once(broker, "--sort", "size").returncode == 2


class Terminal:
    """A pseudo-terminal with the command on it."""

    def __init__(self, broker: RunningBroker, term: str = "xterm") -> None:
        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 100, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, "--url", f"{broker.host}:{broker.port}", "--interval", "200ms"],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={**{k: v for k, v in os.environ.items() if k not in ("LINES", "COLUMNS")}, "TERM": term},
            start_new_session=True,
        )
        os.close(theirs)

    def wait_for(self, *texts: bytes) -> bytes:
        """Read until these have come, in this order."""
        give_up, octets = time.monotonic() + stretched(20.0), b""
        while time.monotonic() < give_up:
            at = 0
            for text in texts:
                at = octets.find(text, at) + len(text) if text in octets[at:] else -1
                if at < 0:
                    break
            else:
                return octets
            if select.select([self._fd], [], [], 0.1)[0]:
                octets += os.read(self._fd, 65_536)
        raise AssertionError(f"{texts} are not in {octets!r}")

    def press(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def end(self) -> tuple[int, bytes]:
        """The exit status, and what was said."""
        assert self.process.stderr is not None
        try:
            _, said = self.process.communicate(timeout=stretched(20.0))
        finally:
            os.close(self._fd)
        return self.process.returncode, said


def test_it_is_shown_on_a_terminal_and_listens_to_keys(broker: RunningBroker) -> None:
    """Sorted otherwise, reversed, and ended; the terminal is as it was before."""
    terminal = Terminal(broker)
    terminal.wait_for(b"/queue/a", b"/queue/b", b"waiting | sort")
    terminal.press(b"u")
    terminal.wait_for(b"unsettled | sort")
    terminal.press(b"r")
    terminal.wait_for(b"reversed")  # curses writes what has changed
    with connect(broker.port) as client:
        client.publish("/queue/new", "1")
        terminal.wait_for(b"new")
    terminal.press(b"q")
    terminal.wait_for(b"\x1b[?1049l")

    assert terminal.end() == (0, b"")


def test_the_end_of_the_broker_is_its_end() -> None:
    """It says why, on a terminal that is usable again."""
    with RunningBroker() as broker:
        terminal = Terminal(broker)
        terminal.wait_for(b"waiting | sort")
        broker.stop()
        terminal.wait_for(b"\x1b[?1049l")
        status, said = terminal.end()

    assert status == 69 and said.startswith(b"stomp-brokerctl: ")


def test_a_terminal_that_curses_does_not_know_is_named(broker: RunningBroker) -> None:
    """Not by a traceback."""
    status, said = Terminal(broker, term="no-such-terminal").end()

    assert (status, b"this terminal cannot be used" in said) == (2, True)


def row(name: str, **members: Any) -> dict[str, Any]:
    base = dict.fromkeys(("waiting", "unsettled", "delayed", "consumers", "bytes"), 0)
    return {"name": name, **base, "oldest": None, "oldest-before-start": False, "held": False, **members}


def test_each_order_has_a_key_of_its_own() -> None:
    """No two words begin with the same letter, and none with that of another key."""
    assert len({word[0] for word in ORDERS} | {"q", "r", " "}) == len(ORDERS) + 3
    for word in ORDERS:
        assert View("name", first=3).press(word[0], 5) == View(word)


def test_the_list_is_moved_and_not_beyond_its_begin() -> None:
    """By lines and by pages; other keys do nothing."""
    view = View("name")
    assert view.press("KEY_DOWN", 5).first == 1
    assert view.press("KEY_UP", 5).first == 0
    assert view.press("KEY_NPAGE", 5).press("KEY_PPAGE", 5) == view
    assert view.press("KEY_NPAGE", 5).press("KEY_HOME", 5) == view
    assert view.press("x", 5) == view


def test_names_cannot_move_the_cursor() -> None:
    """They are clients' to choose."""
    status = {
        "version": "1", "phase": "running", "seconds": 1, "clients": 0, "memory": {"used": 0, "limit": 0},
        "store": {"refuses": "", "open": True}, "messages": {"waiting": 0, "unsettled": 0, "delayed": 0},
    }  # fmt: skip
    lines = draw(status, [row("/queue/\x1b[2J"), row("/queue/b", waiting=1)], View("waiting"))

    assert lines[4].startswith("/queue/b") and lines[5].startswith("/queue/\\x1b[2J")
