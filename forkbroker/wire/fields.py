"""The values that the fields of each kind of envelope may have, and the one function that checks them.

A child is believed nothing: a bug, or a client that has taken it over, may make it send anything. So each envelope
that comes up is checked once, and whole, before any of it is applied or forwarded: what is applied afterwards can't
fail for a value that stands in it, now or later, and what is forwarded can be decoded by its receivers. The same holds
for what the store sends, whose rows an administrator may have edited.

The tables say for each kind which bits its flags may have and how large each number may be; a field that is not named
is not used, and has to be 0. What a row can't say is one function for each form of content. A kind that gets a new
field gets it here as well, else whoever sends it is ended.

Bounds are chosen so that nothing that is derived from a value overflows later: an index and a serial have room for the
messages of their envelope, times are at most `details.MAX_MOMENT` and `details.MAX_SPAN`, and names fit the 16 bits of
a destination. The check costs about a microsecond for an envelope of one to `MAX_BATCH` messages, whose pieces are
looked at only where they have header lines of their own (`MIXED`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Final

from forkbroker.cron import CronError, check_cron
from forkbroker.destinations import SYSTEM, Sort, is_queue, is_system
from forkbroker.errors import EnvelopeError
from forkbroker.identity import Way
from forkbroker.wire.details import MAX_REJECT_REASON
from forkbroker.wire.envelope import HEADER, MAX_BATCH, MAX_SERIAL, Envelope
from forkbroker.wire.kinds import Flag, Kind, Matter, Outcome

MAX_REASON = 65_535
"""Octets of a child's last words: they become one line of the log."""
MAX_LOGIN = 255
MAX_OWNER = 512
"""Octets of a virtual host and a login, as whoever has parked a delivery is known."""
MIN_KEY, MAX_KEY = 16, 64
"""Octets of the key of a parked delivery, which nobody is to guess."""
MAX_LEASE_MS = 43_200_000
"""Of a parked delivery: twelve hours, as in SQS."""
MAX_HOST = 45
"""Of an IPv6 address as text."""
MAX_VERB = 64
MAX_TRACE = 262_144
"""Octets of the frames in one TRACED."""
MAX_OPENING = 255
"""Octets of what the MESSAGE frames of a subscription begin with, if others may have the same."""
MAX_AHEAD = 8
"""Messages that a subscription keeps ahead of its credit, at most, if it need not share them."""
MAX_SHARED = 16
"""The same if it shares them with others."""

_U16: Final = 0xFFFF
_U32: Final = 0xFFFF_FFFF
_U64: Final = 0xFFFF_FFFF_FFFF_FFFF

_FORM: Final = Flag.UNIFORM | Flag.ESCAPED | Flag.MIXED | Flag.SECTION | Flag.PERSISTENT
_MIXED = int(Flag.MIXED)
_NAMED = int(Flag.NAMED)
_SECTION = int(Flag.SECTION)
_FENCE = int(Flag.FENCE)
_TEMPORARY = int(Flag.TEMPORARY)
_DURABLE = int(Flag.DURABLE)
_LF, _DASH = b"\n-"
_PARKED_OUTCOMES = frozenset((Outcome.ACKNOWLEDGED, Outcome.RELEASED, Outcome.REJECTED))
_MAX_DIGITS = 18
"""Of milliseconds since the epoch: they fit into 63 bits then."""
_DURABLE_PREFIX = Sort.DURABLE.value.encode()
_NOT_SENT_TO = (_DURABLE_PREFIX, Sort.CONTROL.value.encode(), SYSTEM.encode())


def _has_nothing(envelope: Envelope) -> None:
    """Nothing stands behind the block."""
    if len(envelope.raw) != HEADER.size + len(envelope.destination) + envelope.block_length:
        raise EnvelopeError(f"{envelope.kind.name} with a payload of {len(envelope.payload)} bytes")


