"""The processes of a measurement: the load generator, the broker, the relay, the plain loop, and idle clients.

Each is a context or a call with a deadline, and ends with it. The load generator is compiled when its source is newer.
Databases are in directories of their own under build/, which is on the disk where /tmp often is none, and go with them.
"""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
LOADGEN = BUILD / "loadgen"
BROKER = HERE.parent / "bin" / "stomp-broker"
COMPILER_FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra"]
START_S = 20.0
STOP_S = 15.0
GRACE_S = 10.0

Result = dict[str, Any]
Process = subprocess.Popen[bytes]


class MeasurementError(Exception):
    """A run failed; the text says what is missing or wrong."""


@dataclass(frozen=True)
class Broker:
    """A broker to measure. `pid` is None where it was not started here."""

    host: str
    port: int
    pid: int | None
    web_port: int | None = None
    """Where it speaks WebSocket; None: nowhere."""

    tls_port: int | None = None
    """Where it speaks TLS; None: nowhere."""

    def address(self, *, websocket: bool = False) -> list[str]:
        """Options of the load generator."""
        if websocket and self.web_port is None:
            raise MeasurementError("the broker that was given has no address for WebSocket")
        port = self.web_port if websocket else self.port
        return ["--host", self.host, "--port", str(port), *(["--websocket"] if websocket else [])]


def compile_loadgen() -> None:
    """Bring build/loadgen up to date.

    Raises:
        MeasurementError: the compiler is missing or refuses.
    """
    sources = sorted(HERE.glob("*.c"))
    newest = max(path.stat().st_mtime for path in [*sources, *HERE.glob("*.h")])
    if LOADGEN.exists() and LOADGEN.stat().st_mtime > newest:
        return
    BUILD.mkdir(exist_ok=True)
    command = [os.environ.get("CC", "cc"), *COMPILER_FLAGS, "-o", str(LOADGEN), *map(str, sources)]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MeasurementError(f"the load generator does not compile: {error}") from error


def run_load(arguments: Sequence[str], deadline_s: float) -> Result:
    """Run the load generator once and return its figures.

    Raises:
        MeasurementError: something is lost, repeated, out of order or late.
    """
    return run_tool([str(LOADGEN), *arguments, "--deadline", str(deadline_s)], deadline_s + GRACE_S)


def run_plain_store(count: int, group: int, size: int, deadline_s: float) -> Result:
    """Write so many messages into a database of the broker's kind in a plain loop, so many in a transaction.

    Raises:
        MeasurementError: that is not possible, or not in time.
    """
    with database_directory() as directory:
        command = [sys.executable, str(HERE / "plainstore.py"), str(directory), "--count", str(count)]
        return run_tool([*command, "--group", str(group), "--size", str(size)], deadline_s)


@contextlib.contextmanager
def database_directory() -> Iterator[Path]:
    """An empty directory on the disk, removed with what is in it."""
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="store-", dir=BUILD) as name:
        yield Path(name)


def run_tool(command: Sequence[str], deadline_s: float) -> Result:
    """Run a program that prints a line of figures."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(f"{Path(command[0]).name} itself has not ended") from error
    return checked(done.stdout or done.stderr)


def checked(line: str) -> Result:
    """The figures in a line of the load generator's output, if all is well."""
    try:
        result: Result = json.loads(line)
    except ValueError as error:
        raise MeasurementError(line.strip() or "no output") from error
    if not result["ok"]:
        raise MeasurementError(str(result.get("error") or line.strip()).rstrip("; "))
    return result


def start(command: Sequence[str], **streams: Any) -> Process:
    """A process with its standard output on a pipe, unbuffered: select sees all that has not been read."""
    return subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, **streams)


