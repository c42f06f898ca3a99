"""How long the parser takes for a frame, for each of its paths: python benchmarks/parser.py [seconds]

Each stream is fed in reads of 256 KiB, as a child does it; the best of the rounds counts. The goals are those
that the parser was built for; what the broker reaches between sockets is in the other benchmarks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from forkbroker.stomp.limits import Limits
from forkbroker.stomp.parser import Parser
from forkbroker.stomp.versions import V12

READ = 262_144
FRAMES = 50_000
BODY = b"x" * 100


def send(destination: str, *, sized: bool, body: bytes = BODY, receipt: str = "", end: bytes = b"\n") -> bytes:
    lines = ["SEND", f"destination:{destination}"]
    lines += [f"content-length:{len(body)}"] if sized else []
    lines += [f"receipt:{receipt}"] if receipt else []
    return end.join(line.encode() for line in [*lines, "", ""]) + body + b"\0\n"


def streams() -> Iterator[tuple[str, float, bytes]]:
    """Name, goal in microseconds a frame, and the octets."""
    for sized in (True, False):
        kind = "content-length" if sized else "up to NUL"
        one = send("/topic/prices", sized=sized)
        yield f"run of like frames, {kind}", 0.10, one * FRAMES
        pair = one + send("/topic/orders", sized=sized)
        yield f"two destinations in turn, {kind}", 0.80, pair * (FRAMES // 2)
        triple = one * 3 + send("/topic/orders", sized=sized)
        yield f"three and one in turn, {kind}", 0.80, triple * (FRAMES // 4)
        receipts = (send("/topic/prices", sized=sized, receipt=f"r-{n}") for n in range(FRAMES))
        yield f"unique receipts, {kind}", 2.00, b"".join(receipts)
    sizes = islice(cycle(range(50, 150)), FRAMES)
    yield (
        "bodies of 50 to 149, up to NUL",
        0.20,
        b"".join(send("/topic/prices", sized=False, body=b"x" * n) for n in sizes),
    )
    sizes = islice(cycle(range(50, 150)), FRAMES)
    yield (
        "bodies of 50 to 149, content-length",
        0.80,
        b"".join(send("/topic/prices", sized=True, body=b"x" * n) for n in sizes),
    )
    pair = b"".join(send(f"/topic/{name}", sized=True, end=b"\r\n") for name in ("prices", "orders"))
    yield "CR LF, two destinations in turn", 0.80, pair * (FRAMES // 2)
    yield "ACK", 2.50, b"".join(b"ACK\nid:%d-%d\n\n\0\n" % (n % 7, n) for n in range(FRAMES))
    unique = (b"SEND\ndestination:/queue/a\ncorrelation-id:c-%d\n\n%b\0" % (n, BODY) for n in range(FRAMES))
    yield "unique correlation-id", 4.00, b"".join(unique)


def connected_parser() -> Parser:
    parser = Parser(Limits())
    parser.receive(b"CONNECT\naccept-version:1.2\nhost:x\n\n\0")
    parser.negotiated(V12)
    return parser


def seconds_for(pieces: list[bytes], frames: int) -> float:
    parser = connected_parser()
    parsed = 0
    start = time.perf_counter()
    for piece in pieces:
        for run in parser.receive(piece):
            parsed += len(run.bodies)
    elapsed = time.perf_counter() - start
    if parsed != frames or parser.error is not None:
        raise SystemExit(f"parsed {parsed} of {frames} frames, error {parser.error!r}")
    return elapsed


def measure(stream: bytes, seconds: float, frames: int = FRAMES) -> float:
    """Microseconds for a frame, the best of as many rounds as fit into `seconds`."""
    pieces = [stream[at : at + READ] for at in range(0, len(stream), READ)]
    best = seconds_for(pieces, frames)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, seconds_for(pieces, frames))
    return best / frames * 1e6


def measure_large(seconds: float, count: int = 64) -> float:
    """MB/s for bodies of 1 MiB that are received into place, without the receiving."""
    body = b"x" * 1_048_576
    head = b"SEND\ndestination:/queue/a\ncontent-length:%d\n\n" % len(body)
    best = 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not best:
        parser = connected_parser()
        start = time.perf_counter()
        for _ in range(count):
            parser.receive(head + body[:1000])
            while (place := parser.body_buffer()) is not None:
                parser.body_received(len(place))
            parser.receive(b"\0")
        # The room is filled with zeros, so the NUL is already there; the one more is between the frames.
        best = max(best, count * len(body) / (time.perf_counter() - start) / 1e6)
    return best


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
    print(f"{'microseconds a frame':40} measured   goal")
    for name, goal, stream in streams():
        measured = measure(stream, seconds)
        print(f"{name:40} {measured:8.3f} {goal:6.2f}{'' if measured <= goal else '  missed'}")
    print(f"{'bodies of 1 MiB in place':40} {measure_large(seconds):8,.0f} MB/s")


if __name__ == "__main__":
    main()
