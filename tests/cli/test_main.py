"""The command as a process: what it prints, what it returns, what it leaves."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.deadline import stretched, wait_until

from forkbroker.errors import Exit

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / "bin" / "stomp-broker")]
PATIENCE_S = stretched(10.0)

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and not only its status, which init may take its time to collect."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state) and not state.startswith("Z")


@pytest.fixture(autouse=True)
def state_directory(tmp_path, monkeypatch) -> Path:
    """Where the brokers' store is, unless a test says otherwise."""
    directory: Path = tmp_path / "state"
    monkeypatch.setenv("STATE_DIRECTORY", str(directory))
    return directory


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start brokers in the foreground; killed after the test if they still run."""
    brokers: list[subprocess.Popen[str]] = []

    def run(*arguments: object, **options: object) -> subprocess.Popen[str]:
        broker = subprocess.Popen(
            [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        brokers.append(broker)
        return broker

    yield run
    for broker in brokers:
        broker.kill()
        broker.communicate()


@pytest.fixture
def daemon(tmp_path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run the command with --daemonize and a pidfile; the daemon is ended after the test."""
    pidfile = tmp_path / "pid"

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "--daemonize", "--pidfile", str(pidfile), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    yield run
    if pidfile.exists():
        pid = int(pidfile.read_text())
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid), "the daemon's end")


def listening(broker: subprocess.Popen[str]) -> str:
    """The first address that a broker says it listens on."""
    assert broker.stdout is not None
    match = re.fullmatch(r"listening on (\S+)\n", broker.stdout.readline())
    assert match is not None, broker.stderr.read() if broker.stderr else ""
    return match[1]


def greet(address: str) -> bytes:
    """Connect to HOST:PORT as a client; what the broker answers first."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as client:
        client.sendall(b"CONNECT\naccept-version:1.2\nhost:/\n\n\0")
        return client.recv(9)


def test_the_chosen_port_is_printed_and_serves(start) -> None:
    """One line a listener on standard output; the log, on standard error, has it too."""
    broker = start("--listen", "127.0.0.1:0")
    address = listening(broker)
    greeting = greet(address)
    broker.send_signal(signal.SIGTERM)
    output, log = broker.communicate(timeout=PATIENCE_S)

    assert greeting == b"CONNECTED"
    assert broker.returncode == 0
    assert output == ""
    assert re.search(rf"info  stomp-broker \S+: process {broker.pid} listens on {address}\n", log)


def test_the_interpreter_can_be_asked_for_the_module(start) -> None:
    """`python -m forkbroker` is the same program."""
    ended = subprocess.run(
        [sys.executable, "-m", "forkbroker", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert ended.stdout.startswith("stomp-broker ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-body", "10 MB"], "--max-body 10 MB: not a size; give bytes, or a number with KiB, MiB or GiB"),
        (["--listen", "nowhere"], "--listen nowhere: not an address to listen on; write HOST:PORT"),
        (["--listen", "0.0.0.0:0"], "--listen 0.0.0.0:0: other hosts can reach it, and anybody may log in; listen on"),
        (["--syslog", "--log-file", "x"], "--syslog: --log-file is given as well; give one of them"),
        (
            ["--queue-full=dead-letter", "--max-queue-bytes=1MiB", "--policy=/queue/DLQ dead-letter=/queue/x"],
            "--policy '/queue/DLQ': full queues would move their dead letters in a circle, /queue/DLQ -> /queue/x ->",
        ),
    ],
)
def test_a_bad_setting_is_one_line_and_status_2(start, arguments, message) -> None:
    """No traceback, no half-started broker; in the background the same."""
    for more in ([], ["--daemonize"]):
        broker = start(*arguments, *more)
        output, complaint = broker.communicate(timeout=PATIENCE_S)

        assert broker.returncode == Exit.USAGE
        assert output == ""
        assert complaint.startswith(f"stomp-broker: {message}")
        assert len(complaint.splitlines()) == 1


def test_an_address_in_use_is_told(start) -> None:
    """The second broker ends, the first one serves on."""
    address = listening(start("--listen", "127.0.0.1:0"))
    second = start("--listen", address)
    _, complaint = second.communicate(timeout=PATIENCE_S)

    assert second.returncode == Exit.UNAVAILABLE
    assert complaint.splitlines()[-1].startswith(f"stomp-broker: {address}: address in use")
    assert greet(address) == b"CONNECTED"


def test_a_daemon_serves_when_the_command_returns(daemon, tmp_path) -> None:
    """Listening, pidfile written, a title, and the log in its file; SIGTERM takes all of it away again."""
    path = tmp_path / "socket"
    ended = daemon("--listen", f"unix:{path}", "--log-file", tmp_path / "log")
    pid = int((tmp_path / "pid").read_text())
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        client.sendall(b"CONNECT\naccept-version:1.2\nhost:/\n\n\0")
        greeting = client.recv(9)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_alive(pid), "the daemon's end")

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert greeting == b"CONNECTED"
    assert not (tmp_path / "pid").exists()
    assert not path.exists()
    assert f"process {pid} listens on unix:{path}\n" in (tmp_path / "log").read_text()


def test_a_daemon_without_syslog_serves_and_says_that_it_will_be_silent(daemon) -> None:
    """Where there is a syslog daemon, nothing is said."""
    ended = daemon("--listen", "127.0.0.1:0")

    assert ended.returncode == 0
    if ended.stderr:
        assert "no log after the broker has detached: no syslog daemon listens at" in ended.stderr
        assert "--log-file" in ended.stderr


def test_relative_files_are_those_of_the_callers_directory(daemon, tmp_path, monkeypatch) -> None:
    """The daemon's own is the root."""
    monkeypatch.chdir(tmp_path)

    assert daemon("--listen", "unix:socket", "--log-file", "log").returncode == 0
    assert (tmp_path / "log").exists()
    assert (tmp_path / "socket").is_socket()