def _has_pieces(envelope: Envelope) -> None:
    """A block as `wire.envelope` describes it, and as many pieces as are told, each of which can be delivered."""
    count, raw = envelope.count, envelope.raw
    envelope.read_bounds()
    if envelope.index + count > _U32 + 1 or envelope.serial + count > MAX_SERIAL:
        raise EnvelopeError(
            f"{envelope.kind.name}: {count} messages from index {envelope.index} and serial {envelope.serial} on"
        )
    at = HEADER.size + len(envelope.destination)
    to = at + envelope.block_length
    if envelope.flags & _NAMED:
        if to != at or not envelope.flags & _MIXED:
            raise EnvelopeError(f"{envelope.kind.name}: a block beside message-ids in the pieces")
        _has_names(envelope)
    elif envelope.flags & _MIXED:
        # the message-id alone: all other lines are in the pieces
        if raw[at] != _DASH or raw.find(b"\n", at, to) != to - 1:
            raise EnvelopeError(f"{envelope.kind.name}: a block that is not the rest of a message-id")
        _has_lines(envelope)
    elif raw[at] != _DASH or raw[to - 1] != _LF or raw[to - 2] != _LF:
        raise EnvelopeError(f"{envelope.kind.name}: a block without message-id or empty line")


def _has_lines(envelope: Envelope) -> None:
    """Each piece has header lines and an empty line, or only that. Per message, so it is C that searches: 0.1 µs."""
    raw = envelope.raw
    starts, ends = envelope.starts_and_ends()
    found = list(map(raw.find, repeat(b"\n\n"), starts, ends))
    if min(found) >= 0:
        return
    for at, start, end in zip(found, starts, ends, strict=True):
        if at < 0 and (start == end or raw[start] != _LF):
            raise EnvelopeError(f"{envelope.kind.name}: a piece without an empty line")


def _has_names(envelope: Envelope) -> None:
    """Each piece has a message-id, header lines and an empty line."""
    raw = envelope.raw
    for start, end in zip(*envelope.starts_and_ends(), strict=True):
        number, dash, _ = raw[start : max(start, raw.find(b"\n", start, end))].partition(b"-")
        if not (dash and number.isdigit()) or raw.find(b"\n\n", start, end) < 0:
            raise EnvelopeError(f"{envelope.kind.name}: a piece without message-id or empty line")


def _is_send(envelope: Envelope) -> None:
    """Messages for a topic or a queue; to a durable subscription only the broker itself adds some.

    A request to the broker is an ASK, and what the broker says of itself is its own to send.
    """
    destination = envelope.destination
    if not destination or destination.startswith(_NOT_SENT_TO):
        raise EnvelopeError(f"SEND to {destination[:80]!r}")
    _has_pieces(envelope)
    if envelope.flags & _SECTION:
        _has_wishes(envelope)


def _has_wishes(envelope: Envelope) -> None:
    """They decode, and name a time: the router is to find that out before it has applied half of a transaction."""
    cron = envelope.wishes.cron
    if cron:
        try:
            check_cron(cron.decode(errors="replace"))
        except CronError as error:
            raise EnvelopeError(f"SEND: {error}") from None


def _is_page(envelope: Envelope) -> None:
    _has_pieces(envelope)
    _ = envelope.details


def _is_note(envelope: Envelope) -> None:
    """Something is noted, and if it is a time it is one."""
    _has_nothing(envelope)
    if not (envelope.token and envelope.count):
        raise EnvelopeError(f"{envelope.kind.name} of matter {envelope.token}, count {envelope.count}")
    if envelope.token == Matter.HELD and not (envelope.block.isdigit() and len(envelope.block) <= _MAX_DIGITS):
        raise EnvelopeError(f"{envelope.kind.name}: held until {envelope.block[:40]!r}")


