"""Show what is in a file of changes that the store could not write: `python3 -m forkbroker.store.aside FILE`.

The file has them as the store was told them: envelopes (`forkbroker.wire.envelope`), one after the other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from forkbroker.errors import EnvelopeError, Exit
from forkbroker.wire.envelope import Envelope, read_length
from forkbroker.wire.fan import unpack_fan
from forkbroker.wire.kinds import Flag, Kind


def describe_file(octets: bytes) -> Iterator[str]:
    """Lines about the envelopes, and the messages in them with their bodies; and about what can't be decoded."""
    at = 0
    while at < len(octets):
        try:
            length = read_length(octets, at)
            envelope = Envelope(octets[at : at + length])
        except EnvelopeError as error:
            yield f"at {at}: {error}; {len(octets) - at:,} bytes are left"
            return
        yield from _describe(envelope)
        at += length


def _describe(envelope: Envelope) -> Iterator[str]:
    kind, serial, count = envelope.kind, envelope.serial, envelope.count
    try:
        if kind is Kind.FAN:
            targets, batch = unpack_fan(envelope)
            yield f"FAN of {batch.count} messages for {len(targets)} queues"
            for serial, queue in targets:
                yield f"  {_text(queue)}, serials from {serial}"
            yield from _list_messages(batch)
            return
        yield f"{kind.name} of {count} messages for {_text(envelope.destination) or 'no queue'}, serials from {serial}"
        if kind in (Kind.WRITE, Kind.SPILL):
            yield from _list_messages(envelope)
    except EnvelopeError as error:
        yield f"  cannot be decoded: {error}"


def _list_messages(envelope: Envelope) -> Iterator[str]:
    mixed = envelope.flags & Flag.MIXED
    headers = b"" if mixed else envelope.block.partition(b"\n")[2]
    for number, piece in enumerate(envelope.pieces(), start=envelope.index):
        # with `NAMED` the first line is the message-id
        yield f"  message {number}, {len(piece):,} bytes:"
        yield from ("    " + line for line in _text(headers + bytes(piece)).splitlines())


def _text(octets: bytes) -> str:
    text = octets.decode("utf-8", "backslashreplace")
    return "".join([char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text])


def main(arguments: list[str]) -> int:
    """Print it; the exit status."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python3 -m forkbroker.store.aside FILE\n")
        return Exit.USAGE
    try:
        octets = Path(arguments[0]).read_bytes()
    except OSError as error:
        sys.stderr.write(f"{arguments[0]}: {error.strerror}\n")
        return Exit.IOERR
    for line in describe_file(octets):
        sys.stdout.write(f"{line}\n")
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
