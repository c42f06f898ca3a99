"""What idle clients cost in memory, from Linux's /proc; elsewhere not measured."""

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
KIB_PER_MIB = 1024


@dataclass(frozen=True)
class Memory:
    """Means over the broker's client processes, in MiB."""

    processes: int
    pss_mib: float
    private_mib: float
    largest_pss_mib: float


def children_of(parent: int) -> list[int]:
    """Processes whose parent is the given one."""
    found = []
    for status in PROC.glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold anything, so the fields are counted from its end.
            fields = status.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(status.parent.name))
    return found


def is_client(process: int) -> bool:
    """Whether the title is that of a client's child, as in `stomp-broker: client 127.0.0.1:40112`."""
    try:
        return b": client " in (PROC / str(process) / "cmdline").read_bytes()
    except OSError:
        return False


def read_rollup(process: int) -> dict[str, int] | None:
    """The sums of smaps_rollup in KiB, by name, or None if the process has gone."""
    try:
        lines = (PROC / str(process) / "smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return None
    return {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}


def measure(parent: int | None) -> Memory | None:
    """Look at the clients' children of a broker, or return None where that cannot be done."""
    if parent is None or not (PROC / "self" / "smaps_rollup").exists():
        return None
    children = children_of(parent)
    # Where no title can be recognised every child counts, the few spare ones included.
    clients = [process for process in children if is_client(process)] or children
    sums = [rollup for process in clients if (rollup := read_rollup(process)) is not None]
    if not sums:
        return None
    pss = [rollup["Pss"] / KIB_PER_MIB for rollup in sums]
    private = [(rollup["Private_Clean"] + rollup["Private_Dirty"]) / KIB_PER_MIB for rollup in sums]
    return Memory(len(sums), sum(pss) / len(pss), sum(private) / len(private), max(pss))