def _is_subscription(envelope: Envelope) -> None:
    """SUBSCRIBE and UNSUBSCRIBE: with flag `DURABLE` the block is the name of a durable subscription.

    Else it is what MESSAGE frames begin with (SUBSCRIBE to a topic), or nothing.
    """
    _has_nothing(envelope)
    if not envelope.flags & _DURABLE:
        if envelope.block_length and not _may_have_opening(envelope):
            raise EnvelopeError(f"{envelope.kind.name} with a block")
    elif envelope.flags & _TEMPORARY or not envelope.block.startswith(_DURABLE_PREFIX):
        raise EnvelopeError(f"{envelope.kind.name}: {envelope.block[:80]!r} is not the name of a durable subscription")
    elif envelope.kind is Kind.SUBSCRIBE and (is_queue(envelope.destination) or is_system(envelope.destination)):
        raise EnvelopeError(f"SUBSCRIBE: {envelope.destination[:80]!r} is no topic for a durable subscription")


def _may_have_opening(envelope: Envelope) -> bool:
    """Only whoever has the same one gets it, so that it does not matter what it says."""
    is_short = envelope.block_length <= MAX_OPENING
    return is_short and envelope.kind is Kind.SUBSCRIBE and not is_queue(envelope.destination)


def _has_settlements(envelope: Envelope) -> None:
    entries = len(envelope.settlements())
    if entries != envelope.count or not entries:
        raise EnvelopeError(f"SETTLE of {envelope.count} has {entries} entries")
    if envelope.block_length and b"\0" in envelope.block:
        raise EnvelopeError("SETTLE with a reason that no header can have")


def _is_parking(envelope: Envelope) -> None:
    _has_nothing(envelope)
    _has_key(envelope.kind, envelope.block)


def _is_unparking(envelope: Envelope) -> None:
    _has_nothing(envelope)
    _has_key(envelope.kind, envelope.block.partition(b"\n")[0])
    if envelope.token not in _PARKED_OUTCOMES or b"\0" in envelope.block:
        raise EnvelopeError(f"UNPARK with outcome {envelope.token}, or a reason that no header can have")


def _has_key(kind: Kind, key: bytes) -> None:
    if not MIN_KEY <= len(key) <= MAX_KEY:
        raise EnvelopeError(f"{kind.name} with a key of {len(key)} bytes")


def _has_parts(envelope: Envelope) -> None:
    """As `check_parts`, at once."""
    deque(check_parts(envelope), maxlen=0)


def check_parts(envelope: Envelope) -> Iterator[None]:
    """Raise EnvelopeError unless these are whole SEND and SETTLE envelopes, each right in itself, without a fence.

    A step for each, as there may be a hundred thousand.
    """
    count = 0
    for part in envelope.read_nested():
        count += 1
        if part.flags & _FENCE:
            raise EnvelopeError(f"TRANSACTION: {part.kind.name} with a fence")
        check(part, OF_TRANSACTION)
        yield
    if count != envelope.count:
        raise EnvelopeError(f"TRANSACTION of {envelope.count} has {count} envelopes")


def _has_processes(envelope: Envelope) -> None:
    """As many numbers as are told."""
    if len(envelope.payload) != 4 * envelope.count:
        raise EnvelopeError(f"{envelope.kind.name} of {envelope.count} has {len(envelope.payload)} bytes")


@dataclass(frozen=True, slots=True)
class Fields:
    """What a kind may have at most; 0: the field is not used. Lengths are in octets."""

    flags: int = 0
    """The bits that are permitted."""
    token: int = 0
    slot: int = 0
    index: int = 0
    count: int = 0
    number: int = 0
    serial: int = 0
    deliveries: int = 0
    destination: int = 0
    block: int = 0
    content: Callable[[Envelope], None] = _has_nothing
    """What else has to hold. Raises EnvelopeError."""


_ANSWER = Fields(token=_U32, number=_U64)
_SIMPLE = Fields(flags=Flag.FENCE, number=_U64)
_SEND = Fields(
    flags=Flag.FENCE | _FORM | Flag.BARE | Flag.EXISTING,
    index=_U32,
    count=MAX_BATCH,
    number=_U64,
    destination=_U16,
    block=_U32,
    content=_is_send,
)
_SETTLE = Fields(
    flags=Flag.FENCE,
    token=_U32,
    count=_U32,
    number=_U64,
    serial=_U64,
    block=MAX_REJECT_REASON,
    content=_has_settlements,
)

