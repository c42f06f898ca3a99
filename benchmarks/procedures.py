"""How each kind of row is measured.

A load is first run with few messages, then with as many as take about `seconds`, `runs` times; the median counts. Every
scenario has a broker of its own, and every run destinations of its own, so that nothing of one is left for the next.
"""

import contextlib
import itertools
import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import memory
import scenarios
from processes import (
    Broker,
    MeasurementError,
    Result,
    crowd,
    run_broker,
    run_idle,
    run_load,
    run_relay,
    run_talkers,
    run_watchers,
)
from scenarios import Load, RelayShape, Scenario, Unit

MOST_PER_PRODUCER = 20_000_000
KEYS = {Unit.MESSAGES: "rate", Unit.MEGABYTES: "mb_per_s", Unit.MICROSECONDS: "p50_us"}


@dataclass
class Row:
    """One line of the table. `figure` and `limit` are in the row's unit; `error` says why there is no figure."""

    name: str
    title: str
    size: int | None
    unit: Unit
    figure: float | None = None
    limit: float | None = None
    target: float | None = None
    note: str = ""
    error: str = ""

    @property
    def ratio(self) -> float | None:
        """This figure in terms of the limit."""
        return self.figure / self.limit if self.figure is not None and self.limit else None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.error:
            return False
        if self.target is None or self.figure is None:
            return None
        return self.figure <= self.target if self.unit.less_is_better else self.figure >= self.target


