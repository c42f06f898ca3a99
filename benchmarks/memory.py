"""The memory of a broker's processes, from Linux's /proc; elsewhere not measured."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
KIB_PER_MIB = 1024
SAMPLE_S = 0.5
CLIENT = b": client "
STORE = b": store "
SPARE = b": spare"
REST_S = 5.0
LOOK_S = 0.02


@dataclass(frozen=True)
class Memory:
    """Means over the broker's client processes, in MiB."""

    processes: int
    pss_mib: float
    private_mib: float
    largest_pss_mib: float


def parents() -> dict[int, int]:
    """The parent of each process of the machine."""
    found = {}
    for status in PROC.glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold anything, so the fields are counted from its end.
            fields = status.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        found[int(status.parent.name)] = int(fields[1])
    return found


def children_of(parent: int) -> list[int]:
    """Processes whose parent is the given one."""
    return [process for process, its_parent in parents().items() if its_parent == parent]


def family_of(ancestor: int) -> set[int]:
    """A process and all that descend from it."""
    known = parents()
    family, added = {ancestor}, {ancestor}
    while added:
        added = {process for process, parent in known.items() if parent in added} - family
        family |= added
    return family


def has_title(process: int, part: bytes) -> bool:
    """Whether the title is of that sort, as in `stomp-broker: client 127.0.0.1:40112`."""
    try:
        return part in (PROC / str(process) / "cmdline").read_bytes()
    except OSError:
        return False


def read_rollup(process: int) -> dict[str, int] | None:
    """The sums of smaps_rollup in KiB, by name, or None if the process has gone."""
    try:
        lines = (PROC / str(process) / "smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return None
    return {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}


def cpu_s(process: int | None) -> float | None:
    """Processor time that a process has used, in seconds, or None where that cannot be seen."""
    try:
        fields = (PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(parent: int | None) -> Memory | None:
    """Look at the clients' children of a broker, or return None where that cannot be done."""
    if parent is None or not (PROC / "self" / "smaps_rollup").exists():
        return None
    children = children_of(parent)
    # Where no title can be recognised every child counts, the few spare ones included.
    clients = [process for process in children if has_title(process, CLIENT)] or children
    sums = [rollup for process in clients if (rollup := read_rollup(process)) is not None]
    if not sums:
        return None
    pss = [rollup["Pss"] / KIB_PER_MIB for rollup in sums]
    private = [(rollup["Private_Clean"] + rollup["Private_Dirty"]) / KIB_PER_MIB for rollup in sums]
    return Memory(len(sums), sum(pss) / len(pss), sum(private) / len(private), max(pss))


def await_rest(parent: int | None, spares: int) -> None:
    """Wait until a broker has no clients, and so many processes at hand for those that come; 5 s at most.

    Where that cannot be seen, wait for one second.
    """
    if parent is None or not PROC.exists():
        time.sleep(1.0)
        return
    end = time.monotonic() + REST_S
    while time.monotonic() < end:
        children = children_of(parent)
        at_hand = sum(has_title(process, SPARE) for process in children)
        if at_hand >= spares and not any(has_title(process, CLIENT) for process in children):
            return
        time.sleep(LOOK_S)


def family_pss(ancestor: int | None) -> int | None:
    """The PSS of a process and all that descend from it, in KiB, or None where that cannot be seen."""
    if ancestor is None or read_rollup(ancestor) is None:
        return None
    return sum(rollup["Pss"] for process in family_of(ancestor) if (rollup := read_rollup(process)) is not None)


@dataclass(frozen=True)
class Sample:
    """The PSS of the two processes that keep messages, in MiB."""

    parent: float
    store: float

    @property
    def both(self) -> float:
        """Together."""
        return self.parent + self.store


def sample(parent: int | None) -> Sample | None:
    """Parent and store at this moment, or None where that cannot be seen."""
    rollup = read_rollup(parent) if parent is not None else None
    if parent is None or rollup is None:
        return None
    stores = [read_rollup(process) for process in children_of(parent) if has_title(process, STORE)]
    store = sum(found["Pss"] for found in stores if found is not None)
    return Sample(rollup["Pss"] / KIB_PER_MIB, store / KIB_PER_MIB)


class Watch:
    """Samples of a broker, one after the other."""

    def __init__(self, parent: int | None) -> None:
        self._parent = parent
        self._ended = threading.Event()
        self.highest: Sample | None = None

    def take(self) -> Sample | None:
        """One more; returned, too."""
        found = sample(self._parent)
        if found is not None and (self.highest is None or found.both > self.highest.both):
            self.highest = found
        return found

    def run(self) -> None:
        """Samples until the end."""
        while not self._ended.wait(SAMPLE_S):
            self.take()

    def end(self) -> None:
        """No more."""
        self._ended.set()


@contextlib.contextmanager
def watch(parent: int | None) -> Iterator[Watch]:
    """A sample each half second as long as the context."""
    samples = Watch(parent)
    thread = threading.Thread(target=samples.run)
    thread.start()
    try:
        yield samples
    finally:
        samples.end()
        thread.join()
