"""How the broker begins: whatever process started it, and whatever happens while it starts."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from faults.scene import Client, is_there
from support.deadline import stretched, wait_until

from forkbroker.errors import Exit
from forkbroker.testing.broker import PATIENCE_S

COMMAND = [sys.executable, str(Path(__file__).parents[2] / "bin" / "stomp-broker")]

Start = Callable[..., "subprocess.Popen[bytes]"]

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


@pytest.fixture
def start(nothing_is_left: None, tmp_path: Path) -> Iterator[Start]:
    """Start the command with a pidfile, a log and a Unix socket; what is left of it is killed after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*options: str, **how: object) -> subprocess.Popen[bytes]:
        files = ["--pidfile", f"{tmp_path}/pid", "--log-file", f"{tmp_path}/log", "--listen", f"unix:{tmp_path}/socket"]
        streams: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [*COMMAND, *files, "--store", "memory:", *options]
        process = subprocess.Popen(command, **{**streams, **how})  # type: ignore[call-overload]
        started.append(process)
        return process

    yield run
    with suppress(FileNotFoundError, ValueError, ProcessLookupError):
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_there(pid), "the broker's end")
    for process in started:
        process.kill()
        process.communicate()


def pid_in(directory: Path) -> int:
    """Wait for the pidfile, and return its number."""

    def look() -> int:
        with suppress(FileNotFoundError, ValueError):
            return int((directory / "pid").read_text())
        return 0

    return wait_until(look, "a number in the pidfile")


def serves(directory: Path) -> bool:
    """Connect to the broker as a client does."""
    with suppress(ConnectionError, FileNotFoundError), Client(str(directory / "socket")) as client:
        client.login()
        return True
    return False


def find_process(word: str) -> int:
    """Return the number of the client's process that has a word in its title; 0: there is none."""
    shown = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,command="], capture_output=True, text=True, check=True)
    lines = [line for line in shown.stdout.splitlines() if "stomp-broker: client" in line and word in line]
    return int(lines[0].split()[0]) if lines else 0


def end(directory: Path, number: int = signal.SIGTERM) -> None:
    """Signal the broker of the pidfile, and see it go."""
    pid = pid_in(directory)
    os.kill(pid, number)
    wait_until(lambda: not is_there(pid), "the broker's end")


def test_a_daemon_needs_no_standard_streams(start: Start, tmp_path: Path) -> None:
    """As they are when a program with closed streams starts it."""
    closed = start("--daemonize", stdin=None, stdout=None, stderr=None, preexec_fn=lambda: os.closerange(0, 3))

    assert closed.wait(stretched(PATIENCE_S)) == 0
    assert serves(tmp_path)
    end(tmp_path)


def test_a_complaint_without_standard_streams_is_a_status(start: Start) -> None:
    """Nobody can read it, and nothing else goes wrong."""
    closed = start("--prefetch", "none", stdout=None, stderr=None, preexec_fn=lambda: os.closerange(0, 3))

    assert closed.wait(stretched(PATIENCE_S)) == Exit.USAGE


def test_a_pipe_of_the_starter_ends_although_the_broker_runs(start: Start, tmp_path: Path) -> None:
    """Whoever waits for its end, as a shell does in `$(...)`, waits for the command alone."""
    reading, writing = os.pipe()
    daemon = start("--daemonize", pass_fds=(writing,))
    os.close(writing)

    assert daemon.wait(stretched(PATIENCE_S)) == 0
    assert os.read(reading, 1) == b""
    os.close(reading)
    end(tmp_path)


def test_signals_that_the_starter_has_blocked_or_ignored_reach_the_broker(start: Start, tmp_path: Path) -> None:
    """SIGTERM ends it, and it learns how its children end."""

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    broker = start(preexec_fn=block)
    wait_until(lambda: serves(tmp_path), "a broker that serves")
    log = tmp_path / "log"
    with Client(str(tmp_path / "socket")) as client:
        client.login(login="victim")
        os.kill(wait_until(lambda: find_process("victim"), "the client's process"), signal.SIGKILL)
        wait_until(lambda: "ended by signal SIGKILL" in log.read_text(), "how the child ended")
        client.take_to_end()
    broker.terminate()

    assert broker.wait(stretched(PATIENCE_S)) == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_that_comes_as_soon_as_the_pidfile_is_there_kills_nobody(
    start: Start, tmp_path: Path, number: int
) -> None:
    """Handlers come later, but no signal comes before them."""
    broker = start()
    os.kill(pid_in(tmp_path), number)

    wait_until(lambda: serves(tmp_path), "a broker that serves")
    broker.terminate()
    assert broker.wait(stretched(PATIENCE_S)) == 0


def test_a_broker_that_is_to_end_while_it_starts_ends_in_good_order(start: Start, tmp_path: Path) -> None:
    """With status 0, and without its files."""
    broker = start()
    os.kill(pid_in(tmp_path), signal.SIGTERM)

    assert broker.wait(stretched(PATIENCE_S)) == 0
    assert not (tmp_path / "pid").exists()
    assert not (tmp_path / "socket").exists()


@needs_root
@pytest.mark.parametrize("how", [[], ["--daemonize"]])
def test_without_room_for_the_store_the_broker_does_not_start(start: Start, tmp_path: Path, how: list[str]) -> None:
    """The limit of processes is met by the first one: status 71, and the reason."""
    broker = start("--user", "nobody", *how, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)))
    _, complaint = broker.communicate(timeout=stretched(PATIENCE_S))

    assert broker.returncode == Exit.OSERR
    assert complaint.splitlines()[-1] == (
        b"stomp-broker: the store cannot be opened: cannot fork its process: Resource temporarily unavailable"
    )


@pytest.mark.parametrize("option", [["--log-file", "log"], ["--pidfile", "pid"], ["--listen", "unix:socket"]])
def test_a_relative_name_in_a_directory_that_is_gone_is_a_mistake(start: Start, tmp_path: Path, option) -> None:
    """A line with the option, no traceback."""
    (tmp_path / "gone").mkdir()

    def enter() -> None:
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()

    broker = start(*option, preexec_fn=enter)
    _, complaint = broker.communicate(timeout=stretched(PATIENCE_S))

    assert broker.returncode == Exit.USAGE
    assert complaint.startswith(f"stomp-broker: {' '.join(option)}: this directory has no name".encode())
    assert len(complaint.splitlines()) == 1