@contextlib.contextmanager
def crowd(number: int) -> Iterator[None]:
    """So many processes that compute, and leave no core to others but what the system takes from them."""
    processes = [start([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            end(process)


def await_line(process: Process, word: str, deadline_s: float) -> str:
    """The first line of standard output that begins with the word.

    Raises:
        MeasurementError: it has not come in time, or the output has ended.
    """
    assert process.stdout is not None
    end = time.monotonic() + deadline_s
    while (left := end - time.monotonic()) > 0 and select.select([process.stdout], [], [], left)[0]:
        line = process.stdout.readline().decode()
        if line.startswith(word):
            return line
        if not line:
            break
    raise MeasurementError(f'no line "{word}..." from a process that was started')


def end(process: Process) -> None:
    """SIGTERM, and SIGKILL to what does not end in time."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        print("benchmark: a process had to be killed", file=sys.stderr)
    if process.stdout is not None:
        process.stdout.close()


def last_words(log: IO[str]) -> str:
    """The end of what a broker wrote to standard error."""
    log.flush()
    log.seek(0)
    return " | ".join(log.read()[-2000:].strip().splitlines()[-3:])


def port_of(line: str) -> int:
    """The port in what a broker says."""
    return int(line.rsplit(":", 1)[1])


@contextlib.contextmanager
def run_broker(options: Sequence[str], *, websocket: bool = False) -> Iterator[Broker]:
    """A broker of this checkout on a free port of the loopback, with a new database; alive as long as the context.

    `websocket`: it speaks that as well, on another port.
    """
    command = [sys.executable, str(BROKER), "--listen", "127.0.0.1:0", *options]
    if websocket:
        command += ["--listen", "ws://127.0.0.1:0"]
    with (
        database_directory() as directory,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
    ):
        process = start([*command, "--store", f"sqlite://{quote(str(directory))}/queues.db"], stderr=log)
        try:
            said = [await_line(process, "listening on ", START_S) for _ in range(command.count("--listen"))]
            ports = {scheme: port_of(line) for line in said for scheme in ("tls", "ws") if f" {scheme}://" in line}
            yield Broker("127.0.0.1", port_of(said[0]), process.pid, ports.get("ws"), ports.get("tls"))
        except MeasurementError as error:
            raise MeasurementError(f"{error} [the broker's log ends: {last_words(log)}]") from error
        finally:
            end(process)


@contextlib.contextmanager
def run_relay(lines: int, fan: int, both_ways: bool) -> Iterator[tuple[int, int]]:
    """A relay; yields its ports for producers and consumers."""
    command = [sys.executable, str(HERE / "relay.py"), "--lines", str(lines), "--fan", str(fan)]
    command += ["--both-ways"] if both_ways else []
    process = start(command)
    try:
        near, far = await_line(process, "listening on ", START_S).split()[2:]
        yield int(near), int(far)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2.0)
    finally:
        end(process)


@contextlib.contextmanager
def run_talkers(broker: Broker, number: int, tag: str, deadline_s: float) -> Iterator[None]:
    """Clients that have sent one message each, got it, and do nothing; connected as long as the context.

    Raises:
        MeasurementError: not all of them got theirs.
    """
    with contextlib.ExitStack() as connected:
        for index in range(number):
            try:
                one = socket.create_connection((broker.host, broker.port), deadline_s)
                connected.callback(one.close)
                topic = f"destination:/topic/{tag}.{index}\n"
                for frame, answer in (
                    ("CONNECT\naccept-version:1.2\nhost:/\n", b"CONNECTED\n"),
                    (f"SUBSCRIBE\nid:0\n{topic}receipt:1\n", b"RECEIPT\n"),
                    (f"SEND\n{topic}", b"MESSAGE\n"),
                ):
                    one.sendall(f"{frame}\n\0".encode())
                    read = b""
                    while not read.rstrip(b"\n").endswith(b"\0"):
                        octets = one.recv(65536)
                        if not octets:
                            raise MeasurementError(f"client {index} was closed by the broker")
                        read += octets
                    if not read.startswith(answer):
                        raise MeasurementError(f"client {index} got {read!r}")
            except OSError as error:
                raise MeasurementError(f"client {index}: {error}") from error
        yield


@contextlib.contextmanager
def run_watchers(broker: Broker, number: int, tag: str, deadline_s: float) -> Iterator[None]:
    """EventSources that get no event; connected as long as the context.

    Raises:
        MeasurementError: not all of them have been answered.
    """
    if broker.web_port is None:
        raise MeasurementError("it speaks no HTTP")
    with contextlib.ExitStack() as connected:
        for index in range(number):
            try:
                one = socket.create_connection((broker.host, broker.web_port), deadline_s)
                connected.callback(one.close)
                lines = (f"GET /topic/{tag}.{index} HTTP/1.1", "Host: localhost", "Accept: text/event-stream", "", "")
                one.sendall("\r\n".join(lines).encode())
                read = b""
                while not read.endswith(b"\n\n"):
                    octets = one.recv(65536)
                    if not octets:
                        raise MeasurementError(f"EventSource {index} was closed by the broker: {read!r}")
                    read += octets
            except OSError as error:
                raise MeasurementError(f"EventSource {index}: {error}") from error
        yield


@contextlib.contextmanager
def run_idle(
    broker: Broker,
    number: int,
    subscribe: bool,
    tag: str,
    deadline_s: float,
    parallel: int = 4,
    *,
    websocket: bool = False,
    heart_beat: str = "",
) -> Iterator[Result]:
    """Idle clients that stay connected as long as the context; yields how fast they came in, so many at a time.

    `heart_beat`: what they ask for with CONNECT. The context has to be shorter than the first beat.

    Raises:
        MeasurementError: not all came in, or some were closed or sent something meanwhile.
    """
    command = [str(LOADGEN), "idle", *broker.address(websocket=websocket), "--count", str(number)]
    command += ["--tag", tag, "--deadline", str(deadline_s), *(["--subscribe"] if subscribe else [])]
    command += ["--parallel", str(parallel), *(["--heart-beat", heart_beat] if heart_beat else [])]
    process = start(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    try:
        yield checked(await_line(process, "{", deadline_s + GRACE_S))
        process.stdin.close()
        checked(await_line(process, "{", GRACE_S))
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        end(process)
