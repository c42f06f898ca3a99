#!/usr/bin/env python3
"""What a reader has to open to follow a message: the files, functions and lines that three journeys go through.

Each journey is made on a running broker, all processes of which note what functions they call in the meantime:

- a SEND to a topic, to the MESSAGE at a subscriber;
- a SEND to a queue, to its MESSAGE, its ACK and that one's RECEIPT;
- a persistent SEND to a queue, to its RECEIPT.

Where calls are counted there is a fourth one: from one message to the next of a worker beside another one.

A journey is made several times, and what was not called each time is left out: it was something else, as the
housekeeping of every second. A line counts if it belongs to a function that was called.

    journeys.py             the three figures of each journey
    journeys.py --list      and the files of each, with the functions in the order in which they were called first
    journeys.py --calls     how many Python functions are called for one message, in the processes of each kind; with
                            --list, which ones, and how often

The calls are counted over many messages, one after the other. They are a measure of time that is the same on a busy
machine: a call takes some 0.1 µs with what it does.
"""

import argparse
import mmap
import os
import socket
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from forkbroker.testing.broker import RunningBroker  # noqa: E402 (found by the line above)

TIMES = 5
MESSAGES = 200
"""How often a journey is made to count calls."""
_PATIENCE_S = 10.0
_END = 255
_PROGRAMS = {
    "child": "forkbroker/child/child.py",
    "parent": "forkbroker/parent/parent.py",
    "store": "forkbroker/store/process.py",
}
"""The module that is at work in each kind of process only."""

# In every process of the broker: notes, by the number of the time, how often each function is called. Octet 0 of a file
# that all of them share is that number; 0 means nothing is noted, and 255 that all is to be written down.
_TRACER = f"""
import mmap, os, sys
directory = os.environ.get("JOURNEYS")
if directory:
    with open(directory + "/time", "r+b") as file:
        now = mmap.mmap(file.fileno(), 1)
    calls = {{}}

    def note(frame, event, _):
        if event != "call":
            return
        time = now[0]
        if time == 0:
            return
        if time == {_END}:
            sys.setprofile(None)
            with open(f"{{directory}}/{{os.getpid()}}", "w") as file:
                for number, codes in calls.items():
                    for code, times in codes.items():
                        last = max((line for _, _, line in code.co_lines() if line), default=code.co_firstlineno)
                        lines = code.co_firstlineno, last
                        print(number, times, code.co_filename, *lines, code.co_qualname, sep="\\t", file=file)
            return
        codes = calls.setdefault(time, {{}})
        codes[frame.f_code] = codes.get(frame.f_code, 0) + 1

    sys.setprofile(note)
"""


@dataclass(frozen=True, order=True)
class Function:
    """A function that was called."""

    file: str
    first: int
    last: int
    name: str

    @property
    def lines(self) -> int:
        """How many it has."""
        return self.last - self.first + 1