def test_a_daemon_that_cannot_start_says_why_before_and_after_detaching(daemon, start, tmp_path) -> None:
    """Address in use is found before, a pidfile that cannot be written after; the log has the second."""
    address = listening(start("--listen", "127.0.0.1:0"))
    in_use = daemon("--listen", address, "--log-file", tmp_path / "log")
    no_pidfile = daemon(
        "--listen", "127.0.0.1:0", "--log-file", tmp_path / "log", "--pidfile", tmp_path / "none" / "pid"
    )

    assert in_use.returncode == Exit.UNAVAILABLE
    assert in_use.stderr.startswith(f"stomp-broker: {address}: address in use")
    assert no_pidfile.returncode == Exit.CANTCREAT
    assert re.fullmatch(
        r"stomp-broker: cannot write pidfile .*/none/pid: No such file or directory\n", no_pidfile.stderr
    )
    assert "error cannot start: cannot write pidfile" in (tmp_path / "log").read_text()


def test_a_living_brokers_pidfile_keeps_the_second_out_and_a_dead_ones_does_not(daemon, tmp_path) -> None:
    """The message names the process that holds it."""
    first = daemon("--listen", "127.0.0.1:0", "--log-file", tmp_path / "log")
    pid = int((tmp_path / "pid").read_text())
    second = daemon("--listen", "127.0.0.1:0", "--log-file", tmp_path / "log")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the first daemon's end")
    third = daemon("--listen", "127.0.0.1:0", "--log-file", tmp_path / "log")

    assert (first.returncode, second.returncode, third.returncode) == (0, Exit.UNAVAILABLE, 0)
    assert f"a broker is running already (process {pid} holds pidfile {tmp_path}/pid)" in second.stderr


def test_an_unknown_user_is_told(start) -> None:
    """With the status that sysexits has for it."""
    broker = start("--user", "no-such-user", "--listen", "127.0.0.1:0")
    _, complaint = broker.communicate(timeout=PATIENCE_S)

    assert broker.returncode == Exit.NOUSER
    assert complaint == "stomp-broker: no user no-such-user on this system; create it, or give another --user\n"


@needs_root
def test_root_gives_up_its_rights_and_the_broker_serves(daemon, tmp_path) -> None:
    """Parent and child are somebody else's; the log is theirs, the pidfile is emptied when it cannot be removed."""
    tmp_path.chmod(0o755)
    for place in list(tmp_path.parents)[:3]:
        place.chmod(place.stat().st_mode | 0o011)
    ended = daemon("--user", "nobody", "--listen", f"unix:{tmp_path}/socket", "--log-file", tmp_path / "log")
    assert (ended.returncode, ended.stderr) == (0, "")
    pid = int((tmp_path / "pid").read_text())
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(f"{tmp_path}/socket")
        client.sendall(b"CONNECT\naccept-version:1.2\nhost:/\n\n\0")
        client.recv(9)
        shown = subprocess.run(
            ["ps", "-o", "user=", "-p", str(pid), "--ppid", str(pid)], capture_output=True, text=True, check=True
        )
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_alive(pid), "the daemon's end")

    assert set(shown.stdout.split()) == {"nobody"}  # the parent, the store, the nursery, the client, and spares
    assert (tmp_path / "log").owner() == "nobody"
    assert (tmp_path / "pid").read_text() == ""
    (tmp_path / "pid").unlink()


def test_the_log_is_reopened_at_sigusr1(start, tmp_path) -> None:
    """The file is there again at once, before anybody has something to say."""
    log = tmp_path / "log"
    broker = start("--listen", "127.0.0.1:0", "--log-file", log)
    listening(broker)
    log.rename(tmp_path / "log.1")
    broker.send_signal(signal.SIGUSR1)
    wait_until(log.exists, "a new log file")

    assert broker.poll() is None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a mounted /proc with descriptors")
