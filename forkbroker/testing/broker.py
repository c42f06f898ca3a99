"""A real broker on a free port, for tests.

    with RunningBroker("--max-clients", "10") as broker:
        connection = stomp.Connection12([(broker.host, broker.port)])

The broker runs in the foreground, in a process group of its own, and takes the group's processes with it when the
`with` block ends, however it ends. What the broker logs is kept: `log`, `wait_for_log`.

It has a store of its own that goes with it, unless the options name one. For a broker that goes on with what another
one has left, give both the same `store_directory`.

Every wait has a deadline. On a machine that is slow, or busy with something else, the environment variable
FORKBROKER_TEST_STRETCH multiplies all of them.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import forkbroker
from forkbroker.errors import ForkbrokerError

STRETCH = float(os.environ.get("FORKBROKER_TEST_STRETCH", "1"))
PATIENCE_S = 10.0
"""How long anything may take that is not told otherwise, before it is stretched."""

_POLL_S = 0.005
_STORE_TITLE = "stomp-broker: store"
_NURSERY_TITLE = "stomp-broker: nursery"
_SPARE_TITLE = "stomp-broker: spare"
_CLIENT_TITLE = "stomp-broker: client"
_CLIENT_ZOMBIE = "[stomp-client]"
"""What is left of the title when the process has ended: the short name, in brackets."""
_STORE = "--store"
_CONFIG = "--config"
_ROOT = Path(forkbroker.__file__).parents[1]
_T = TypeVar("_T")


class BrokerNotRunningError(ForkbrokerError):
    """The broker did not start. The text has what it said."""


class RunningBroker:
    """A broker from entering the `with` block to its end, or to `stop`."""

    def __init__(
        self, *options: str, env: Mapping[str, str] | None = None, store_directory: Path | None = None
    ) -> None:
        """`options` follow `--listen 127.0.0.1:0` on the command line; `env` is added to this process's own.

        `store_directory` is where the store is, made if need be and left there; it has no meaning where the options
        have `--store`. Without both the store is removed in the end.
        """
        self._options = options
        self._store_directory = store_directory
        self._own_directory: tempfile.TemporaryDirectory[str] | None = None
        self._env = env or {}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._process: subprocess.Popen[bytes] | None = None
        self.host = ""
        self.port = 0
        self.addresses: list[str] = []
        """All that it listens on, as it says: the address that every RunningBroker has, and those of the options."""
        self.survivors: list[tuple[int, str]] = []
        """Processes that were there long after the parent's end, and had to be killed: there should be none."""

    def __enter__(self) -> Self:
        """Start, and return when clients can connect.

        Raises:
            BrokerNotRunningError: it ended instead, or did not listen in time.
        """
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        store = self._choose_store()
        # not the file of a broker that is installed on this machine
        config = [] if self._names(_CONFIG) else [_CONFIG, os.devnull]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "forkbroker", "--listen", "127.0.0.1:0", *config, *store, *self._options],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **self._env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        try:
            self._await_listening()
        except BaseException:
            self.stop()
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it if it still runs."""
        self.stop()
        self._close()

    @property
    def pid(self) -> int:
        """The parent's process, and its process group."""
        return self._started.pid

    @property
    def title(self) -> str:
        """The parent's line in `ps`; empty when it is gone."""
        return next((title for pid, _, title in _processes() if pid == self.pid), "")

    @property
    def database(self) -> Path:
        """The file of the store that it has by itself, or in `store_directory`."""
        assert self._store_directory is not None, "this broker's store is named by its options"
        return self._store_directory / "queues.db"

    @property
    def store_pid(self) -> int:
        """The process of the store; 0: there is none just now."""
        return next((pid for pid, title in self._all_children() if title.startswith(_STORE_TITLE)), 0)

    @property
    def nursery_pid(self) -> int:
        """The process that forks those of clients; 0: there is none, or it forks and has the title of spares."""
        return next((pid for pid, title in self._all_children() if title == _NURSERY_TITLE), 0)

    @property
    def spares(self) -> list[int]:
        """The processes that wait for clients."""
        return [pid for pid, title in self._all_children() if title == _SPARE_TITLE]

    def wait_for_store(self, *, other_than: int = 0, deadline_s: float = PATIENCE_S) -> int:
        """Wait until there is a process of the store, and another one than this; its number.

        Raises:
            TimeoutError: there is none.
        """
        return self._wait(
            lambda: pid if (pid := self.store_pid) != other_than else 0, "a process of the store", deadline_s
        )

    def wait_for_nursery(self, *, other_than: int = 0, deadline_s: float = PATIENCE_S) -> int:
        """Wait until there is a nursery that does not fork just now, and another one than this; its number.

        Raises:
            TimeoutError: there is none.
        """
        return self._wait(lambda: pid if (pid := self.nursery_pid) != other_than else 0, "a nursery", deadline_s)

    @property
    def is_running(self) -> bool:
        """Whether the parent has not ended."""
        return self._started.poll() is None

    @property
    def log(self) -> list[str]:
        """The lines that were logged until now."""
        return self._read_log().splitlines()

    def children(self) -> list[tuple[int, str]]:
        """Number and title of each client's process, as `ps` shows them; a zombie's title ends in `<defunct>`."""
        return [one for one in self._all_children() if one[1].startswith((_CLIENT_TITLE, _CLIENT_ZOMBIE))]

    def wait_for_children(self, count: int, deadline_s: float = PATIENCE_S) -> list[tuple[int, str]]:
        """Wait until so many clients have a process, and return these.

        Raises:
            TimeoutError: there are more or fewer.
        """
        return self._wait(
            lambda: [found] if len(found := self.children()) == count else [], f"{count} children", deadline_s
        )[0]

    def wait_for_log(self, pattern: str, deadline_s: float = PATIENCE_S) -> re.Match[str]:
        """Wait for a line with something that this regular expression finds, from the log's beginning on.

        Raises:
            TimeoutError: there is none.
        """
        expression = re.compile(pattern, re.MULTILINE)
        return self._wait(lambda: expression.search(self._read_log()), f"a log line {pattern!r}", deadline_s)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the parent, and to nobody else."""
        self._started.send_signal(number)

    def wait(self, deadline_s: float = PATIENCE_S) -> int:
        """Wait for the parent's end; its exit status, negative for a signal.

        Raises:
            TimeoutError: it does not end.
        """
        self._wait(lambda: not self.is_running, "the broker's end", deadline_s)
        return self._started.wait()

    def stop(self, deadline_s: float = PATIENCE_S) -> int:
        """End it with SIGTERM if it still runs; its exit status, negative for a signal (SIGKILL when it won't end).

        What is left of its process group is given a moment, then killed and noted in `survivors`.
        """
        process = self._started
        with suppress(TimeoutError):
            if process.poll() is None:
                process.terminate()
                self.wait(deadline_s)
            self._wait(lambda: not self._group(), "the end of the broker's children", deadline_s)
        if group := self._group():
            self.survivors += [one for one in group if one[0] != process.pid or process.poll() is None]
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return process.wait()

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "a RunningBroker runs in a with block only"
        return self._process

    def _names(self, name: str) -> bool:
        return any(option == name or option.startswith(f"{name}=") for option in self._options)

    def _choose_store(self) -> list[str]:
        """The option that names the store, if nobody else does."""
        if self._names(_STORE):
            return []
        if self._store_directory is None:
            self._own_directory = tempfile.TemporaryDirectory(prefix="forkbroker-")
            # below it, so that the broker makes the one that it needs for itself, or for the user of its options
            Path(self._own_directory.name).chmod(0o711)
            self._store_directory = Path(self._own_directory.name) / "store"
        return [_STORE, f"sqlite://{self.database}"]

    def _all_children(self) -> list[tuple[int, str]]:
        return [(pid, title) for pid, group, title in _processes() if group == self.pid != pid]

    def _await_listening(self) -> None:
        """Read what it says first: it writes all its addresses at once."""
        process = self._started
        assert process.stdout is not None
        said = b""
        give_up = time.monotonic() + PATIENCE_S * STRETCH
        while not said.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, give_up - time.monotonic()))
            piece = os.read(process.stdout.fileno(), 65_536) if ready else b""
            if not piece:
                raise BrokerNotRunningError(f"the broker does not listen; it said: {self._read_log() or 'nothing'}")
            said += piece
        self.addresses = re.findall(r"^listening on (.+)$", said.decode(), re.MULTILINE)
        self.host, _, port = self.addresses[0].rpartition(":")
        self.port = int(port)

    def _group(self) -> list[tuple[int, str]]:
        """What lives of the process group."""
        return [(pid, title) for pid, group, title in _processes() if group == self.pid and _lives(title)]

    def _read_log(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def _wait(self, condition: Callable[[], _T | None], what: str, deadline_s: float) -> _T:
        give_up = time.monotonic() + deadline_s * STRETCH
        while not (result := condition()):
            if time.monotonic() > give_up:
                raise TimeoutError(f"waited in vain for {what}; the log ends in:\n" + "\n".join(self.log[-20:]))
            select.select([], [], [], _POLL_S)
        return result

    def _close(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
        if self._own_directory is not None:
            self._own_directory.cleanup()


def _processes() -> list[tuple[int, int, str]]:
    """All processes: their number, that of their group, their title."""
    shown = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,pgid=,command="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split(None, 2) for line in shown.splitlines())
    return [(int(row[0]), int(row[1]), row[2] if len(row) > 2 else "") for row in rows]


def _lives(title: str) -> bool:
    return not title.endswith("<defunct>")
