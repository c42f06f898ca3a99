"""The daemon's life: starting, being killed, ending in good order or at once, with clients at work."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faults.scene import Client, child_of, is_there, processes
from support.deadline import stretched, wait_until

from forkbroker.errors import Exit
from forkbroker.testing.broker import PATIENCE_S

COMMAND = [sys.executable, str(Path(__file__).parents[2] / "bin" / "stomp-broker")]


@dataclass
class Daemon:
    """What is known of a daemon."""

    pidfile: Path
    log_file: Path
    socket: Path

    def start(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the command; it returns when the daemon serves, or says why not."""
        files = ["--pidfile", str(self.pidfile), "--log-file", str(self.log_file), "--listen", f"unix:{self.socket}"]
        return subprocess.run(
            [*COMMAND, "--daemonize", *files, *options],
            env={**os.environ, "STATE_DIRECTORY": str(self.pidfile.parent / "state")},
            capture_output=True,
            text=True,
            timeout=stretched(PATIENCE_S),
            check=False,
        )

    @property
    def pid(self) -> int:
        """As the pidfile has it."""
        return int(self.pidfile.read_text())

    @property
    def log(self) -> str:
        """What was logged."""
        return self.log_file.read_text()

    def connect(self) -> Client:
        """A client that has logged in."""
        client = Client(str(self.socket))
        client.login()
        return client


def _group_of(pid: int) -> int:
    return os.getpgid(pid)


