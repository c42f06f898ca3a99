"""A parent in a process of its own, driven through real sockets and signals, and seen through its log.

Tests get one from the fixture `start`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import resource
import select
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from support.deadline import stretched, wait_until
from support.spares import spare_for

from forkbroker.child import nursery
from forkbroker.errors import StartError
from forkbroker.parent.parent import Parent
from forkbroker.parent.routes import Routes
from forkbroker.parent.setup import Hooks, ParentPolicy, Programs
from forkbroker.posix.loop import Loop
from forkbroker.posix.signals import is_alive

PATIENCE_S = stretched(10.0)
"""How long a test waits for what must come."""


def is_of_nursery(name: str) -> bool:
    """Whether `ps` shows this name for a nursery, a spare, or a puppet, which was a spare."""
    return name in ("stomp-nursery", "stomp-spare")


class Client:
    """The test's end of a connection whose child is a puppet."""

    def __init__(self, address: object, family: int = socket.AF_INET) -> None:
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE_S)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self._file = self.socket.makefile("rb")
        self.peer = 0
        self.pid = 0

    def greeted(self) -> Client:
        """Wait for the child's first words."""
        words = self.line().split()
        assert words[::2] == ["peer", "pid"], words
        self.peer, self.pid = int(words[1]), int(words[3])
        return self

    def line(self) -> str:
        """The next line of the child, without its end; empty at the end of the connection."""
        return self._file.readline().decode().rstrip("\n")

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        return self._file.read()

    def tell(self, *commands: str) -> None:
        """Have the child do this."""
        self.socket.sendall("".join(command + "\n" for command in commands).encode())

    def count(self) -> int:
        """Octets of the envelopes that the child has received."""
        self.tell("count")
        while not (line := self.line()).startswith("received "):
            assert line, "the child is gone"
        return int(line.split()[1])

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@dataclass
class Broker:
    """A running parent."""

    pid: int
    address: object
    log_path: Path
    family: int = socket.AF_INET
    clients: list[Client] = field(default_factory=list)
    status: int | None = None
    lifeline: int = -1
    """A pipe whose other end the parent and all its children have: at its end none of them is left."""

    def connect(self) -> Client:
        """A client that has a child."""
        return self.dial().greeted()

    def dial(self) -> Client:
        """A connection, whatever comes of it."""
        client = Client(self.address, self.family)
        self.clients.append(client)
        return client

    def logged_in(self, login: str) -> Client:
        """A client whose child has said CONNECTED."""
        client = self.connect()
        client.tell(f"connect {login}")
        self.await_log(rf"client {client.peer} \S+ {login}: connected")
        return client

    def store_pid(self, other_than: int = 0) -> int:
        """The process of the store; waits until there is one, and not this one."""

        def find() -> int:
            shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True)
            rows = (line.split(None, 2) for line in shown.stdout.splitlines())
            pids = [int(pid) for pid, parent, name in rows if int(parent) == self.pid and not is_of_nursery(name)]
            return next((pid for pid in pids if pid != other_than), 0)

        wait_until(find, "a process of the store")
        return find()

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def await_log(self, pattern: str) -> re.Match[str]:
        """The first line with this; waits for it."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(re.finditer(pattern, self.log, re.MULTILINE))
            return bool(found)

        with contextlib.suppress(AssertionError):
            wait_until(look, pattern)
        assert found, f"no {pattern!r} in\n{self.log}"
        return found[0]

    def measure(self) -> dict[str, int]:
        """What the parent says of itself now: descriptors (not of spares), pending octets, its peak memory in KiB."""
        before = self.log.count("measured:")
        self.signal(signal.SIGUSR1)
        wait_until(lambda: self.log.count("measured:") > before, "the parent's figures")
        line = [line for line in self.log.splitlines() if "measured:" in line][-1]
        return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """The exit status of the parent, which must end now."""

        def ended() -> bool:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            return bool(pid)

        if self.status is None:
            wait_until(ended, "the end of the parent")
        assert self.status is not None
        return self.status


Starter = Callable[..., Broker]
"""What the fixture `start` gives."""


def _listen(where: Path | None) -> socket.socket:
    if where is None:
        return socket.create_server(("127.0.0.1", 0), backlog=128)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(where))
    listener.listen()
    return listener


def _measure(parent: Parent, logger: logging.Logger) -> None:
    processes = parent._channels._reachable.values()
    logger.info(
        "measured: descriptors=%d pending=%d peak=%d",
        len(list(Path("/dev/fd").iterdir())) - parent._spares.count,
        sum(process.channel.pending for process in processes),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )


def _serve(
    listener: socket.socket,
    log_path: Path,
    policy: ParentPolicy,
    program: object,
    store: object,
    router: object,
    limit: int,
    lifeline: int,
) -> int:
    logger = logging.Logger("stomp-broker")
    handler = logging.FileHandler(log_path)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    if limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    routes: Routes = router(logger)  # type: ignore[operator]
    hooks = Hooks(
        ready=lambda: logger.info("ready"),
        stopping=lambda: logger.info("stopping"),
        status=lambda text: logger.info("status: %s", text),
        reopen_logs=lambda: _measure(parent, logger),
        logger=logger,
        log_descriptors=lambda: [handler.stream.fileno(), lifeline],
    )

    def raise_spares(end: socket.socket) -> int:
        return nursery.main(end, lambda _: spare_for(program))  # type: ignore[arg-type]

    parent = Parent(
        Loop(),
        [listener],
        routes,
        Programs(raise_spares, store, refusal=lambda reason, *_: f"ERROR {reason}\n".encode()),  # type: ignore[arg-type]
        policy,
        hooks,
    )
    try:
        return parent.run()
    except StartError as error:
        logger.error("cannot start: %s", error)
        return error.status


def fork_parent(
    log_path: Path,
    policy: ParentPolicy,
    program: object,
    store: object,
    router: object,
    unix: Path | None,
    limit: int,
) -> Broker:
    """A parent in a new process; `unix` is where it listens, if not on a port; `limit` bounds its descriptors."""
    listener = _listen(unix)
    log_path.touch()
    lifeline, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = _serve(listener, log_path, policy, program, store, router, limit, theirs)
        finally:
            os._exit(status)
    os.close(theirs)
    broker = Broker(pid, listener.getsockname(), log_path, listener.family, lifeline=lifeline)
    listener.close()
    return broker


def clear(broker: Broker) -> None:
    """End what a test left running, and see that it left nothing else."""
    pids = [client.pid for client in broker.clients if client.pid]
    if broker.status is None:
        with contextlib.suppress(ProcessLookupError):
            broker.signal(signal.SIGQUIT)
        try:
            broker.wait()
        except AssertionError:
            broker.signal(signal.SIGKILL)
            raise
    for client in broker.clients:
        client.close()
    wait_until(lambda: not any(map(is_alive, pids)), f"the ends of {pids}")
    is_over, _, _ = select.select([broker.lifeline], [], [], PATIENCE_S)
    os.close(broker.lifeline)
    assert is_over, "a process is left behind"
    if broker.status == 0:
        assert "left behind" not in broker.log
