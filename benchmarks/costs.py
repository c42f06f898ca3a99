"""The cost of users, permissions, quotas, metrics and TLS, beside a broker that has none of them.

The brokers run side by side, and one run of each follows one of the others, so that other work of the machine
meets all of them. The limit is the broker without any: the target is 95 % of it.

The load generator speaks no TLS. The rows of TLS have a generator in Python (`others.generator`), the same for the
plain row before it: both ends of each connection share the two cores with the broker, so it is not the broker's share
alone that they show.
"""

import contextlib
import ssl
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import floods
import scenarios
from others.clients import Client, Exchange
from others.generator import Connection
from others.rows import Effort, Site, measure_topic
from others.stomp import Stomp
from procedures import Bench, Row, row_of
from processes import Broker, MeasurementError
from scenarios import Load, Scenario, Unit

SHARE = 0.95
SCENARIOS = [
    Scenario("topic", "topic 1→1", Load(), 50_000),
    Scenario("queue", "queue 1→1 auto", Load(queue=True), 50_000),
    Scenario("receipts", "topic 1→1, a receipt on every SEND", Load(receipts=True), 20_000),
]
RIGHTS = (
    '[permissions.user.alice]\nread = ["/topic/>", "/queue/>"]\nwrite = ["/topic/>", "/queue/>"]\ncreate = "/queue/>"\n'
)
QUOTAS = (
    "[quotas.user.alice]\nconnections = 100\nqueues = 1000\nqueue-bytes = '1 GiB'\nsubscriptions = 100\n"
    "messages-per-second = 100000000\nbytes-per-second = '100 GiB'\n"
)
FEATURES = ("users", "permissions", "quotas", "metrics")


@contextlib.contextmanager
def brokers(bench: Bench) -> Iterator[dict[str, Broker]]:
    """One without any of it, and one for each feature, which has those before it as well but for metrics."""
    with contextlib.ExitStack() as stack:
        users = stack.enter_context(floods.user_file())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = {"none": stack.enter_context(bench.broker())}
        for name, tables in (("users", ""), ("permissions", RIGHTS), ("quotas", RIGHTS + QUOTAS)):
            config = directory / f"{name}.toml"
            config.write_text(f'users = "{users}"\n{tables}')
            found[name] = stack.enter_context(bench.broker("--config", str(config)))
        found["metrics"] = stack.enter_context(bench.broker("--metrics", "127.0.0.1:0"))
        yield found


def measure_features(bench: Bench, scenario: Scenario) -> list[Row]:
    """A row for each feature."""
    bare = replace(row_of(scenario), name=f"cost-{scenario.name}", title=f"{scenario.title}, without any")
    rows = {"none": bare}
    rows |= {name: replace(bare, name=f"{bare.name}-{name}", title=f"with {name}") for name in FEATURES}
    figures: dict[str, list[float]] = {name: [] for name in rows}
    try:
        with brokers(bench) as found:
            count = bench.run_count(scenario, lambda probe: bench.run_on(found["none"], scenario.load, probe))
            for _ in range(bench.runs + 2):
                for name, broker in found.items():
                    load = replace(scenario.load, login="" if name in ("none", "metrics") else "alice")
                    figures[name].append(float(bench.run_on(broker, load, count)["rate"]))
    except MeasurementError as error:
        bare.error = str(error)
        return [bare]
    for name, row in rows.items():
        row.figure = statistics.median(figures[name])
    for name in FEATURES:
        rows[name].limit = bare.figure
        rows[name].target = SHARE * bare.figure if bare.figure else None
        rows[name].note = f"limit: without any; target: {SHARE:.0%} of it"
    return list(rows.values())


class Encrypted(Connection):
    """A connection whose octets are encrypted. All of a record that has come is taken, as nothing tells of it later."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def exchange(self, exchange: Exchange) -> None:
        """The first one is the login."""
        if not isinstance(self.socket, ssl.SSLSocket):
            self.socket = self.context.wrap_socket(self.socket)
        super().exchange(exchange)

    def receive(self) -> memoryview:
        """The octets that have come."""
        assert isinstance(self.socket, ssl.SSLSocket)
        octets = bytes(super().receive())
        while self.socket.pending():
            octets += super().receive()
        return memoryview(octets)


class EncryptedSite(Site):
    """A server that speaks TLS."""

    def __init__(self, broker: Broker, client: Client) -> None:
        super().__init__(broker, client)
        assert broker.tls_port is not None
        self.address = (broker.host, broker.tls_port)

    def make(self) -> Connection:
        """One more connection."""
        return Encrypted(self.address, self.client)


def measure_tls(bench: Bench) -> list[Row]:
    """A topic of messages of 1 KiB, plain and encrypted, in turn."""
    size = scenarios.KIB
    plain = Row("cost-tls-none", "topic 1→1, generator in Python", size, Unit.MESSAGES)
    encrypted = Row("cost-tls", "with TLS", size, Unit.MESSAGES, note="limit: without")
    figures: dict[str, list[float]] = {plain.name: [], encrypted.name: []}
    effort, client = Effort(bench.seconds, 0), Stomp()
    try:
        with tempfile.TemporaryDirectory() as directory, bench.broker(*floods.make_tls(Path(directory))) as broker:
            for _ in range(bench.runs):
                for row, kind in ((plain, Site), (encrypted, EncryptedSite)):
                    with contextlib.closing(kind(broker, client)) as site:
                        figures[row.name].append(measure_topic(size, 1, site, client, effort))
    except (OSError, MeasurementError) as error:
        encrypted.error = str(error)
        return [encrypted]
    plain.figure, encrypted.figure = (statistics.median(figures[row.name]) for row in (plain, encrypted))
    encrypted.limit = plain.figure
    return [plain, encrypted]
