"""Envelopes: the serialised form of what the broker's processes tell each other.

A *batch* is the unit: everything that one read from a client yielded for one destination in a row travels as one
envelope, and the parent's cost is per envelope, not per message. A message's own header block is serialised once,
by the child that received it; in the envelope it stands so that a delivering child only has to put
`MESSAGE`, `subscription` and the message's number in front:

    MESSAGE LF subscription:… LF message-id:<number> | <block> | <piece> | NUL LF
                                                      from the envelope

so `block` starts with the rest of the message-id (`-session-batch LF`), goes on with the header lines that all
messages of the batch share, escaped as in STOMP 1.2, and ends with the empty line; a piece is a body. With flag
`MIXED` the block ends after the message-id, and each piece has its own header lines and empty line before the body.
With `NAMED` as well there is no block, and each piece has its whole message-id in front: so messages are put together
that came one by one, perhaps from several clients.

Layout, big-endian (the same for every kind; `forkbroker.wire.kinds` tells what each uses):

    0   u32  octets in all          4   u8   version            5   u8   kind
    6   u16  flags                  8   u32  token              12  u32  slot
    16  u32  index                  20  u32  count n            24  u64  number
    32  u64  serial                 40  u16  destination length 42  u16  deliveries
    44  u32  block length           48  destination, block, payload

Flag `SECTION`: behind the block come a length (u32) and `Wishes` or `Details` (`forkbroker.wire.details`). The payload
of SEND, OFFER, WRITE, SPILL and PAGE is the lengths of the pieces (u32 each; one u32 with flag `UNIFORM`), then the
pieces.

To change this format: raise `VERSION`, say so in CHANGELOG.md, and remember that children of an older parent may
still be alive and speak the older one.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from forkbroker.errors import EnvelopeError
from forkbroker.wire.details import DURABLY, PLAIN, Details, Wishes, unpack_details, unpack_wishes
from forkbroker.wire.kinds import Flag, Kind, Outcome

if TYPE_CHECKING:
    from forkbroker.wire.memory_file import MemoryFile

Buffer = bytes | bytearray | memoryview

VERSION = 3
"""What is written."""
OLDEST_VERSION = 3
"""What is understood, up to `VERSION`: a process may be older than the one that it talks to."""
HEADER = struct.Struct(">IBBHIIIIQQHHI")
LENGTH = struct.Struct(">I")
"""How many octets it has in all, at its beginning; other lengths within it have the same form."""
_DESTINATION_LENGTH = 10
"""Its place among the header's fields."""
KIND_AT = 5
"""Where an envelope has its kind."""
SETTLEMENT = struct.Struct(">QIB")
"""One entry of SETTLE: serial of the first message, how many, outcome (`Outcome`)."""

MAX_BATCH = 1024
"""Messages in one envelope at most. Bounds what one offer or one delivery may hold up."""
MAX_NAMED, MAX_NAMED_OCTETS = 64, 65_536
"""Messages that are put together in one envelope, which came one by one (`NAMED`), and octets of all that is in it: to
copy more costs as much as it saves."""
FEW = 8
"""Messages that came together, and are so few that others are put to them."""
MAX_SERIAL = 0x7FFF_FFFF_FFFF_FFFF
"""Serials are signed 64 bit numbers in databases."""

_KINDS: dict[int, Kind] = {kind.value: kind for kind in Kind}
_UNIFORM = int(Flag.UNIFORM)
_SECTION = int(Flag.SECTION)
_PERSISTENT = int(Flag.PERSISTENT)
_FORM = Flag.UNIFORM | Flag.ESCAPED | Flag.MIXED | Flag.NAMED | Flag.RECOVERED
_OUTCOMES: dict[int, Outcome] = {outcome.value: outcome for outcome in Outcome}
_JOIN_BELOW = 32768
_TOGETHER = 32
"""Pieces that are cut at once."""


