"""The kilt shop of examples/kiltshop, as `make demo` runs it: on free ports, in a directory of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.deadline import stretched, wait_until
from support.leftovers import processes
from support.rawclient import RawClient, connect

PROGRAMS = Path(__file__).parents[2] / "examples" / "kiltshop"
OPEN = "Ctrl-C ends everything."
_PATIENCE_S = 30.0
"""Ten processes start, and connect again after a second."""


class Shop:
    """The shop, from the entry of the `with` block to its end."""

    def __init__(self, directory: Path) -> None:
        """`directory` is where the databases and the mails are."""
        self.directory = directory
        ports = _find_ports(4)
        names = ("KILTSHOP_STOMP", "KILTSHOP_WEB", "KILTSHOP_PAGES", "KILTSHOP_SMTP")
        self.places = {name: f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
        self.env = {**os.environ, **self.places, "KILTSHOP_DIRECTORY": str(directory)}
        self.port = ports[0]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._output = self.directory.with_suffix(".out")
        with self._output.open("wb") as output:
            self._demo = self._start("demo.py", stdout=output)
        try:
            wait_until(lambda: OPEN in self.printed or self._demo.poll() is not None, "an open shop", _PATIENCE_S)
            assert OPEN in self.printed, self.printed
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        assert error is not None or "Traceback" not in self.printed, self.printed

    @property
    def printed(self) -> str:
        """What the programs have printed until now."""
        return self._output.read_text()

    def wait_for(self, pattern: str, number: int = 1) -> None:
        """Wait until so many of the printed lines match a regular expression."""
        wait_until(
            lambda: len(re.findall(pattern, self.printed, re.MULTILINE)) >= number,
            f"{number} of {pattern!r} in: {self.printed[-3000:]}",
            _PATIENCE_S,
        )

    def kill(self, *names: str) -> None:
        """Kill programs as they are (SIGKILL), all at once, and wait until others have taken their places."""
        pids = {name: re.findall(rf"^{name}: process (\d+)$", self.printed, re.MULTILINE) for name in names}
        for found in pids.values():
            os.kill(int(found[-1]), signal.SIGKILL)
        for name, found in pids.items():
            self.wait_for(rf"^{name}: process \d+$", len(found) + 1)

    def run(self, program: str) -> subprocess.Popen[bytes]:
        """Start another program of the shop, which prints a line when it is ready; it ends with the shop."""
        process = self._start(program, stdout=subprocess.PIPE)
        self._stack.callback(_end_group, process, signal.SIGINT)
        assert process.stdout is not None and process.stdout.readline()
        return process

    def call(self, *command: str) -> str:
        """Run a program of the shop to its end, which is a good one, and return what it prints."""
        ended = subprocess.run(
            command, cwd=PROGRAMS, env=self.env, capture_output=True, text=True, timeout=stretched(_PATIENCE_S)
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def ask(self, name: str, /, **body: Any) -> Any:
        """What a service answers, on a connection of its own."""
        with connect(self.port) as client:
            return ask(client, name, **body)

    def wait_for_mails(self, *names: str) -> None:
        """Wait until these mails have been delivered, and no other ones."""
        wait_until(lambda: set(names) <= self.mails, f"{set(names) - self.mails}: {self.printed[-3000:]}", _PATIENCE_S)
        assert set(names) == self.mails

    def read(self, database: str, statement: str) -> list[dict[str, Any]]:
        """Look into the database of a program; if that was killed, SQLite undoes first what was not committed."""
        with closing(sqlite3.connect(f"file:{self.directory / database}?mode=rw", uri=True)) as opened:
            opened.row_factory = sqlite3.Row
            return [dict(row) for row in opened.execute(statement)]

    def wait_for_orders(self, number: int, state: str) -> None:
        """Wait until so many orders are in this state."""
        count_them = f"SELECT count(*) AS found FROM orders WHERE state = '{state}'"
        wait_until(
            lambda: self.read("orders.db", count_them) == [{"found": number}],
            f"{number} orders that are {state}: {self.printed[-3000:]}",
            _PATIENCE_S,
        )

    @property
    def mails(self) -> set[str]:
        """The mails that have been delivered, by the names of their jobs."""
        return {path.stem for path in (self.directory / "mails").glob("*.eml")}

    def _start(self, program: str, *, stdout: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(PROGRAMS / program.split()[0]), *program.split()[1:]],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _end(self) -> None:
        """Ctrl-C, and nobody is left."""
        with self._stack:
            _end_group(self._demo, signal.SIGINT)


def ask(client: RawClient, name: str, /, **body: Any) -> Any:
    """Ask a service, and return its answer."""
    destination = f"/queue/{name}"
    client.send(
        "SEND",
        body=json.dumps(body).encode(),
        destination=destination,
        reply_to="/temp-queue/answers",
        persistent="true",
    )
    return json.loads(client.expect("MESSAGE", subscription="/temp-queue/answers").body)


def _end_group(process: subprocess.Popen[bytes], number: int) -> None:
    """End a program and all that it has started, as the terminal does."""
    if process.stdout is not None:
        process.stdout.close()
    if process.poll() is None:
        os.killpg(process.pid, number)
    try:
        wait_until(lambda: process.poll() is not None, f"the end of {process.args}", _PATIENCE_S)
        wait_until(lambda: not processes(process.pid), f"the end of {processes(process.pid)}")
    finally:
        left = processes(process.pid)
        if left:
            print("did not end:", *left, sep="\n")
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _find_ports(number: int) -> list[int]:
    """Ports at which nobody listens just now."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [one.getsockname()[1] for one in found]
