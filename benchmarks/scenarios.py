"""The scenarios that are measured, and their targets: data only.

Targets are absolute figures of issue and design for a machine of two cores, except those that are a part of another
figure of the same run (the relay, the plain loop, the first tenth, the bare run, few workers); the number is computed
where that is measured.
"""

from dataclasses import dataclass, replace
from enum import Enum


class Unit(Enum):
    """The unit of a figure; for time and memory less is better."""

    MESSAGES = "messages/s"
    DELIVERIES = "deliveries/s"
    MEGABYTES = "MB/s"
    MICROSECONDS = "µs (p50)"
    CONNECTIONS = "connections/s"
    MEBIBYTES = "MiB"
    KIBIBYTES = "KiB"
    MILLISECONDS = "ms"
    PROCESSOR = "µs of CPU"

    @property
    def less_is_better(self) -> bool:
        """Whether a target is an upper bound."""
        return self in (Unit.MICROSECONDS, Unit.MEBIBYTES, Unit.KIBIBYTES, Unit.MILLISECONDS, Unit.PROCESSOR)


@dataclass(frozen=True)
class Load:
    """The load of a run; the names are those of its options."""

    mode: str = "flow"
    producers: int = 1
    consumers: int = 1
    destinations: int = 1
    size: int = 100
    queue: bool = False
    ack: str = "auto"
    prefetch: int = 0
    receipts: bool = False
    receipt_window: int = 0
    persistent: bool = False
    rate: float = 0.0
    login: str = ""
    """Login and passcode."""
    websocket: bool = False
    events: bool = False
    """Consumers are EventSources over plain HTTP."""

    def arguments(self, count: int, tag: str) -> list[str]:
        """Options for a broker; `count` is for each producer."""
        found = [*self.relay_arguments(count, tag), "--ack", self.ack]
        found += ["--prefetch", str(self.prefetch)] if self.prefetch else []
        found += ["--queue"] if self.queue else []
        found += ["--receipts"] if self.receipts else []
        found += ["--receipt-window", str(self.receipt_window)] if self.receipt_window else []
        found += ["--persistent"] if self.persistent else []
        found += ["--login", self.login] if self.login else []
        found += ["--events"] if self.events else []
        return found

    def relay_arguments(self, count: int, tag: str) -> list[str]:
        """Those of the options that a relay, too, can serve."""
        found = [self.mode, "--count", str(count), "--tag", tag, "--size", str(self.size)]
        found += ["--producers", str(self.producers), "--consumers", str(self.consumers)]
        found += ["--destinations", str(self.destinations)]
        found += ["--rate", str(self.rate), "--timed"] if self.rate else []
        return found


@dataclass(frozen=True)
class RelayShape:
    """The relay beside a scenario: lines side by side, each to so many consumers."""

    lines: int = 1
    fan: int = 1
    both_ways: bool = False

    def load(self, load: Load) -> Load:
        """The same octets through this relay: no queue, no acknowledgement, each producer with a line of its own."""
        return Load(
            mode=load.mode,
            producers=self.lines,
            consumers=self.lines * self.fan,
            destinations=self.lines,
            size=load.size,
            rate=load.rate,
        )


@dataclass(frozen=True)
class Scenario:
    """One row: a load, the number of messages of each producer in the first short run, and what to reach."""

    name: str
    title: str
    load: Load
    probe: int
    unit: Unit = Unit.MESSAGES
    relay: RelayShape = RelayShape()
    target: float | None = None
    target_of_relay: float | None = None
    fixed: bool = False
    """Whether the first count is the count: no calibration."""
    crowd: int = 0
    """Processes that compute meanwhile, and never wait."""


def topic(fan: int, size: int, probe: int, target: float | None) -> Scenario:
    """One producer to `fan` consumers; the rate counts deliveries."""
    load = Load(consumers=fan, size=size)
    name = f"topic-1-{fan}-{size}"
    return Scenario(name, f"topic 1→{fan}", load, probe, relay=RelayShape(fan=fan), target=target)


def parallel(size: int, probe: int, target: float | None) -> Scenario:
    """Eight producers, each to a topic of its own with one consumer."""
    load = Load(producers=8, consumers=8, destinations=8, size=size)
    return Scenario(
        f"topic-8-8-{size}", "topic 8→8, a topic for each pair", load, probe, relay=RelayShape(lines=8), target=target
    )


def individual(prefetch: int, probe: int, target: float) -> Scenario:
    """Four producers and four workers on one queue, every message acknowledged."""
    load = Load(producers=4, consumers=4, queue=True, ack="client-individual", prefetch=prefetch)
    title = f"queue 4→4 client-individual, prefetch {prefetch}"
    return Scenario(f"queue-4-4-prefetch-{prefetch}", title, load, probe, relay=RelayShape(lines=4), target=target)


KIB = 1024
MIB = 1024 * 1024