class Envelope:
    """One envelope as it was received; its fields, and views of what it carries.

    `raw` is the whole of it, header included, and is never changed: forwarding an envelope is sending `raw`. What was
    decoded once is kept, as `forkbroker.wire.fields.check` decodes all of it before somebody asks.
    """

    __slots__ = (
        "_entries",
        "_offsets",
        "_parts",
        "_start",
        "_uniform_from",
        "_wishes",
        "block_length",
        "count",
        "deliveries",
        "destination",
        "file",
        "flags",
        "index",
        "kind",
        "number",
        "raw",
        "sender",
        "serial",
        "slot",
        "token",
    )

    file: MemoryFile
    """What a RENDERED has its frames in if it has a number, and nothing else."""

    def __init__(self, raw: Buffer) -> None:
        """Decode `raw`, which must be exactly one envelope.

        Raises:
            EnvelopeError: not an envelope of this version, or its lengths don't add up. A bug of ours, or a
                child gone wrong: never a client's fault.
        """
        try:
            (
                total,
                version,
                kind,
                self.flags,
                self.token,
                self.slot,
                self.index,
                self.count,
                self.number,
                self.serial,
                destination_length,
                self.deliveries,
                self.block_length,
            ) = HEADER.unpack_from(raw)
            self.kind = _KINDS[kind]
        except (struct.error, KeyError) as error:
            raise EnvelopeError(f"not an envelope: {error!r}") from None
        block = 48 + destination_length
        start = block + self.block_length
        if self.flags & _SECTION:
            start += 4 + (LENGTH.unpack_from(raw, start)[0] if start + 4 <= len(raw) else 0)
        if not OLDEST_VERSION <= version <= VERSION or total != len(raw) or start > total:
            raise EnvelopeError(
                f"{self.kind.name}: version {version}, flags {self.flags:#x}, {total} bytes told, {len(raw)} there"
            )
        # what others have as a view is rarely made an envelope: it is copied, so that it can be searched
        self.raw = bytes(raw) if isinstance(raw, memoryview) else raw
        self.destination = bytes(raw[48:block])
        self._start = start  # of the payload
        self._offsets: list[int] = []
        self._entries: list[tuple[int, int, Outcome]] | None = None
        self._parts: list[Envelope] | None = None
        self._uniform_from = 0
        self._wishes: Wishes | None = None
        # the number of the peer that has sent it, where that is known: noted by the router, and not part of `raw`
        self.sender = 0

    @property
    def block(self) -> bytes:
        """The header block, or the text of a reason."""
        start = 48 + len(self.destination)
        return bytes(self.raw[start : start + self.block_length])

    @property
    def payload(self) -> memoryview:
        """All behind the block, and the section if there is one."""
        return memoryview(self.raw)[self._start :]

    @property
    def wishes(self) -> Wishes:
        """What the sender of a SEND asked for.

        Raises:
            EnvelopeError: they can't be decoded.
        """
        if self._wishes is None:
            self._wishes = unpack_wishes(self._section)
        return self._wishes

    @property
    def details(self) -> Details:
        """What is known of the messages of an OFFER, WRITE, SPILL, PAGE or MOVE.

        Raises:
            EnvelopeError: they can't be decoded.
        """
        if not self.flags & _SECTION:
            return DURABLY if self.flags & _PERSISTENT else PLAIN
        return unpack_details(self._section, persistent=bool(self.flags & _PERSISTENT))

    @property
    def _section(self) -> bytes:
        if not self.flags & _SECTION:
            return b""
        return bytes(self.raw[48 + len(self.destination) + self.block_length + 4 : self._start])

    def pieces(self) -> list[Buffer]:
        """The messages' pieces: bodies, or header lines and bodies with flag `MIXED`, or all of it with `NAMED`.

        A single large one is a view of `raw`, not a copy.

        Raises:
            EnvelopeError: the lengths don't add up.
        """
        raw, count = self.raw, self.count
        if count == 1:
            # with or without `UNIFORM`, one length and one piece
            start, end = self._start + 4, len(raw)
            if start > end or LENGTH.unpack_from(raw, start - 4)[0] != end - start:
                raise EnvelopeError(f"{self.kind.name}: a piece that is not as long as is told, {end} bytes")
            return [memoryview(raw)[start:] if end - start > _JOIN_BELOW else raw[start:]]
        start, end = self.bounds(0, count)
        if self.flags & _UNIFORM:
            return _cut(raw, start, (end - start) // count, count)
        offsets = self._offsets
        return [raw[at:to] for at, to in pairwise(offsets)]

    def bounds(self, first: int, count: int) -> tuple[int, int]:
        """Where in `raw` the pieces `first` to `first + count - 1` start and end.

        Raises:
            EnvelopeError: the lengths don't add up, or there are more pieces than may be.
        """
        if not (self._uniform_from or self._offsets):
            self.read_bounds()
        if self._uniform_from:
            start = self._uniform_from
            length = (len(self.raw) - start) // self.count
            return start + first * length, start + (first + count) * length
        return self._offsets[first], self._offsets[first + count]

    def read_bounds(self) -> None:
        """Find out where the pieces are; `bounds` tells.

        Raises:
            EnvelopeError: the lengths don't add up, or there are more pieces than may be.
        """
        if not 0 < self.count <= MAX_BATCH:
            # empty pieces cost nothing here, and much memory in whoever lists them
            raise EnvelopeError(f"{self.kind.name}: {self.count} pieces, 1 to {MAX_BATCH} permitted")
        if not self.flags & _UNIFORM:
            self._offsets = self._read_offsets()
            return
        raw, start = self.raw, self._start + 4
        length = (len(raw) - start) // self.count
        if length < 0 or start + length * self.count != len(raw) or LENGTH.unpack_from(raw, start - 4)[0] != length:
            raise EnvelopeError(f"{self.kind.name}: {self.count} uniform pieces, {len(self.raw)} bytes")
        self._uniform_from = start

    def starts_and_ends(self) -> tuple[Sequence[int], Sequence[int]]:
        """Where in `raw` each piece starts, and where it ends.

        Raises:
            EnvelopeError: the lengths don't add up.
        """
        start, end = self.bounds(0, self.count)
        if not self.flags & _UNIFORM:
            return self._offsets[:-1], self._offsets[1:]
        length = (end - start) // self.count
        if not length:
            return [start] * self.count, [start] * self.count
        return range(start, end, length), range(start + length, end + 1, length)

    def lengths(self, first: int, count: int) -> bytes:
        """The packed lengths (u32 each) of these pieces, of an envelope that isn't uniform."""
        start = self._start
        return bytes(self.raw[start + 4 * first : start + 4 * (first + count)])

    def _read_offsets(self) -> list[int]:
        start, count = self._start, self.count
        try:
            lengths = struct.unpack_from(f">{count}I", self.raw, start)
        except struct.error as error:
            raise EnvelopeError(f"{self.kind.name}: {error}") from None
        offsets = list(accumulate(lengths, initial=start + 4 * count))
        if offsets[-1] != len(self.raw):
            raise EnvelopeError(f"{self.kind.name}: {count} pieces end at {offsets[-1]} of {len(self.raw)}")
        return offsets

    def settlements(self) -> list[tuple[int, int, Outcome]]:
        """The entries of a SETTLE: (serial of the first message, how many, outcome).

        Raises:
            EnvelopeError: not whole entries, none or too many messages in one, or an unknown outcome.
        """
        if self._entries is not None:
            return self._entries
        entries: list[tuple[int, int, Outcome]] = []
        try:
            for serial, count, outcome in SETTLEMENT.iter_unpack(self.payload):
                if not count or serial + count > MAX_SERIAL:
                    raise EnvelopeError(f"SETTLE: {count} messages from serial {serial} on")
                entries.append((serial, count, _OUTCOMES[outcome]))
        except (struct.error, KeyError) as error:
            raise EnvelopeError(f"SETTLE: {error!r}") from None
        self._entries = entries
        return entries

    def new_serial(self) -> int:
        """The payload of a MOVE: the serial that its first message has from now on.

        Raises:
            EnvelopeError: it is not there.
        """
        try:
            (serial,) = _NUMBER.unpack(self.payload)
        except struct.error as error:
            raise EnvelopeError(f"{self.kind.name}: no serial: {error}") from None
        return int(serial)

    def nested(self) -> list[Envelope]:
        """The envelopes within a TRANSACTION.

        Raises:
            EnvelopeError: one of them is none.
        """
        if self._parts is None:
            deque(self.read_nested(), maxlen=0)
        return self._parts or []

    def read_nested(self) -> Iterator[Envelope]:
        """Go through the envelopes within a TRANSACTION; who has done so once has them in `nested`.

        Raises:
            EnvelopeError: one of them is none.
        """
        payload, at = self.payload, 0
        parts: list[Envelope] = []
        while at < len(payload):
            end = at + read_length(payload, at)
            part = Envelope(bytes(payload[at:end]))
            parts.append(part)
            yield part
            at = end
        self._parts = parts


@lru_cache(maxsize=64)
def _layout(length: int) -> struct.Struct:
    """`_TOGETHER` pieces of so many octets."""
    return struct.Struct(f"{length}s" * _TOGETHER)


def _cut(raw: Buffer, start: int, length: int, count: int) -> list[Buffer]:
    """So many pieces of one length: 10 ns for each where there are many, 90 as slices."""
    pieces: list[Buffer] = []
    while count >= _TOGETHER:
        pieces += _layout(length).unpack_from(raw, start)
        start += _TOGETHER * length
        count -= _TOGETHER
    if not length:
        return pieces + [b""] * count
    pieces += [raw[at : at + length] for at in range(start, start + count * length, length)]
    return pieces


def split_names(pieces: Sequence[Buffer]) -> tuple[list[bytes], list[Buffer]]:
    """The message-ids in these pieces of an envelope with `NAMED`; and the pieces without them, as with `MIXED`."""
    parts = [bytes(piece).partition(b"\n") for piece in pieces]
    return [name for name, _, _ in parts], [rest for _, _, rest in parts]


def read_length(data: Buffer, at: int) -> int:
    """The octets of the envelope that starts at `at`, from its first four octets.

    Raises:
        EnvelopeError: less than an envelope can have.
    """
    try:
        (total,) = LENGTH.unpack_from(data, at)
    except struct.error as error:
        raise EnvelopeError(f"no length at {at}: {error}") from None
    if total < HEADER.size:
        raise EnvelopeError(f"an envelope of {total} bytes at {at}")
    return int(total)


def read_destination(head: Buffer) -> bytes:
    """The destination of an envelope, of which this is the first buffer as `pack` gives it."""
    length = HEADER.unpack_from(head)[_DESTINATION_LENGTH]
    return bytes(head[HEADER.size : HEADER.size + length])


def pack(
    kind: Kind,
    *,
    flags: int = 0,
    token: int = 0,
    slot: int = 0,
    index: int = 0,
    count: int = 0,
    number: int = 0,
    serial: int = 0,
    deliveries: int = 0,
    destination: bytes = b"",
    block: bytes = b"",
    section: bytes = b"",
    payload: Sequence[Buffer] = (),
) -> list[Buffer]:
    """Serialise one envelope for a gather write: a list of buffers, one where it is small.

    The payload's buffers may be the caller's own, not copies: keep them unchanged until the channel has flushed.

    Raises:
        EnvelopeError: a field exceeds its size.
    """
    if section:
        flags |= _SECTION
        payload = (LENGTH.pack(len(section)), section, *payload)
    size = 48 + len(destination) + len(block) + sum(map(len, payload))
    try:
        header = HEADER.pack(
            size,
            VERSION,
            kind,
            flags,
            token,
            slot,
            index,
            count,
            number,
            serial,
            len(destination),
            min(deliveries, 65535),
            len(block),
        )
    except struct.error as error:
        raise EnvelopeError(f"{kind.name}: {error}") from None
    if not payload:
        return [header + destination + block]
    if size <= _JOIN_BELOW:
        return [b"".join((header, destination, block, *payload))]
    return [header + destination + block, *payload]


def pack_number(kind: Kind, number: int) -> list[Buffer]:
    """Serialise an envelope that has a number and nothing else: a third of the time of `pack`, for each receipt."""
    return [HEADER.pack(HEADER.size, VERSION, kind, 0, 0, 0, 0, 0, number, 0, 0, 0, 0)]


def pack_pieces(pieces: Sequence[Buffer], lengths: list[int] | None = None) -> tuple[int, list[Buffer]]:
    """The payload of a SEND with these pieces (1 to `MAX_BATCH`), of these lengths, and the flags that it needs."""
    lengths = lengths or list(map(len, pieces))
    if lengths.count(lengths[0]) == len(lengths):
        head, flags = LENGTH.pack(lengths[0]), int(Flag.UNIFORM)
    else:
        head, flags = struct.pack(f">{len(lengths)}I", *lengths), 0
    if len(pieces) == 1:
        return flags, [head, pieces[0]]
    return flags, [head, b"".join(pieces)]


def pack_run(
    kind: Kind,
    message: Envelope,
    *,
    first: int,
    count: int,
    number: int,
    serial: int,
    deliveries: int,
    destination: bytes,
    details: Details = PLAIN,
    token: int = 0,
    slot: int = 0,
) -> list[Buffer]:
    """An OFFER, WRITE, SPILL or PAGE of `count` messages of the envelope `message`, from its `first` one on.

    `destination` is the queue's name.
    """
    start, end = message.bounds(first, count)
    flags = message.flags & _FORM
    if details.persistent:
        flags |= _PERSISTENT
    lengths = LENGTH.pack((end - start) // count) if flags & _UNIFORM else message.lengths(first, count)
    return pack(
        kind,
        flags=flags,
        token=token,
        slot=slot,
        index=message.index + first,
        count=count,
        number=number,
        serial=serial,
        deliveries=deliveries,
        destination=destination,
        block=message.block,
        section=b"" if details is PLAIN or details is DURABLY else details.pack(),
        payload=[lengths, memoryview(message.raw)[start:end]],
    )


def with_index(envelope: Envelope, index: int) -> Envelope:
    """The same messages of the same sender under other numbers."""
    raw = bytearray(envelope.raw)
    LENGTH.pack_into(raw, 16, index)
    again = Envelope(raw)
    again.sender = envelope.sender
    return again


def with_number(buffers: list[Buffer], number: int) -> list[Buffer]:
    """The same envelope with this number."""
    head = bytearray(buffers[0])
    _NUMBER.pack_into(head, 24, number)
    return [head, *buffers[1:]]


def with_token(buffers: list[Buffer], token: int) -> list[Buffer]:
    """The same envelope with this token."""
    head = bytearray(buffers[0])
    LENGTH.pack_into(head, 8, token)
    return [head, *buffers[1:]]


def pack_serial(serial: int) -> bytes:
    """The payload of a MOVE."""
    return _NUMBER.pack(serial)


def pack_settle(
    token: int, entries: Sequence[tuple[int, int, Outcome]], reason: bytes = b"", *, claimed: int = 0
) -> list[Buffer]:
    """A SETTLE of (serial of the first message, how many, outcome) entries; add a fence with `with_fence`.

    `reason` is what came with a NACK, of all of them. `claimed`: the number of an offer that was claimed before.
    """
    if len(entries) == 1:
        payload = SETTLEMENT.pack(*entries[0])
    else:
        payload = b"".join([SETTLEMENT.pack(*entry) for entry in entries])
    return pack(Kind.SETTLE, token=token, serial=claimed, count=len(entries), block=reason, payload=(payload,))


def with_fence(buffers: list[Buffer], number: int) -> list[Buffer]:
    """The same envelope, asking for FENCED with this number."""
    head = bytearray(buffers[0])
    _FLAGS.pack_into(head, 6, _FLAGS.unpack_from(head, 6)[0] | Flag.FENCE)
    _NUMBER.pack_into(head, 24, number)
    return [head, *buffers[1:]]


_FLAGS = struct.Struct(">H")
_NUMBER = struct.Struct(">Q")
