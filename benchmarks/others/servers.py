"""The servers: each is started on a free port of the loopback, with a directory of its own, and ends with its context.

A server has its default settings, but for where it listens and where its data is. With `stored` it is told to sync
before it confirms, if it can be told.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from processes import BROKER, Broker, MeasurementError, database_directory, end, last_words, run_broker

from others.beanstalk import Beanstalk
from others.clients import Client
from others.generator import Connection
from others.mqtt import Mqtt
from others.nats import Nats
from others.redis import Redis
from others.stomp import Stomp

HOST = "127.0.0.1"
RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""Debian's command of that name changes to a user who cannot see our directory."""

POLL_S = 0.02
LONGEST_START_S = 60.0
"""RabbitMQ takes some seconds, on a busy machine some tens."""

_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"))
"""Daemons are not in every user's path."""

Run = Callable[["Server", bool], contextlib.AbstractContextManager[Broker]]


@dataclass(frozen=True)
class Server:
    """A server: how it is spoken to, started, and which version it is; the Debian package that has it."""

    name: str
    client: Client
    program: str
    package: str
    version_command: Sequence[str]
    run: Run
    stores_as_told: bool = False
    """Whether each message, or its destination, says that it is to be stored: no option of the server does."""

    storing_note: str = ""
    """What it does not promise where it confirms."""

    @property
    def path(self) -> str | None:
        """Where its program is."""
        return shutil.which(self.program, path=_PATH)

    @property
    def missing(self) -> str:
        """Why it cannot be measured; empty if it can."""
        return "" if self.path else f"{Path(self.program).name} is not installed (Debian: {self.package})"

    @property
    def version(self) -> str:
        """As it says itself."""
        command, environment = self.version_command, {"PATH": _PATH}
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout
        found = re.search(r"\d+(\.\d+)+", said)
        return found[0] if found else ""

    def start(self, stored: bool) -> contextlib.AbstractContextManager[Broker]:
        """The server, alive as long as the context.

        Raises:
            MeasurementError: it does not accept a client in time.
        """
        return self.run(self, stored)


def free_port() -> int:
    """A port that nobody had a moment ago; for servers that do not say which one they got."""
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def await_login(process: subprocess.Popen[bytes], port: int, client: Client) -> None:
    """Wait until a client can log in."""
    deadline = time.monotonic() + LONGEST_START_S
    while True:
        try:
            Connection((HOST, port), client).close()
            return
        except (OSError, MeasurementError) as error:
            if process.poll() is not None:
                raise MeasurementError(f"ended with status {process.returncode}") from error
            if time.monotonic() > deadline:
                raise MeasurementError(f"does not accept a client: {error}") from error
        time.sleep(POLL_S)


@contextlib.contextmanager
def run_process(
    command: Sequence[str], client: Client, port: int, environment: Mapping[str, str] | None = None
) -> Iterator[Broker]:
    """A program in the foreground, from the first login to the end of the context."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            await_login(process, port, client)
            yield Broker(HOST, port, process.pid)
        except MeasurementError as error:
            raise MeasurementError(f"{error} [its log ends: {last_words(log)}]") from error
        finally:
            end(process)


def in_foreground(options: Callable[[Path, int, bool], Sequence[str]]) -> Run:
    """A server that needs nothing but its options."""

    @contextlib.contextmanager
    def run(server: Server, stored: bool) -> Iterator[Broker]:
        with database_directory() as directory:
            port = free_port()
            command = [str(server.path), *options(directory, port, stored)]
            with run_process(command, server.client, port) as broker:
                yield broker

    return run


def run_forkbroker(_server: Server, _stored: bool) -> contextlib.AbstractContextManager[Broker]:
    """The broker of this checkout. Each message says itself whether it is to be stored."""
    return run_broker([])


def nats_options(directory: Path, port: int, _stored: bool) -> Sequence[str]:
    """With JetStream. Each stream says itself whether it is in a file."""
    return ["--addr", HOST, "--port", str(port), "--jetstream", "--store_dir", str(directory)]


def redis_options(directory: Path, port: int, stored: bool) -> Sequence[str]:
    """Without snapshots; the file that is appended to is synced before the answer."""
    durable = ["--appendonly", "yes", "--appendfsync", "always"] if stored else ["--appendonly", "no"]
    return ["--bind", HOST, "--port", str(port), "--dir", str(directory), "--save", "", *durable]


def beanstalk_options(directory: Path, port: int, stored: bool) -> Sequence[str]:
    """With a log that is synced at each write."""
    return ["-l", HOST, "-p", str(port), *(["-b", str(directory), "-f", "0"] if stored else [])]


def mosquitto_options(directory: Path, port: int, _stored: bool) -> Sequence[str]:
    """It takes its options from a file. As root it would become a user who cannot see the directory."""
    file = directory / "mosquitto.conf"
    file.write_text(f"listener {port} {HOST}\nallow_anonymous true\nuser root\n", encoding="ascii")
    return ["-c", str(file)]


@contextlib.contextmanager
def run_rabbitmq(server: Server, _stored: bool) -> Iterator[Broker]:
    """RabbitMQ with no plugin but STOMP, and its port mapper, which it would leave behind if it had to start it."""
    with database_directory() as directory, contextlib.ExitStack() as stack:
        port, mapper_port = free_port(), free_port()
        settings = directory / "rabbitmq.conf"
        settings.write_text(f"listeners.tcp = none\nstomp.listeners.tcp.1 = {HOST}:{port}\n", encoding="ascii")
        plugins = directory / "enabled_plugins"
        plugins.write_text("[rabbitmq_stomp].\n", encoding="ascii")
        environment = {
            "PATH": _PATH,
            "HOME": str(directory),
            "ERL_CRASH_DUMP": str(directory / "crash.dump"),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(mapper_port),
            "RABBITMQ_NODENAME": "bench@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "none"),
            "RABBITMQ_CONFIG_FILE": str(settings),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
        }
        mapper = subprocess.Popen(["epmd", "-address", HOST, "-port", str(mapper_port)], env=environment)
        stack.callback(end, mapper)
        yield stack.enter_context(run_process([str(server.path)], server.client, port, environment))


SERVERS = [
    Server(
        "forkbroker",
        Stomp(),
        str(BROKER),
        "this checkout",
        [sys.executable, str(BROKER), "--version"],
        run_forkbroker,
        stores_as_told=True,
    ),
    Server(
        "NATS",
        Nats(),
        "nats-server",
        "nats-server",
        ["nats-server", "--version"],
        in_foreground(nats_options),
        stores_as_told=True,
        storing_note="not synced",
    ),
    Server(
        "Redis", Redis(), "redis-server", "redis-server", ["redis-server", "--version"], in_foreground(redis_options)
    ),
    Server(
        "beanstalkd", Beanstalk(), "beanstalkd", "beanstalkd", ["beanstalkd", "-v"], in_foreground(beanstalk_options)
    ),
    Server("Mosquitto", Mqtt(), "mosquitto", "mosquitto", ["mosquitto", "-h"], in_foreground(mosquitto_options)),
    Server(
        "RabbitMQ",
        Stomp(),
        RABBITMQ,
        "rabbitmq-server",
        # All its commands that tell the version start daemons; the directory has it as well.
        ["readlink", "-f", RABBITMQ],
        run_rabbitmq,
        stores_as_told=True,
    ),
]