def test_the_nursery_goes_on_with_the_new_log_and_so_do_its_spares(start, tmp_path) -> None:
    """It is the same process, and nobody who will serve a client holds the old file, which takes room on the disk."""
    log = tmp_path / "log"
    broker = start("--listen", "127.0.0.1:0", "--log-file", log)
    listening(broker)

    def waiting() -> dict[int, str]:
        command = ["ps", "-o", "pid=,comm=", "--ppid", str(broker.pid)]
        rows = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        shown = dict(zip(map(int, rows[::2]), rows[1::2], strict=True))
        return {pid: name for pid, name in shown.items() if name in ("stomp-nursery", "stomp-spare")}

    def holds(pid: int, path: Path) -> bool:
        try:
            return any(os.path.realpath(fd) == str(path) for fd in Path(f"/proc/{pid}/fd").iterdir())
        except FileNotFoundError:
            return False

    wait_until(lambda: len(waiting()) > 17, "spares")
    [nursery] = [pid for pid, name in waiting().items() if name == "stomp-nursery"]
    log.rename(tmp_path / "log.1")
    broker.send_signal(signal.SIGUSR1)
    wait_until(lambda: len(waiting()) > 17 and all(holds(pid, log) for pid in waiting()), "all with the new file")

    assert waiting()[nursery] == "stomp-nursery"
    assert not [pid for pid in waiting() if holds(pid, tmp_path / "log.1")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_end_the_broker_with_status_0_and_its_clients_with_it(start, number) -> None:
    """Nothing is left: the client sees the end of its connection."""
    broker = start("--listen", "127.0.0.1:0")
    host, _, port = listening(broker).rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as client:
        client.sendall(b"CONNECT\naccept-version:1.2\nhost:/\n\n\0")
        assert client.recv(9) == b"CONNECTED"
        broker.send_signal(number)
        while client.recv(4096):
            pass

    assert broker.wait(PATIENCE_S) == 0


MANAGER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def pass_listener(listener: socket.socket, *arguments: str) -> subprocess.Popen[str]:
    """Start a broker as a service manager does that listens for it: descriptor 3, and variables that say so."""
    return subprocess.Popen(
        [sys.executable, "-c", MANAGER, str(listener.fileno()), *COMMAND, *arguments],
        pass_fds=(listener.fileno(),),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_passed_socket_takes_the_place_of_listen_and_is_left_in_its_place(tmp_path) -> None:
    """Its path is the service manager's, who may start the next broker on it."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        broker = pass_listener(listener, "--listen", "127.0.0.1:0")
        said = listening(broker)
        broker.terminate()
        rest, _ = broker.communicate(timeout=PATIENCE_S)

    assert said == f"unix:{path}"
    assert rest == ""
    assert broker.returncode == 0
    assert path.exists()


def test_a_passed_socket_that_reaches_beyond_needs_a_word_too() -> None:
    """The unit's address is checked as that of --listen is."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        broker = pass_listener(listener)
        _, complaint = broker.communicate(timeout=PATIENCE_S)

    assert broker.returncode == Exit.CONFIG
    assert "stomp-broker: socket unit, 0.0.0.0:" in complaint


def test_a_service_manager_hears_of_readiness_status_and_end(start, tmp_path) -> None:
    """In this order."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(PATIENCE_S)
        manager.bind(str(tmp_path / "notify"))
        broker = start("--listen", "127.0.0.1:0", env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")})
        heard = []
        while "READY=1" not in heard:
            heard.append(manager.recv(1000).decode())
        broker.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in heard:
            heard.append(manager.recv(1000).decode())

    assert any(line.startswith("STATUS=0 clients") for line in heard)
    assert broker.wait(PATIENCE_S) == 0


def test_a_broker_that_loses_its_output_goes_on(start) -> None:
    """Whoever started it has closed the pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    broker = subprocess.Popen(
        [*COMMAND, "--listen", f"127.0.0.1:{port}"], stdout=writing, stderr=subprocess.DEVNULL, text=True
    )
    os.close(writing)

    def answers() -> bool:
        try:
            return greet(f"127.0.0.1:{port}") == b"CONNECTED"
        except ConnectionRefusedError:
            return False

    wait_until(answers, "an answer")
    broker.terminate()

    assert broker.wait(PATIENCE_S) == 0


def test_the_journal_gets_levels_and_no_second_time(start, tmp_path) -> None:
    """Standard error is the journal's, as its variable says."""
    with (tmp_path / "journal").open("wb") as stream:
        found = os.fstat(stream.fileno())
        variables = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        broker = subprocess.Popen(
            [*COMMAND, "--config", os.devnull, "--listen", "127.0.0.1:0", "--store", "memory:"],
            stdout=subprocess.PIPE,
            stderr=stream,
            env=variables,
            text=True,
        )
    with socket.create_connection(("127.0.0.1", int(listening(broker).rpartition(":")[2])), PATIENCE_S) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while client.recv(4096):
            pass
    lines = tmp_path / "journal"
    wait_until(lambda: "<4>client 1 " in lines.read_text(), "a warning about the client")
    broker.terminate()
    broker.communicate(timeout=PATIENCE_S)

    text = lines.read_text()
    assert re.search(r"^<6>store memory:: open, 0 messages\n<6>stomp-broker \S+: process", text, re.MULTILINE)
