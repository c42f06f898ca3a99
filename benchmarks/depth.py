"""How deep queues are measured: once, as they are long; in, and out again in order, with an eye on memory."""

import shutil
import time
from dataclasses import dataclass, replace

import memory
import scenarios
from memory import Sample, Watch
from procedures import Bench, Row, row_of
from processes import BUILD, Broker, MeasurementError, Result, database_directory, run_load, run_plain_store
from scenarios import Scenario, Unit

DEADLINE_S = 300.0
READ_SIZE = 262_144


@dataclass(frozen=True)
class Depth:
    """One deep queue: the messages, and the part of their destination that is theirs alone."""

    scenario: Scenario
    count: int
    tag: str

    def run(self, broker: Broker, mode: str, *more: str) -> Result:
        """Fill it or drain it."""
        load = replace(self.scenario.load, mode=mode)
        address = ["--host", broker.host, "--port", str(broker.port)]
        return run_load([*load.arguments(self.count, self.tag), *address, *more], DEADLINE_S)


def prepare(bench: Bench, scenario: Scenario) -> Depth:
    """The queue to be filled; a trial's is less deep."""
    return Depth(scenario, int(scenario.probe * bench.depth), bench.tag())


def check_space(depth: Depth) -> None:
    """Raises MeasurementError where the disk has no room for it."""
    needed = depth.count * depth.scenario.load.size * scenarios.DISK_PER_OCTET
    BUILD.mkdir(exist_ok=True)
    free = shutil.disk_usage(BUILD).free
    if free < needed:
        raise MeasurementError(f"needs {needed / 1e9:.1f} GB free for benchmarks/build, there are {free / 1e9:.1f} GB")


def measure_deep(bench: Bench) -> list[Row]:
    """More messages than memory may hold, without a consumer; then a consumer for all of them."""
    depth = prepare(bench, scenarios.DEEP)
    into = replace(row_of(depth.scenario), name="deep-in")
    into.title = f"{depth.count:,} messages into a queue without a consumer"
    tenth = replace(into, name="deep-tenth", title="the slowest tenth of these")
    used = replace(into, name="deep-memory", title="parent and store meanwhile, highest PSS", unit=Unit.MEBIBYTES)
    used.target = scenarios.DEEP_MIB
    out = replace(into, name="deep-out", title="and out again in order, auto")
    # whose turn it is: what fails is told in that row
    now = into
    try:
        check_space(depth)
        into.limit = measure_file(depth)
        with bench.broker() as broker, memory.watch(broker.pid) as watch:
            fill_tenths(into, tenth, depth.run(broker, "fill", "--tenths"))
            at_depth = watch.take()
            now = out
            out.figure = float(depth.run(broker, "drain")["rate"])
        fill_memory(used, at_depth, watch)
    except MeasurementError as error:
        now.error = str(error)
    return [into, tenth, used, out]


def measure_file(depth: Depth) -> float:
    """Messages a second that go into a file by themselves, written as the broker reads them and never synced."""
    block = bytes(READ_SIZE)
    octets = depth.count * depth.scenario.load.size
    with database_directory() as directory, (directory / "plain").open("wb", buffering=0) as file:
        start = time.perf_counter()
        for _ in range(octets // len(block)):
            file.write(block)
        return depth.count / (time.perf_counter() - start)


def fill_tenths(into: Row, tenth: Row, result: Result) -> None:
    """The rate of all, and of the slowest tenth beside the first."""
    first, *others = tenths = result["tenths"]
    into.figure, tenth.figure = float(result["rate"]), float(min(tenths))
    tenth.target = scenarios.DEEP_TENTH_SHARE * float(first)
    tenth.note = f"target: {scenarios.DEEP_TENTH_SHARE:.0%} of the first, {first:,.0f}; fastest {max(others):,.0f}"


def fill_memory(used: Row, at_depth: Sample | None, watch: Watch) -> None:
    """The highest of all samples, and the one with all messages there."""
    if at_depth is None or watch.highest is None:
        used.note = "not measured"
        return
    used.figure = watch.highest.both
    used.note = (
        f"then parent {watch.highest.parent:.0f}, store {watch.highest.store:.0f}; "
        f"with all messages there {at_depth.parent:.0f} and {at_depth.store:.0f}"
    )


def measure_deep_persistent(bench: Bench) -> list[Row]:
    """Persistent messages with receipts, without a consumer; then a consumer for all of them."""
    depth = prepare(bench, scenarios.DEEP_PERSISTENT)
    load = depth.scenario.load
    into = replace(row_of(depth.scenario), name="deep-persistent-in")
    into.title = (
        f"{depth.count:,} persistent messages into a queue, a receipt on every SEND, window {load.receipt_window:,}"
    )
    out = replace(into, name="deep-persistent-out", title="and out again in order, auto")
    now = into
    try:
        check_space(depth)
        into.limit = float(run_plain_store(depth.count, load.receipt_window, load.size, DEADLINE_S)["rate"])
        with bench.broker() as broker, memory.watch(broker.pid) as watch:
            into.figure = float(depth.run(broker, "fill")["rate"])
            now = out
            out.figure = float(depth.run(broker, "drain")["rate"])
        if watch.highest is not None:
            out.note = f"parent and store in both: up to {watch.highest.both:.0f} MiB"
    except MeasurementError as error:
        now.error = str(error)
    return [into, out]
