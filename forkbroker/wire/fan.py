"""FAN: one batch of messages for several queues, told with its bodies once.

The block is a list of targets, the payload one whole WRITE or SPILL that has neither a queue nor a serial of its own.
A target, big-endian:

    0   u64  serial of the first message      8   u16  length of the queue's name      10   the name
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from forkbroker.errors import EnvelopeError
from forkbroker.wire.envelope import HEADER, Buffer, Envelope
from forkbroker.wire.kinds import Kind

Target = tuple[int, bytes]
"""The serial of the first message, and the queue's name."""

_HEAD = struct.Struct(">QH")
_BATCHES = (Kind.WRITE, Kind.SPILL)


def pack_targets(targets: Iterable[Target]) -> bytes:
    """Return the block of a FAN."""
    return b"".join([_HEAD.pack(serial, len(queue)) + queue for serial, queue in targets])


def unpack_fan(envelope: Envelope) -> tuple[list[Target], Envelope]:
    """Return the targets of a FAN, and its batch, a WRITE or SPILL.

    Raises:
        EnvelopeError: the FAN cannot be decoded.
    """
    batch = Envelope(bytes(envelope.payload))
    if batch.kind not in _BATCHES:
        raise EnvelopeError(f"FAN of {batch.kind.name}, WRITE or SPILL permitted")
    targets = _read_targets(envelope.block)
    if len(targets) != envelope.count or not targets:
        raise EnvelopeError(f"FAN for {envelope.count} queues names {len(targets)}")
    return targets, batch


def _read_targets(block: bytes) -> list[Target]:
    targets, at = [], 0
    while at < len(block):
        try:
            serial, length = _HEAD.unpack_from(block, at)
        except struct.error as error:
            raise EnvelopeError(f"FAN: {error}") from None
        at += _HEAD.size
        if at + length > len(block):
            raise EnvelopeError(f"FAN: the name of a queue ends at {at + length} of {len(block)}")
        targets.append((serial, block[at : at + length]))
        at += length
    return targets


def address(batch: Envelope, target: Target) -> Buffer:
    """Return the batch of a FAN as the envelope that it would be for this target alone: a copy."""
    serial, queue = target
    fields = list(HEADER.unpack_from(batch.raw))
    start = HEADER.size + len(batch.destination)
    fields[0] += len(queue) - len(batch.destination)
    fields[9], fields[10] = serial, len(queue)
    return b"".join((HEADER.pack(*fields), queue, memoryview(batch.raw)[start:]))