@pytest.fixture
def daemon(nothing_is_left: None, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that the test starts, and must leave dead and without files but its log."""
    one = Daemon(tmp_path / "pid", tmp_path / "log", tmp_path / "socket")
    yield one
    try:
        pid = one.pid
    except (FileNotFoundError, ValueError):
        return
    if is_there(pid):
        os.killpg(_group_of(pid), signal.SIGKILL)
        pytest.fail(f"daemon {pid} was left behind:\n{one.log}")


def _roles(group: int) -> list[str]:
    """What the titles of the processes call them; spares may be any number."""
    words = sorted(one.title.removeprefix("stomp-broker: ").split()[0] for one in processes(group))
    return [word for word in words if word != "spare"]


def _end(daemon: Daemon, *numbers: int, within_s: float = PATIENCE_S) -> None:
    """Send signals, and see the daemon and all of its family go."""
    pid = daemon.pid
    group = _group_of(pid)
    for number in numbers:
        os.kill(pid, number)
    wait_until(lambda: not processes(group), "the end of the daemon's family", within_s)


def test_the_command_returns_when_the_daemon_serves(daemon) -> None:
    """No retrying is needed; nothing is printed, and no terminal is held."""
    ended = daemon.start()
    with daemon.connect() as client:
        client.publish("/queue/work", "job")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        group = _group_of(daemon.pid)
        # for a moment the nursery has the title of the spares that it forks
        wait_until(lambda: _roles(group) == ["client", "nursery", "parent", "store"], "the title of each")
    _end(daemon, signal.SIGTERM)
    assert not daemon.pidfile.exists()
    assert not daemon.socket.exists()
    assert daemon.log.splitlines()[-1].endswith(" info  ended")


def test_a_daemon_that_was_killed_with_clients_is_started_again_by_the_same_command(daemon) -> None:
    """Its pidfile and its socket are still there, and no obstacle."""
    assert daemon.start().returncode == 0
    with daemon.connect() as client, daemon.connect() as other:
        client.publish("/queue/work", "lost, as it is in memory")
        first = daemon.pid
        _end(daemon, signal.SIGKILL)
        client.take_to_end()
        other.take_to_end()
        assert daemon.pidfile.exists()
        assert daemon.socket.is_socket()
        assert daemon.start().returncode == 0
    with daemon.connect() as client:
        client.publish("/queue/work", "new")
    assert daemon.pid != first
    _end(daemon, signal.SIGTERM)


def test_a_second_daemon_is_refused_while_one_lives_even_if_it_is_stopped(daemon, tmp_path) -> None:
    """The message names the process; the first goes on, with its files."""
    assert daemon.start().returncode == 0
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        refused = Daemon(daemon.pidfile, daemon.log_file, tmp_path / "other").start()
    finally:
        os.kill(daemon.pid, signal.SIGCONT)

    assert refused.returncode == Exit.UNAVAILABLE
    assert re.fullmatch(rf"stomp-broker: a broker is running already \(process {daemon.pid} holds .*\n", refused.stderr)
    assert not (tmp_path / "other").exists()
    with daemon.connect() as client:
        client.publish("/topic/news")
    _end(daemon, signal.SIGTERM)


def test_a_pidfile_that_is_no_pidfile_of_a_living_broker_is_taken_over(daemon) -> None:
    """Emptied, torn, or the number of somebody else: the lock tells, not the number."""
    for stale in ("", "garb\0age", f"{os.getpid()}\n", "999999999999\n"):
        daemon.pidfile.write_text(stale)
        assert daemon.start().returncode == 0
        _end(daemon, signal.SIGTERM)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--listen", "unix:/nonexistent/socket"], None),
        (["--listen", "192.0.2.1:0", "--allow-anonymous"], None),
        (["--user", "no-such-user"], Exit.NOUSER),
        (["--group", "no-such-group"], Exit.NOUSER),
        (["--pidfile", "/proc/pid"], Exit.CANTCREAT),
        (["--pidfile", "/nonexistent/pid"], Exit.CANTCREAT),
        (["--log-file", "/nonexistent/log"], Exit.CANTCREAT),
        (["--prefetch", "none"], Exit.USAGE),
    ],
)
def test_a_daemon_that_cannot_start_says_why_in_a_line_and_leaves_nothing(daemon, tmp_path, options, status) -> None:
    """On standard error, with a status; no traceback, no process, no file."""
    ended = daemon.start(*options)

    assert ended.returncode == status if status else ended.returncode > 0
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("stomp-broker: ")
    assert not daemon.pidfile.exists()
    assert not daemon.socket.exists()
    shown = subprocess.run(["ps", "-A", "-ww", "-o", "command="], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in shown


def test_the_log_can_be_moved_away_under_traffic(daemon, tmp_path) -> None:
    """SIGUSR1: later lines are in the new file, and no line is lost."""
    assert daemon.start().returncode == 0
    with daemon.connect() as before:
        before.publish("/topic/news")
        daemon.log_file.rename(tmp_path / "old")
        os.kill(daemon.pid, signal.SIGUSR1)
        wait_until(daemon.log_file.exists, "a new log file")
        with daemon.connect():
            wait_until(lambda: "client 2 " in daemon.log, "a line about the second client")
    _end(daemon, signal.SIGTERM)

    assert "client 1 " in (tmp_path / "old").read_text()
    assert "client 2 " not in (tmp_path / "old").read_text()
    assert daemon.log.endswith(" ended\n")


@dataclass
class _Traffic:
    """A producer that notes its receipts, and a consumer that notes its messages."""

    producer: Client
    consumer: Client
    destination: str
    sent: int = 0
    promised: list[str] = field(default_factory=list)
    """Numbers of the messages whose RECEIPT came."""
    got: list[str] = field(default_factory=list)
    """Numbers of the messages that the consumer has read."""

    @property
    def has_ended(self) -> bool:
        """Whether both connections have."""
        return self.producer.has_ended and self.consumer.has_ended

    def turn(self) -> None:
        """Send a few while there is room, and take what has come."""
        with suppress(ConnectionError, TimeoutError):
            for _ in range(20):
                if self.producer.has_ended or not select.select([], [self.producer], [], 0)[1]:
                    break
                self.producer.send("SEND", body=b"%d" % self.sent, destination=self.destination, receipt=self.sent)
                self.sent += 1
        self.promised += [frame["receipt-id"] for frame in self.producer.take() if frame.command == "RECEIPT"]
        self.got += [frame.body.decode() for frame in self.consumer.take() if frame.command == "MESSAGE"]
        for client in (self.producer, self.consumer):
            if client.has_ended:
                client.close()


@pytest.mark.parametrize("destination", ["/queue/work", "/topic/news"])
def test_at_sigterm_what_got_a_receipt_is_delivered_before_the_end(start, connect, destination) -> None:
    """Producers and consumers that go on reading lose nothing that was promised, and are told why it ends."""
    broker = start()
    pairs = []
    for number in range(3):
        producer, consumer = connect(broker, f"p{number}"), connect(broker, f"c{number}")
        consumer.subscribe(f"{destination}{number}")
        pairs.append(_Traffic(producer, consumer, f"{destination}{number}"))
    wait_until(lambda: [pair.turn() for pair in pairs] and all(pair.got for pair in pairs), "traffic")
    began = time.monotonic()
    broker.kill(signal.SIGTERM)

    def turn() -> bool:
        for pair in pairs:
            pair.turn()
        return all(pair.has_ended for pair in pairs)

    wait_until(turn, "the end of all connections", 15)
    assert broker.wait() == 0
    assert time.monotonic() - began < stretched(12)
    for pair in pairs:
        assert pair.promised
        assert set(pair.promised) - set(pair.got) == set()
        assert pair.got == [str(number) for number in range(len(pair.got))]


@pytest.mark.parametrize("destination", ["/queue/work", "/topic/news"])
def test_what_a_child_reads_in_its_last_moment_is_delivered_too(start, connect, destination) -> None:
    """It goes up together with the word that nothing more will come; either there is no RECEIPT, or the message."""
    broker = start()
    producer, consumer = connect(broker, "producer"), connect(broker, "consumer")
    consumer.subscribe(destination)
    late = child_of(broker, producer)
    os.kill(late, signal.SIGSTOP)
    producer.send("SEND", body=b"last words", destination=destination, receipt="promise")
    broker.kill(signal.SIGTERM)
    broker.wait_for_log("shutdown: started, 2 clients")
    os.kill(late, signal.SIGCONT)
    promised = [frame for frame in producer.take_to_end() if frame.command == "RECEIPT"]
    got = [frame.body for frame in consumer.take_to_end() if frame.command == "MESSAGE"]
    producer.close()
    consumer.close()

    assert [b"last words"] * len(promised) == got
    assert broker.wait() == 0


def test_at_sigterm_clients_are_told_that_the_broker_is_shutting_down(start, connect) -> None:
    """An ERROR, and the end."""
    broker = start()
    client = connect(broker)
    broker.kill(signal.SIGTERM)

    client.expect_error("the broker is shutting down")
    client.close()
    assert broker.wait() == 0


@pytest.mark.parametrize(
    "numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGQUIT,), (signal.SIGINT, signal.SIGQUIT)]
)
def test_a_second_signal_or_sigquit_ends_at_once_what_hangs(start, connect, numbers) -> None:
    """A stopped child would keep the good order waiting for a minute."""
    broker = start("--shutdown-timeout", "60 s")
    hanging, other = connect(broker, "hanging"), connect(broker, "other")
    os.kill(child_of(broker, hanging), signal.SIGSTOP)
    for number in numbers[:-1]:
        broker.kill(number)
        broker.wait_for_log("shutdown: started, 2 clients")
        assert broker.is_running
    broker.kill(numbers[-1])

    assert broker.wait(3) == 0
    broker.wait_for_log(r"shutdown: at once, \d clients? killed")
    hanging.take_to_end()
    other.take_to_end()


def test_a_child_that_hangs_keeps_the_end_waiting_no_longer_than_the_timeout(start, connect) -> None:
    """It is killed then, and the status is 0 all the same."""
    broker = start("--shutdown-timeout", "1 s")
    hanging = connect(broker, "hanging")
    os.kill(child_of(broker, hanging), signal.SIGSTOP)
    began = time.monotonic()
    broker.kill(signal.SIGTERM)

    assert broker.wait() == 0
    assert 0.5 < time.monotonic() - began < stretched(3)
    broker.wait_for_log("shutdown: 1 client killed, still running after 0.8 s")


def test_one_who_does_not_read_keeps_the_end_waiting_no_longer_than_the_timeout(start, connect) -> None:
    """What is under way to it is dropped then."""
    broker = start("--shutdown-timeout", "2 s", "--max-client-buffer", "64 MiB")
    sleeper, producer = connect(broker, "sleeper"), connect(broker, "producer")
    sleeper.subscribe("/topic/news")
    for _ in range(40):
        producer.publish("/topic/news", bytes(500_000))
    began = time.monotonic()
    broker.kill(signal.SIGTERM)

    assert broker.wait() == 0
    assert time.monotonic() - began < stretched(5)


def test_a_log_that_nobody_reads_stops_nobody(nothing_is_left, tmp_path) -> None:
    """Standard error is a pipe that is full: clients are served, and once it is read the log says what it missed."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    with subprocess.Popen(
        [*COMMAND, "--listen", f"unix:{tmp_path / 'socket'}", "--store", "memory:"],
        stdout=subprocess.PIPE,
        stderr=writing,
        start_new_session=True,
    ) as process:
        os.close(writing)
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"listening on ")
            for number in range(3):
                with Client(str(tmp_path / "socket")) as client:
                    client.login(login=f"client{number}")
                    client.publish("/queue/work", "job")
            log = b""

            def read() -> bool:
                nonlocal log
                if select.select([reading], [], [], 0)[0]:
                    log += os.read(reading, 1 << 20)
                return b"dropped" in log

            wait_until(read, "the number of lines that are missing")
            told = re.search(rb"warning log: (\d+) lines dropped, they could not be written\n", log)
            assert told is not None
            assert int(told[1]) >= 1 + 3
        finally:
            process.terminate()
            os.close(reading)
    assert process.returncode == Exit.OK
