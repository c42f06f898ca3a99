"""The cost of a flood of connections that do not log in, for clients that have logged in and for those that want to.

A process of its own makes connections as fast as it can, from 100 addresses of the loopback or from one, and keeps up
to 600 of them: more than may be without a login at a time. A client that is connected sends 200 messages a second, each
with a receipt, and the figure is how long the 99th of a hundred receipts takes. Beside that, clients come from an
address of their own, one after the other, with a login that is right; the note has the slowest of them.
"""

import argparse
import contextlib
import hashlib
import itertools
import resource
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import processes
from procedures import Bench, Row
from processes import Broker, MeasurementError
from scenarios import Unit

TARGET_MS = 50.0
CONNECTIONS = 600
ADDRESSES = 100
PAUSE_S = 0.005
CONNECT = b"CONNECT\naccept-version:1.2\nhost:/\n"
SAY = {
    "none": b"",
    "half-open": b"",
    "half-connect": CONNECT[:20],
    # the beginning of a handshake: a record of 512 octets, of which one comes
    "half-tls": b"\x16\x03\x01\x02\x00\x01",
    "passcodes": CONNECT + b"login:alice\npasscode:wrong\n\n\0",
}
TITLES = {
    "none": "a receipt at 200 messages/s, and a client that comes",
    "half-open": "beside connections that send nothing",
    "half-connect": "beside halves of CONNECT",
    "half-tls": "beside halves of TLS handshakes",
    "passcodes": "beside wrong passcodes",
}


def flood(kind: str, port: int, *, is_from_one: bool) -> None:
    """Connect again and again, for ever."""
    words, poll = SAY[kind], select.poll()
    clients: dict[int, socket.socket] = {}
    numbers = itertools.count()
    while True:
        for _ in range(20):
            if len(clients) >= CONNECTIONS:
                break
            number = 0 if is_from_one else next(numbers) % ADDRESSES
            client = socket.socket()
            client.bind((f"127.0.2.{number + 1}", 0))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(("127.0.0.1", port))
            select.select([], [client], [], 0.5)
            with contextlib.suppress(OSError):
                client.send(words)
            clients[client.fileno()] = client
            poll.register(client, select.POLLIN)
        for fd, _ in poll.poll(5):
            client = clients[fd]
            try:
                if client.recv(4096):
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            poll.unregister(fd)
            clients.pop(fd).close()