PLAIN = [
    topic(1, 100, 50_000, 800_000),
    topic(1, KIB, 20_000, 380_000),
    topic(10, 100, 10_000, 2_240_000),
    topic(10, KIB, 4_000, None),
    topic(100, 100, 2_000, 2_080_000),
    topic(100, KIB, 500, None),
    topic(100, 64 * KIB, 20, None),
    parallel(100, 10_000, 920_000),
    parallel(KIB, 4_000, None),
    Scenario("queue-1-1", "queue 1→1 auto", Load(queue=True), 50_000, target=800_000),
    Scenario("queue-1-1-1024", "queue 1→1 auto", Load(queue=True, size=KIB), 20_000),
    individual(100, 5_000, 100_000),
    individual(1, 1_000, 25_000),
    Scenario("receipts", "topic 1→1, a receipt on every SEND", Load(receipts=True), 20_000, target=150_000),
    Scenario(
        "ping-pong",
        "ping-pong, there and back",
        Load(mode="pingpong"),
        5_000,
        Unit.MICROSECONDS,
        RelayShape(both_ways=True),
        target=164,
        fixed=True,
    ),
    Scenario(
        "ping-pong-crowded",
        "ping-pong, there and back, beside two processes that compute",
        Load(mode="pingpong"),
        1_000,
        Unit.MICROSECONDS,
        RelayShape(both_ways=True),
        fixed=True,
        crowd=2,
    ),
    Scenario(
        "paced",
        "topic 1→1 at 1,000 messages/s",
        Load(rate=1000.0),
        2_000,
        Unit.MICROSECONDS,
        target=315,
        fixed=True,
    ),
    Scenario("large", "topic 1→1", Load(size=MIB), 50, Unit.MEGABYTES, target_of_relay=0.5),
]


def websocket(scenario: Scenario, target: float) -> Scenario:
    """The same over WebSocket, where each frame is a message of its own."""
    return replace(
        scenario,
        name=f"websocket-{scenario.name.removeprefix('topic-')}",
        title=f"WebSocket, {scenario.title}",
        load=replace(scenario.load, websocket=True),
        target=target,
    )


def events(scenario: Scenario) -> Scenario:
    """The same, to consumers that watch the topic by plain HTTP."""
    return replace(
        scenario,
        name=f"events-{scenario.name.removeprefix('topic-')}",
        title=f"EventSource, {scenario.title}",
        load=replace(scenario.load, websocket=True, events=True),
    )


PING_PONG = next(scenario for scenario in PLAIN if scenario.name == "ping-pong")
WEBSOCKET = [
    websocket(topic(1, 100, 20_000, None), 150_000),
    websocket(topic(100, 100, 1_000, None), 500_000),
    events(topic(100, 100, 1_000, None)),
]
WEBSOCKET_PING_PONG_SHARE = 1.5
WEBSOCKET_IDLE_SHARE = 1.3
"""To reach: parts of the figures over TCP in the same run."""

BACKLOG = Scenario("backlog", "queue without a consumer", Load(queue=True, size=KIB), 200_000, fixed=True)
BACKLOG_IN = 259_000
BACKLOG_OUT = 411_000

SINGLES = Scenario("singles", "messages that came one by one", Load(queue=True, receipts=True), 20_000, fixed=True)
SINGLES_OUT = {
    "auto": Load(queue=True),
    "client-individual, prefetch 100": Load(queue=True, ack="client-individual", prefetch=100),
    "client-individual, prefetch 1, 4 workers": Load(queue=True, ack="client-individual", prefetch=1, consumers=4),
}
"""How they are taken out of the queue again."""

BYSTANDERS = Scenario("bystanders", "topic 1→1", Load(), 50_000)
BYSTANDER_COUNT = 200
BYSTANDER_SHARE = 0.95

IDLE_COUNT = 1000
IDLE_RATE = 1000
IDLE_CPU_US = 300
IDLE_PSS_MIB = 0.5
IDLE_BEATS = "60000,60000"
"""What idle clients ask for that have heart-beats: no beat is due while they are looked at."""
SUBSCRIBED_PSS_MIB = 1.0

BURST_COUNT = 16
BURSTS = 10
BURST_MS = 10.0

WORKERS_SHARE = 0.5
FEW_WORKERS = (1, 2, 3, 4)
MANY_WORKERS = 100


def workers(number: int) -> Scenario:
    """One producer and so many waiting workers on one queue, prefetch 1."""
    load = Load(consumers=number, queue=True, ack="client-individual", prefetch=1)
    title = f"queue 1→{number} client-individual, prefetch 1"
    return Scenario(f"workers-{number}", title, load, 4_000)


def persistent(window: int, probe: int) -> Scenario:
    """Into a queue without a consumer, a receipt for each message, so many of them outstanding."""
    load = Load(mode="fill", size=KIB, queue=True, receipts=True, receipt_window=window, persistent=True)
    return Scenario(f"persistent-{window}", f"persistent, a receipt on every SEND, window {window:,}", load, probe)


PERSISTENT = [persistent(1, 500), persistent(100, 20_000), persistent(1000, 20_000)]
PERSISTENT_SHARES = {100: 0.5}
"""To reach by window: part of the plain loop's figure with as many messages in a transaction."""

PERSISTENT_FLOW = Scenario(
    "persistent-flow",
    "persistent, queue 1→1 client-individual, prefetch 100, a receipt on every SEND, window 1,000",
    replace(PERSISTENT[-1].load, mode="flow", ack="client-individual", prefetch=100),
    5_000,
)

DEEP = Scenario("deep", "deep queue", Load(queue=True, size=KIB), 1_000_000, fixed=True)
DEEP_TENTH_SHARE = 0.5
DEEP_MIB = 200

DEEP_PERSISTENT = Scenario(
    "deep-persistent", "deep queue, persistent", replace(PERSISTENT[-1].load, mode="flow"), 200_000, fixed=True
)

DISK_PER_OCTET = 2.5
"""Octets on the disk for one of a body: the databases, their logs, and room for both to grow."""