class Client:
    """A STOMP client that does one thing after the other."""

    def __init__(self, port: int) -> None:
        """Connect."""
        self.port = port
        self.crew: list[Client] = []
        """Others, that consume from the same queue."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
        self._left = b""
        self.send("CONNECT", "accept-version:1.2", "host:localhost")
        self.read("CONNECTED")

    def send(self, command: str, *headers: str, body: str = "") -> None:
        """Send a frame."""
        self._socket.sendall("\n".join([command, *headers, "", body]).encode() + b"\0")

    def read(self, command: str) -> str:
        """Read the next frame, which has this command."""
        while b"\0" not in self._left:
            octets = self._socket.recv(65536)
            if not octets:
                raise SystemExit(f"journeys: the broker has closed the connection, {command} was to come")
            self._left += octets
        frame, self._left = self._left.split(b"\0", 1)
        self._left = self._left.lstrip(b"\n")
        text = frame.decode()
        if not text.startswith(command + "\n"):
            raise SystemExit(f"journeys: {text!r} came, {command} was to come")
        return text

    def close(self) -> None:
        """Leave."""
        for other in self.crew:
            other.close()
        self._socket.close()


def topic(sender: Client, subscriber: Client) -> None:
    """A SEND to a topic."""
    sender.send("SEND", "destination:/topic/news", body="hello")
    subscriber.read("MESSAGE")


def queue(sender: Client, subscriber: Client) -> None:
    """A SEND to a queue, its delivery, and the acknowledgement."""
    sender.send("SEND", "destination:/queue/work", body="hello")
    message = subscriber.read("MESSAGE")
    (ack,) = [line for line in message.splitlines() if line.startswith("ack:")]
    subscriber.send("ACK", f"id{ack[3:]}", "receipt:1")
    subscriber.read("RECEIPT")


def persistent(sender: Client, _: Client) -> None:
    """A persistent SEND with a receipt."""
    sender.send("SEND", "destination:/queue/kept", "persistent:true", "receipt:1", body="hello")
    sender.read("RECEIPT")


def shared(sender: Client, subscriber: Client) -> None:
    """A message of a full queue, for one of two workers with prefetch 1, and its acknowledgement."""
    crew = subscriber.crew
    if not crew:
        for _ in range(2 * MESSAGES):
            sender.send("SEND", "destination:/queue/shared", body="hello")
        crew += [Client(subscriber.port), Client(subscriber.port)]
        for worker in crew:
            worker.send("SUBSCRIBE", "id:1", "destination:/queue/shared", "ack:client-individual", "prefetch-count:1")
    worker = crew[0]
    crew.reverse()
    message = worker.read("MESSAGE")
    (ack,) = [line for line in message.splitlines() if line.startswith("ack:")]
    worker.send("ACK", f"id{ack[3:]}")


Journey = Callable[[Client, Client], None]

JOURNEYS: dict[str, Journey] = {
    "SEND to a topic": topic,
    "SEND to a queue, delivery, ACK": queue,
    "persistent SEND, RECEIPT": persistent,
}
COUNTED: dict[str, Journey] = {**JOURNEYS, "MESSAGE of a queue that is full, ACK": shared}
"""Of this one only the calls are of interest: what it goes through depends on what was offered ahead."""


Notes = dict[int, dict[Function, int]]
"""What one process has called: by the number of the time how often each function."""


def trace(journey: Journey) -> list[Function]:
    """The functions of the broker that this journey goes through, in no order."""
    found: dict[Function, set[int]] = defaultdict(set)
    for notes in _take_notes(journey, TIMES, 1):
        for number, calls in notes.items():
            for function in calls:
                found[function].add(number)
    return sorted(
        function for function, times in found.items() if len(times) == TIMES and function.file.startswith("forkbroker/")
    )


def count_calls(journey: Journey) -> dict[str, Counter[Function]]:
    """How often each function is called in `MESSAGES` journeys, by the kind of the process."""
    counted: dict[str, Counter[Function]] = {kind: Counter() for kind in _PROGRAMS}
    for notes in _take_notes(journey, 1, MESSAGES):
        for calls in notes.values():
            files = {function.file for function in calls}
            for kind, program in _PROGRAMS.items():
                if program in files:
                    counted[kind].update(calls)
    return counted


def _take_notes(journey: Journey, rounds: int, times: int) -> list[Notes]:
    """Make the journey so many times in each of so many rounds; return what each process has called."""
    with tempfile.TemporaryDirectory(prefix="forkbroker-journeys-") as directory:
        Path(directory, "sitecustomize.py").write_text(_TRACER)
        Path(directory, "time").write_bytes(b"\0")
        with Path(directory, "time").open("r+b") as file, mmap.mmap(file.fileno(), 1) as now:
            _make(journey, now, directory, rounds, times)
        return [_read_notes(path) for path in Path(directory).glob("[0-9]*")]


def _read_notes(path: Path) -> Notes:
    notes: Notes = defaultdict(dict)
    for line in path.read_text().splitlines():
        number, times, file_name, first, last, name = line.split("\t")
        function = Function(os.path.relpath(file_name, ROOT), int(first), int(last), name)
        notes[int(number)][function] = int(times)
    return notes


def _make(journey: Journey, now: mmap.mmap, directory: str, rounds: int, times: int) -> None:
    """Make the journey often enough, and see to it that each process writes down what it has noted."""
    with RunningBroker(env={"JOURNEYS": directory, "PYTHONPATH": f"{directory}:{ROOT}"}) as broker:
        sender, subscriber = Client(broker.port), Client(broker.port)
        subscriber.send("SUBSCRIBE", "id:1", "destination:/topic/news", "receipt:1")
        subscriber.read("RECEIPT")
        subscriber.send("SUBSCRIBE", "id:2", "destination:/queue/work", "ack:client", "prefetch-count:1", "receipt:1")
        subscriber.read("RECEIPT")
        journey(sender, subscriber)
        for number in range(1, rounds + 1):
            # what follows from the one before has been done when the broker is idle: nothing tells that but time
            time.sleep(0.1)
            now[0] = number
            for _ in range(times):
                journey(sender, subscriber)
            time.sleep(0.05)
            now[0] = 0
        now[0] = _END
        # whoever is idle does something once more
        persistent(sender, subscriber)
        topic(sender, subscriber)
        sender.close()
        subscriber.close()
        broker.stop()


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="count what a reader opens, and a process calls, for a message")
    parser.add_argument("--list", action="store_true", help="name files and functions as well")
    parser.add_argument("--calls", action="store_true", help="count the calls for a message")
    given = parser.parse_args()
    if given.calls:
        _show_calls(given.list)
    else:
        _show_files(given.list)
    return 0


def _show_files(is_list: bool) -> None:
    print(f"{'journey':32} {'files':>6} {'functions':>10} {'lines':>7}")
    for name, journey in JOURNEYS.items():
        functions = trace(journey)
        files: dict[str, list[Function]] = defaultdict(list)
        for function in functions:
            files[function.file].append(function)
        print(f"{name:32} {len(files):6} {len(functions):10} {sum(one.lines for one in functions):7,}")
        if is_list:
            for file, ones in files.items():
                print(f"    {file}: {', '.join(one.name for one in ones)}")


def _show_calls(is_list: bool) -> None:
    print(f"{'calls for a message':36} {'all':>7}" + "".join(f" {kind:>7}" for kind in _PROGRAMS))
    for name, journey in COUNTED.items():
        counted = count_calls(journey)
        figures = [calls.total() / MESSAGES for calls in counted.values()]
        print(f"{name:36} {sum(figures):7.1f}" + "".join(f" {figure:7.1f}" for figure in figures))
        if is_list:
            for kind, calls in counted.items():
                for function, times in calls.most_common():
                    print(f"    {kind:8} {times / MESSAGES:6.2f}  {function.file}: {function.name}")


if __name__ == "__main__":
    sys.exit(main())