#: What a client's child may send, as `kinds.FROM_CHILD`.
OF_CHILD: dict[Kind, Fields] = {
    Kind.ADDRESS: Fields(number=_U16, destination=MAX_HOST),
    Kind.CONNECTED: Fields(token=max(Way), count=1, destination=MAX_LOGIN, block=_U16),
    Kind.SEND: _SEND,
    Kind.SUBSCRIBE: Fields(
        flags=Flag.FENCE | Flag.AUTO | Flag.EXCLUSIVE | Flag.TEMPORARY | Flag.DURABLE | Flag.EXISTING,
        token=_U32,
        index=MAX_AHEAD,
        count=_U32,
        number=_U64,
        destination=_U16,
        block=_U16,
        content=_is_subscription,
    ),
    Kind.UNSUBSCRIBE: Fields(
        flags=Flag.FENCE | Flag.DURABLE,
        token=_U32,
        number=_U64,
        destination=_U16,
        block=_U16,
        content=_is_subscription,
    ),
    Kind.READY: _SIMPLE,
    Kind.CLAIMED: replace(_ANSWER, serial=MAX_SERIAL),
    Kind.LOST: replace(_ANSWER, index=MAX_SHARED),
    Kind.PASSED: replace(_ANSWER, index=MAX_SHARED),
    Kind.SETTLE: _SETTLE,
    Kind.PARK: Fields(
        flags=Flag.FENCE,
        token=_U32,
        index=MAX_LEASE_MS,
        number=_U64,
        serial=MAX_SERIAL,
        destination=MAX_OWNER,
        block=MAX_KEY,
        content=_is_parking,
    ),
    Kind.UNPARK: Fields(
        flags=Flag.FENCE,
        token=_U32,
        number=_U64,
        destination=MAX_OWNER,
        block=MAX_KEY + 1 + MAX_REJECT_REASON,
        content=_is_unparking,
    ),
    Kind.TRANSACTION: Fields(flags=Flag.FENCE, count=_U32, number=_U64, content=_has_parts),
    Kind.FENCE: _SIMPLE,
    Kind.CONGESTED: Fields(),
    Kind.RELIEVED: Fields(),
    Kind.QUIESCED: Fields(),
    Kind.ASK: Fields(flags=Flag.FENCE, token=_U32, number=_U64, destination=MAX_VERB, block=_U16),
    Kind.TRACED: Fields(block=MAX_TRACE),
    Kind.LEAVING: Fields(flags=Flag.WARNING, token=1, count=_U32, number=_U64, serial=_U64, block=MAX_REASON),
}

#: What a client's child may put into a TRANSACTION.
OF_TRANSACTION: dict[Kind, Fields] = {Kind.SEND: _SEND, Kind.SETTLE: replace(_SETTLE, serial=0)}