@dataclass
class Bench:
    """Settings of this call, and what has been measured already."""

    seconds: float = 1.5
    runs: int = 3
    deadline_s: float = 30.0
    idle_clients: int = scenarios.IDLE_COUNT
    depth: float = 1.0
    """Part of the messages of the deep queues."""
    given: Broker | None = None
    broker_options: list[str] = field(default_factory=list)
    _relays: dict[tuple[Load, RelayShape, int], float] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def tag(self) -> str:
        """A part of destinations that no other run has."""
        return f"{os.getpid()}.{next(self._numbers)}"

    @contextlib.contextmanager
    def broker(self, *options: str, websocket: bool = False) -> Iterator[Broker]:
        """The broker that was given, or one of our own."""
        if self.given is not None:
            yield self.given
            return
        with run_broker([*self.broker_options, *options], websocket=websocket) as broker:
            yield broker

    def run_count(self, scenario: Scenario, probe: Callable[[int], Result]) -> int:
        """Messages of each producer for a run of the wanted length, from a short first run."""
        if scenario.fixed:
            return scenario.probe
        rate = scenario.probe / max(probe(scenario.probe)["seconds"], 1e-6)
        return min(max(int(rate * self.seconds), scenario.probe), MOST_PER_PRODUCER)

    def repeat(self, scenario: Scenario, run: Callable[[int], Result]) -> Result:
        """The run whose figure is the median one."""
        count = self.run_count(scenario, run)
        results = [run(count) for _ in range(self.runs)]
        return sorted(results, key=lambda result: float(result[KEYS[scenario.unit]]))[len(results) // 2]

    def run_on(self, broker: Broker, load: Load, count: int) -> Result:
        """One run against a broker."""
        address = broker.address(websocket=load.websocket)
        return run_load([*load.arguments(count, self.tag()), *address], self.deadline_s)

    def run_on_relay(self, load: Load, shape: RelayShape, count: int) -> Result:
        """One run through a relay."""
        with run_relay(shape.lines, shape.fan, shape.both_ways) as (near, far):
            ports = ["--raw", "--port", str(near), "--consumer-port", str(far)]
            return run_load([*load.relay_arguments(count, self.tag()), *ports], self.deadline_s)

    def measure_on(self, broker: Broker, scenario: Scenario) -> Result:
        """The median run of a scenario against this broker."""
        return self.repeat(scenario, lambda count: self.run_on(broker, scenario.load, count))

    def measure_relay(self, scenario: Scenario) -> float:
        """The relay's figure for a scenario; measured once for all that have the same load."""
        load = scenario.relay.load(scenario.load)
        key = (load, scenario.relay, scenario.crowd)
        if key not in self._relays:
            result = self.repeat(scenario, lambda count: self.run_on_relay(load, scenario.relay, count))
            self._relays[key] = float(result[KEYS[scenario.unit]])
        return self._relays[key]


def row_of(scenario: Scenario) -> Row:
    """The row before anything is measured."""
    return Row(scenario.name, scenario.title, scenario.load.size, scenario.unit, target=scenario.target)


def note_of(scenario: Scenario, result: Result) -> str:
    """Return the other figures of a run, for the column of notes."""
    if scenario.unit is Unit.MICROSECONDS:
        return f"p99 {result['p99_us']:,.0f} µs"
    if scenario.load.queue and scenario.load.consumers > 1:
        return f"share of a worker {result['least']:,} to {result['most']:,}"
    return ""


def measure_plain(bench: Bench, scenario: Scenario) -> list[Row]:
    """A load on a broker, and the same octets through a relay."""
    with crowd(scenario.crowd):
        return _measure_plain(bench, scenario)


def _measure_plain(bench: Bench, scenario: Scenario) -> list[Row]:
    row = row_of(scenario)
    row.limit = bench.measure_relay(scenario)
    if scenario.target_of_relay is not None:
        row.target = scenario.target_of_relay * row.limit
        row.note = f"target: {scenario.target_of_relay:.0%} of the relay"
    try:
        with bench.broker(websocket=scenario.load.websocket) as broker:
            result = bench.measure_on(broker, scenario)
        row.figure = float(result[KEYS[scenario.unit]])
        row.note = note_of(scenario, result) or row.note
    except MeasurementError as error:
        row.error = str(error)
    return [row]


def measure_backlog(bench: Bench) -> list[Row]:
    """Messages into a queue without a consumer, up to the RECEIPT that ends them; then out of it."""
    scenario = scenarios.BACKLOG
    into = replace(row_of(scenario), name="backlog-in", target=scenarios.BACKLOG_IN)
    into.title = f"{scenario.probe:,} messages into a queue without a consumer"
    out = replace(into, name="backlog-out", title="and out again, auto", target=scenarios.BACKLOG_OUT)
    plain = replace(scenario, probe=20_000, fixed=False)
    into.limit = out.limit = bench.measure_relay(plain)
    filled: list[float] = []
    drained: list[float] = []
    try:
        with bench.broker() as broker:
            for _ in range(bench.runs):
                tag = bench.tag()
                address = ["--host", broker.host, "--port", str(broker.port)]
                for mode, figures in (("fill", filled), ("drain", drained)):
                    load = replace(scenario.load, mode=mode)
                    arguments = [*load.arguments(scenario.probe, tag), *address]
                    figures.append(float(run_load(arguments, bench.deadline_s)["rate"]))
    except MeasurementError as error:
        (out if len(filled) > len(drained) else into).error = str(error)
    into.figure = statistics.median(filled) if filled else None
    out.figure = statistics.median(drained) if drained else None
    return [into, out]


def measure_singles(bench: Bench) -> list[Row]:
    """Messages that are sent one after the other, each with a receipt; then out of the queue, in several ways."""
    scenario = scenarios.SINGLES
    into = replace(row_of(scenario), name="singles-in")
    into.title = f"{scenario.probe:,} messages into a queue, one after the other"
    rows = [into]
    filled: list[float] = []
    with bench.broker() as broker:
        for way, load in scenarios.SINGLES_OUT.items():
            row = replace(into, name=f"singles-{len(rows)}", title=f"and out again, {way}")
            rows.append(row)
            drained: list[float] = []
            fill = replace(scenario.load, mode="fill", consumers=load.consumers, receipt_window=1)
            try:
                for _ in range(bench.runs):
                    tag = bench.tag()
                    for one, figures in ((fill, filled), (replace(load, mode="drain"), drained)):
                        arguments = [*one.arguments(scenario.probe, tag), *broker.address(websocket=False)]
                        figures.append(float(run_load(arguments, bench.deadline_s)["rate"]))
            except MeasurementError as error:
                row.error = str(error)
                continue
            row.figure = statistics.median(drained)
    into.figure = statistics.median(filled) if filled else None
    return rows


def measure_bystanders(bench: Bench) -> list[Row]:
    """Traffic between two clients alone, and beside many who have subscribed to something else."""
    scenario = scenarios.BYSTANDERS
    bare = replace(row_of(scenario), name="bystanders-none", title="topic 1→1, no bystanders")
    bare.limit = bench.measure_relay(scenario)
    rows = [bare]
    for policy in ("interested",) if bench.given else ("interested", "all"):
        row = replace(
            bare, name=f"bystanders-{policy}", title=f"beside {scenarios.BYSTANDER_COUNT} bystanders, {policy}"
        )
        options = ["--broadcast", policy]
        try:
            measure_beside(bench, row, bare, [] if bench.given else options)
        except MeasurementError as error:
            row.error = str(error)
        rows.append(row)
    if bare.figure is not None:
        rows[1].target = scenarios.BYSTANDER_SHARE * bare.figure
        rows[1].note = f"target: {scenarios.BYSTANDER_SHARE:.0%} of the bare run"
    return rows


def measure_beside(bench: Bench, row: Row, bare: Row, options: list[str]) -> None:
    """Fill in the row with bystanders and, once, the bare one before it on the same broker."""
    scenario = scenarios.BYSTANDERS
    with bench.broker(*options) as broker:
        if bare.figure is None:
            bare.figure = float(bench.measure_on(broker, scenario)["rate"])
        with run_idle(broker, scenarios.BYSTANDER_COUNT, True, bench.tag(), bench.deadline_s):
            row.figure = float(bench.measure_on(broker, scenario)["rate"])


def measure_idle(bench: Bench) -> list[Row]:
    """How fast clients come in, what that costs the parent, and what each costs while it does nothing."""
    number = bench.idle_clients
    rate = Row("idle-connections", f"{number:,} clients connect, 4 at a time", None, Unit.CONNECTIONS)
    rate.target = scenarios.IDLE_RATE
    cpu = Row("idle-cpu", "processor time of the parent for each of them", None, Unit.PROCESSOR)
    cpu.target = scenarios.IDLE_CPU_US
    size = Row("idle-memory", f"memory of each of {number:,} idle clients, PSS", None, Unit.MEBIBYTES)
    size.target = scenarios.IDLE_PSS_MIB
    try:
        with bench.broker() as broker:
            before = memory.cpu_s(broker.pid)
            with run_idle(broker, number, False, bench.tag(), bench.deadline_s) as result:
                rate.figure = float(result["rate"])
                after = memory.cpu_s(broker.pid)
                if before is not None and after is not None:
                    cpu.figure = (after - before) * 1e6 / number
                note_memory(size, memory.measure(broker.pid))
    except MeasurementError as error:
        rate.error = str(error)
    return [
        *(rate, cpu, size, measure_subscribed(bench), measure_subscribed(bench, scenarios.IDLE_BEATS)),
        *(measure_talkers(bench), measure_burst(bench)),
    ]


def note_memory(row: Row, found: memory.Memory | None) -> None:
    """Fill in a row of memory."""
    if found is None:
        row.note = "not measured"
        return
    row.figure = found.pss_mib
    row.note = f"private {found.private_mib:.2f}, largest PSS {found.largest_pss_mib:.2f}, {found.processes} processes"


def measure_subscribed(bench: Bench, heart_beat: str = "") -> Row:
    """Measure the memory of a client that has a subscription, perhaps heart-beats, and does nothing."""
    number = bench.idle_clients
    kind, name = ("with heart-beats, ", "beating") if heart_beat else ("", "subscribed")
    row = Row(
        f"idle-memory-{name}", f"memory of each of {number:,} subscribed clients, {kind}PSS", None, Unit.MEBIBYTES
    )
    row.target = scenarios.SUBSCRIBED_PSS_MIB
    try:
        with (
            bench.broker() as broker,
            run_idle(broker, number, True, bench.tag(), bench.deadline_s, heart_beat=heart_beat),
        ):
            note_memory(row, memory.measure(broker.pid))
    except MeasurementError as error:
        row.error = str(error)
    return row


def measure_websocket_round(bench: Bench) -> list[Row]:
    """There and back over WebSocket, beside the same over TCP on the same broker."""
    bare = scenarios.PING_PONG
    row = row_of(scenarios.websocket(bare, 0.0))
    row.limit = bench.measure_relay(bare)
    try:
        with bench.broker(websocket=True) as broker:
            plain = float(bench.measure_on(broker, bare)["p50_us"])
            result = bench.measure_on(broker, scenarios.websocket(bare, 0.0))
        row.figure = float(result["p50_us"])
        row.target = scenarios.WEBSOCKET_PING_PONG_SHARE * plain
        row.note = f"{note_of(bare, result)}; target: {scenarios.WEBSOCKET_PING_PONG_SHARE} x {plain:,.0f} µs over TCP"
    except MeasurementError as error:
        row.error, row.target = str(error), None
    return [row]


def measure_tabs(bench: Bench) -> list[Row]:
    """Measure the memory of a page that does nothing, beside that of clients over TCP.

    Without a subscription, with one, and with heart-beats as well, as libraries ask for.
    """
    rows = []
    for name, subscribe, heart_beat in (
        ("idle", False, ""),
        ("subscribed", True, ""),
        ("beating", True, scenarios.IDLE_BEATS),
    ):
        kind = "subscribed tabs with heart-beats" if heart_beat else f"{name} tabs"
        title = f"memory of each of {bench.idle_clients:,} {kind} over WebSocket, PSS"
        row = Row(f"websocket-{name}", title, None, Unit.MEBIBYTES)
        rows.append(row)
        try:
            found = []
            for websocket in (False, True):
                with (
                    bench.broker(websocket=True) as broker,
                    run_idle(
                        *(broker, bench.idle_clients, subscribe, bench.tag(), bench.deadline_s),
                        websocket=websocket,
                        heart_beat=heart_beat,
                    ),
                ):
                    found.append(memory.measure(broker.pid))
            note_memory(row, found[1])
            if found[0] is not None:
                row.target = scenarios.WEBSOCKET_IDLE_SHARE * found[0].pss_mib
                row.note += f"; target: {scenarios.WEBSOCKET_IDLE_SHARE} x {found[0].pss_mib:.2f} over TCP"
        except MeasurementError as error:
            row.error = str(error)
    return [*rows, measure_watchers(bench)]


def measure_watchers(bench: Bench) -> Row:
    """Measure the memory of an EventSource that has had no event."""
    number = bench.idle_clients
    row = Row("events-idle", f"memory of each of {number:,} EventSources without an event, PSS", None, Unit.MEBIBYTES)
    try:
        with bench.broker(websocket=True) as broker, run_watchers(broker, number, bench.tag(), bench.deadline_s):
            note_memory(row, memory.measure(broker.pid))
    except MeasurementError as error:
        row.error = str(error)
    return row


def measure_talkers(bench: Bench) -> Row:
    """Measure the memory of a client that has sent and got a message, and does nothing any more."""
    number = bench.idle_clients
    title = f"memory of each of {number:,} clients that have sent and got a message, PSS"
    row = Row("idle-memory-talkers", title, None, Unit.MEBIBYTES)
    try:
        with bench.broker() as broker, run_talkers(broker, number, bench.tag(), bench.deadline_s):
            note_memory(row, memory.measure(broker.pid))
    except MeasurementError as error:
        row.error = str(error)
    return row


def measure_burst(bench: Bench) -> Row:
    """How long it takes until clients that come at the same time are all connected; the median of some bursts.

    Each of them comes to a broker at rest: the processes of the last one have ended, and there are others at hand.
    """
    number = scenarios.BURST_COUNT
    row = Row("burst", f"{number} clients connect at the same time", None, Unit.MILLISECONDS)
    row.target = scenarios.BURST_MS
    try:
        with bench.broker() as broker:
            spans = []
            for _ in range(scenarios.BURSTS):
                memory.await_rest(broker.pid, number)
                with run_idle(broker, number, False, bench.tag(), bench.deadline_s, parallel=number) as result:
                    spans.append(float(result["seconds"]) * 1000)
            row.figure = statistics.median(spans)
    except MeasurementError as error:
        row.error = str(error)
    return row


def measure_workers(bench: Bench) -> list[Row]:
    """One queue with few workers, then with many that wait."""
    rows = []
    for number in (*scenarios.FEW_WORKERS, scenarios.MANY_WORKERS):
        rows += measure_plain(bench, scenarios.workers(number))
    few = [row.figure for row in rows[:-1] if row.figure is not None]
    if few:
        rows[-1].target = scenarios.WORKERS_SHARE * max(few)
        rows[-1].note = f"target: {scenarios.WORKERS_SHARE:.0%} of the best of 1 to 4 workers"
    return rows


def machine() -> str:
    """The machine in one line."""
    name = os.uname()
    model = name.machine
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} x {model}, {name.sysname} {name.release}"
