"""What the tests of this directory need besides a broker and raw clients: looking at processes, and killing them."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple

from support.deadline import stretched, wait_until
from support.rawclient import Frame, RawClient

from forkbroker.testing.broker import PATIENCE_S, RunningBroker


class Client(RawClient):
    """A raw client that can also be looked at without waiting, and survives the loss of its connection."""

    def __init__(self, port: int | str, host: str = "127.0.0.1", *, receive_buffer: int = 0, source: str = "") -> None:
        """Connect the socket; it is closed where nobody listens."""
        try:
            super().__init__(port, host, receive_buffer=receive_buffer, source=source)
        except OSError:
            self.close()
            raise

    @property
    def has_ended(self) -> bool:
        """The broker has closed the connection, or it was lost, or it is closed here."""
        return self._is_at_end or self.fileno() < 0

    def take(self) -> list[Frame]:
        """All that has come until now."""
        frames, self._put_aside = self._put_aside, []
        try:
            while not self.has_ended and self._fill(0.0):
                pass
        except ConnectionError:
            self._is_at_end = True
        while (frame := self._parse()) is not None:
            frames.append(frame)
        return frames

    def take_to_end(self, deadline_s: float = PATIENCE_S) -> list[Frame]:
        """All that comes until the connection ends, in whatever way."""
        give_up = time.monotonic() + stretched(deadline_s)
        frames = self.take()
        while not self.has_ended:
            assert time.monotonic() < give_up, "the connection does not end"
            select.select([self], [], [], 0.1)
            frames += self.take()
        return frames


class Process(NamedTuple):
    """A line of ps."""

    pid: int
    parent: int
    group: int
    state: str
    title: str


def processes(group: int) -> list[Process]:
    """The processes of a group, zombies included; but not those that init has inherited, and may take its time for."""
    shown = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,pgid=,stat=,command="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split(None, 4) for line in shown.splitlines())
    found = [Process(int(row[0]), int(row[1]), int(row[2]), row[3], row[4]) for row in rows]
    return [one for one in found if one.group == group and not (one.parent == 1 and one.state.startswith("Z"))]


def is_there(pid: int) -> bool:
    """Whether a process has this number, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def child_of(broker: RunningBroker, client: Client) -> int:
    """The number of the process that serves this client."""
    return child_at(broker, client.address)


def child_at(broker: RunningBroker, address: str) -> int:
    """The number of the process that serves the client at this address."""

    def find() -> list[int]:
        return [pid for pid, title in broker.children() if f"client {address} " in f"{title} "]

    return wait_until(find, f"a process with a title for client {address}")[0]


def kill_child_of(broker: RunningBroker, client: Client, number: int = signal.SIGKILL) -> int:
    """Send a signal that kills to a client's process, and wait until the parent has reaped it; its number."""
    pid = child_of(broker, client)
    os.kill(pid, number)
    wait_until(lambda: not is_there(pid), f"the end of process {pid}")
    return pid


def rss_mib(pid: int) -> float:
    """Memory of a process."""
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    return int(shown) / 1024


def pour(client: Client | socket.socket, octets: bytes, most: int, quiet_s: float = 0.5) -> int:
    """Write again and again without reading, up to `most` octets or until nothing is taken for a while; how many."""
    poured, view = 0, memoryview(octets)
    while poured < most and select.select([], [client], [], stretched(quiet_s))[1]:
        poured += os.write(client.fileno(), view[poured % len(octets) :][:65_536])
    return poured


def elapsed(action: Callable[[], object]) -> float:
    """How long something took, in seconds."""
    began = time.monotonic()
    action()
    return time.monotonic() - began