class Talker:
    """A client whose frames have one answer each."""

    def __init__(self, port: int, source: str, seconds: float = 30.0) -> None:
        """Connect, and log in."""
        self._socket = socket.create_connection(("127.0.0.1", port), seconds, source_address=(source, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._heard = b""
        if not self.ask(CONNECT + b"login:alice\npasscode:alice\n\n\0").startswith(b"CONNECTED"):
            raise MeasurementError(f"a client could not log in: {self._heard[:200]!r}")

    def ask(self, frame: bytes) -> bytes:
        """The answer to a frame."""
        self._socket.sendall(frame)
        heard = b""
        while b"\0" not in heard:
            octets = self._socket.recv(65_536)
            if not octets:
                raise MeasurementError("a client was disconnected")
            heard += octets
        return heard.lstrip(b"\n")

    def close(self) -> None:
        """Close without a word."""
        self._socket.close()


def measure_receipts(talker: Talker, seconds: float) -> list[float]:
    """How long receipts took, in milliseconds, in order of length."""
    took = []
    until = time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        talker.ask(b"SEND\ndestination:/topic/well\nreceipt:r\n\nbody\0")
        took.append((time.monotonic() - began) * 1000)
        time.sleep(PAUSE_S)
    return sorted(took)


class Newcomers(threading.Thread):
    """Clients that come one after the other, and how long each took."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self._is_over = threading.Event()
        self.took_ms: list[float] = []
        self.error = ""

    def run(self) -> None:
        """Until `finish`."""
        try:
            while not self._is_over.wait(0.05):
                began = time.monotonic()
                Talker(self._port, "127.0.1.1").close()
                self.took_ms.append((time.monotonic() - began) * 1000)
        except (OSError, MeasurementError) as error:
            self.error = str(error)

    def finish(self) -> None:
        """Let the last one come."""
        self._is_over.set()
        self.join()


@contextlib.contextmanager
def run_flood(kind: str, port: int, *, is_from_one: bool) -> Iterator[None]:
    """A flood that lasts as long as the context."""
    if kind == "none":
        yield
        return
    command = [sys.executable, __file__, kind, "--port", str(port), *(["--one"] if is_from_one else [])]
    process = processes.start(command)
    try:
        time.sleep(1.0)
        yield
    finally:
        process.kill()
        processes.end(process)


@contextlib.contextmanager
def user_file() -> Iterator[Path]:
    """A password file with one user, whose passcode costs what it costs."""
    with tempfile.TemporaryDirectory() as name:
        salt = b"0123456789abcdef"
        key = hashlib.scrypt(b"alice", salt=salt, n=2**14, r=8, p=1, dklen=32)
        texts = [b64encode(part).decode().rstrip("=") for part in (salt, key)]
        users = Path(name) / "users"
        users.touch(0o600)
        users.write_text(f"alice:$scrypt$ln=14,r=8,p=1${texts[0]}${texts[1]}\n")
        yield users


@contextlib.contextmanager
def files() -> Iterator[list[str]]:
    """Options of a broker with this user, and with TLS where openssl is."""
    with user_file() as users, tempfile.TemporaryDirectory() as directory:
        options = ["--users", str(users)]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            options += make_tls(Path(directory))
        yield options


def make_tls(directory: Path) -> list[str]:
    """A certificate and its key, made by openssl; the options for it. Raises OSError where openssl is not installed."""
    certificate, key = str(directory / "certificate"), str(directory / "key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=broker", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return ["--tls-certificate", certificate, "--tls-key", key, "--listen", "tls://127.0.0.1:0"]


KINDS = [*((kind, False) for kind in TITLES), ("half-connect", True), ("passcodes", True)]
"""The floods that are measured: the kind, and whether it is from one address."""


def name_of(kind: str, *, is_from_one: bool) -> str:
    """The row's name."""
    return f"flood-{kind}{'-one' if is_from_one else ''}"


def measure(bench: Bench, kind: str, *, is_from_one: bool) -> list[Row]:
    """One row."""
    title = TITLES[kind] + (" of one address" if is_from_one else "")
    row = Row(name_of(kind, is_from_one=is_from_one), title, None, Unit.MILLISECONDS, target=TARGET_MS)
    with files() as options:
        if kind == "half-tls" and "--tls-key" not in options:
            row.note = "openssl is not installed"
            return [row]
        try:
            with bench.broker(*options) as broker:
                measure_flood(row, broker, kind, bench.seconds, is_from_one=is_from_one)
        except (OSError, MeasurementError) as error:
            row.error = str(error)
    return [row]


def measure_flood(row: Row, broker: Broker, kind: str, seconds: float, *, is_from_one: bool) -> None:
    """Fill in a row."""
    port = broker.tls_port if kind == "half-tls" and broker.tls_port else broker.port
    newcomers = Newcomers(broker.port)
    with contextlib.closing(Talker(broker.port, "127.0.0.1")) as talker, run_flood(kind, port, is_from_one=is_from_one):
        newcomers.start()
        try:
            took = measure_receipts(talker, 2 * seconds)
        finally:
            newcomers.finish()
    row.figure = took[len(took) * 99 // 100]
    if newcomers.error:
        raise MeasurementError(f"a newcomer: {newcomers.error}")
    came = sorted(newcomers.took_ms)
    row.note = f"p99; p50 {took[len(took) // 2]:.1f} ms; {len(came)} newcomers, p50 {came[len(came) // 2]:,.0f} ms, "
    row.note += f"slowest {came[-1]:,.0f} ms"


def main() -> None:
    """Flood a port, until the process is killed."""
    parser = argparse.ArgumentParser(description="flood a port of the loopback")
    parser.add_argument("kind", choices=list(SAY))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--one", action="store_true", help="from one address")
    given = parser.parse_args()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    flood(given.kind, given.port, is_from_one=given.one)


if __name__ == "__main__":
    main()