#: What the store sends, as `kinds.FROM_STORE`.
OF_STORE: dict[Kind, Fields] = {
    # so that the serials that are given out from there on don't end
    Kind.OPENING: Fields(serial=MAX_SERIAL // 2),
    Kind.OPENED: Fields(flags=Flag.RECOVERED),
    Kind.BACKLOG: Fields(index=9, count=_U32, number=MAX_SERIAL, serial=MAX_SERIAL, destination=_U16),
    Kind.DURABLE: Fields(serial=MAX_SERIAL, destination=_U16, block=_U16),
    Kind.DUPLICATE: Fields(number=MAX_SERIAL, destination=_U16, block=_U16),
    Kind.NOTED: Fields(token=max(Matter), count=1, destination=_U16, block=_U16, content=_is_note),
    Kind.PAGE: Fields(
        flags=_FORM | Flag.NAMED | Flag.RECOVERED,
        index=_U32,
        count=MAX_BATCH,
        serial=MAX_SERIAL,
        deliveries=_U16,
        destination=_U16,
        block=_U32,
        content=_is_page,
    ),
    Kind.PAGED: Fields(flags=Flag.FINAL, index=9, count=_U32, destination=_U16),
    Kind.COMMITTED: Fields(number=_U64),
    Kind.TRYING: Fields(number=_U64),
    Kind.DECLINED: Fields(number=_U64, block=_U32),
    Kind.DELETED: Fields(number=_U64),
    Kind.DISK: Fields(token=1, serial=_U64, block=_U32),
    Kind.FAILED: Fields(token=_U32, block=_U32),
}

#: What the checker sends, as `kinds.FROM_CHECKER`.
OF_CHECKER: dict[Kind, Fields] = {
    Kind.CHECKED: Fields(block=_U32),
    Kind.FAILED: Fields(token=_U32, block=_U32),
}

#: What the helper sends that makes a backup, as `kinds.FROM_BACKUP`.
OF_BACKUP: dict[Kind, Fields] = {
    Kind.SAVED: Fields(number=_U64, serial=_U64, block=_U16),
    Kind.FAILED: Fields(token=_U32, block=_U32),
}

#: What the helper for metrics sends, as `kinds.FROM_METRICS`.
OF_METRICS: dict[Kind, Fields] = {
    Kind.ASK: Fields(token=_U32, destination=MAX_VERB, block=_U16),
    Kind.FAILED: Fields(token=_U32, block=_U32),
}

#: What the nursery sends, as `kinds.FROM_NURSERY`.
OF_NURSERY: dict[Kind, Fields] = {
    Kind.REHEARSED: Fields(),
    Kind.BORN: Fields(count=_U16, number=_U64, content=_has_processes),
    Kind.UNBORN: Fields(block=MAX_REASON),
    Kind.ENDED: Fields(token=_U32, count=_U32, number=_U64, serial=_U64),
    Kind.FAILED: Fields(token=_U32, block=_U32),
}


def check(envelope: Envelope, table: Mapping[Kind, Fields]) -> None:
    """Raise EnvelopeError unless all that this envelope carries is what `table` permits for its kind."""
    check_head(envelope, table).content(envelope)


def check_head(envelope: Envelope, table: Mapping[Kind, Fields]) -> Fields:
    """As `check`, but for the content: return the row of this kind."""
    fields = table.get(envelope.kind)
    if fields is None:
        raise EnvelopeError(f"{envelope.kind.name} is not permitted here")
    # one condition, as this is on the hot path: 0.4 µs
    if (
        envelope.flags | fields.flags != fields.flags
        or envelope.token > fields.token
        or envelope.slot > fields.slot
        or envelope.index > fields.index
        or envelope.count > fields.count
        or envelope.number > fields.number
        or envelope.serial > fields.serial
        or envelope.deliveries > fields.deliveries
        or len(envelope.destination) > fields.destination
        or envelope.block_length > fields.block
    ):
        raise EnvelopeError(_describe(envelope, fields))
    return fields


_NUMBERS = ("token", "slot", "index", "count", "number", "serial", "deliveries")


def _describe(envelope: Envelope, fields: Fields) -> str:
    """Which of the fields is wrong."""
    kind = envelope.kind.name
    if envelope.flags | fields.flags != fields.flags:
        return f"{kind}: flags {envelope.flags:#x}, of which {fields.flags:#x} are permitted"
    for name in _NUMBERS:
        value, most = getattr(envelope, name), getattr(fields, name)
        if value > most:
            return f"{kind}: {name} {value}, at most {most} is permitted"
    if len(envelope.destination) > fields.destination:
        return f"{kind}: a destination of {len(envelope.destination)} bytes, at most {fields.destination} are permitted"
    return f"{kind}: a block of {envelope.block_length} bytes, at most {fields.block} are permitted"
