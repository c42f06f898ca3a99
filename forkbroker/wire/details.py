"""What a batch of messages carries beside headers and bodies: what its sender asked for, and what became of it.

Most batches carry nothing of this, and have no section for it; those that do have flag `SECTION`, and between block
and lengths a length (u32) and one of two forms. `Wishes` are on the way up, in a SEND: what the headers say.
`Details` are on all other ways, in WRITE, SPILL, PAGE and OFFER: what the router made of it. All messages of a batch
share them.

Layout of both, big-endian: the numbers in the order of the fields, then each text behind its length (u16).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from forkbroker.errors import EnvelopeError

DEFAULT_PRIORITY = 4
"""Of 0 to 9, as in JMS."""

MAX_PRIORITY = 9
MAX_SPAN = 10_000_000_000_000
"""Milliseconds of a delay, a period or a time to live: 316 years."""
MAX_MOMENT = 200_000_000_000_000
"""Milliseconds since the epoch: in the year 8307. A moment and a span are added, and both have to stay within what a
calendar (up to the year 9999) and 63 bits can hold."""
MAX_REPEAT = 1_000_000
MAX_CRON = 255
"""Octets of a cron line."""
MAX_DEDUP_ID = 255
"""Octets. Each of them is remembered for a while."""
MAX_REJECT_REASON = 1024
"""Octets of the reason that a consumer gives with NACK: it stays with the dead letter."""

_WISHES = struct.Struct(">BQQQQQi")
_DETAILS = struct.Struct(">BBHQQQQi")
_U16 = struct.Struct(">H")


class Reason(IntEnum):
    """Why a message became a dead letter. The name in lower case is the `dead-letter-reason` header."""

    NONE = 0
    """It is none."""
    REJECTED = 1
    """NACK with `requeue:false`."""
    DELIVERIES = 2
    """Delivered as often as is permitted, and never acknowledged."""
    EXPIRED = 3
    """Its time was over, and the policy keeps what has expired."""
    LIMIT = 4
    """The queue was at its limit, and the policy is to make room so."""
    POISON = 5
    """The processes of clients that got it crashed."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a sender asked for. Times in milliseconds; points in time since the epoch; 0: not asked for."""

    priority: int = DEFAULT_PRIORITY
    """0 to 9; higher ones first."""
    expires: int = 0
    """When the message is worth nothing any more."""
    ttl: int = 0
    """The same, from its arrival on."""
    delay: int = 0
    """How long it waits before it can be consumed."""
    deliver_at: int = 0
    """Not before this."""
    period: int = 0
    """Between two repetitions."""
    repeat: int = 0
    """How often it comes again after the first time; -1: without end."""
    cron: bytes = b""
    """When it comes, again and again: five fields, as in crontab(5)."""
    dedup_id: bytes = b""
    """Another message with this name, soon after this one, is this one sent twice."""

    @property
    def is_delayed(self) -> bool:
        """The message is not to come at once, or not only once."""
        return bool(self.delay or self.deliver_at or self.repeat or self.cron)

    @property
    def is_span(self) -> bool:
        """Tell whether the wait has a length, and no moment at which it ends."""
        return not (self.deliver_at or self.cron)

    @property
    def is_repeated(self) -> bool:
        """Tell whether the message comes more than once."""
        return bool(self.cron or (self.repeat and self.period))

    def pack(self) -> bytes:
        """The section of an envelope."""
        numbers = (self.priority, self.expires, self.ttl, self.delay, self.deliver_at, self.period, self.repeat)
        return _WISHES.pack(*numbers) + _texts(self.cron, self.dedup_id)


@dataclass(frozen=True, slots=True)
class Details:
    """What is to be known of messages in a queue. Points in time in milliseconds since the epoch; 0: never."""

    priority: int = DEFAULT_PRIORITY
    persistent: bool = False
    """They are to survive: written to the store, and deleted there when they are settled. Not in the section:
    envelopes have flag `PERSISTENT`."""
    reason: Reason = Reason.NONE
    """Of dead letters."""
    crashes: int = 0
    """Processes of clients that crashed while they held them."""
    expires: int = 0
    due: int = 0
    """They wait in the schedule until then."""
    dedup_until: int = 0
    """How long `dedup_id` is remembered."""
    period: int = 0
    repeat: int = 0
    """As in `Wishes`: how they come again after `due`."""
    origin: bytes = b""
    """Of dead letters: the queue in which they failed."""
    cron: bytes = b""
    dedup_id: bytes = b""
    reject_reason: bytes = b""
    """Of dead letters: what the consumer has said with the NACK that made them so, in UTF-8."""

    def pack(self) -> bytes:
        """The section of an envelope."""
        numbers = (
            self.priority,
            self.reason,
            min(self.crashes, 65_535),
            self.expires,
            self.due,
            self.dedup_until,
            self.period,
            self.repeat,
        )
        return _DETAILS.pack(*numbers) + _texts(self.origin, self.cron, self.dedup_id, self.reject_reason)


PLAIN = Details()
"""Of messages that nobody asked anything for."""
DURABLY = Details(persistent=True)
"""Of messages that are to survive, and nothing else."""
NO_WISHES = Wishes()


def unpack_wishes(section: bytes) -> Wishes:
    """Of a SEND's section; an empty one says nothing.

    Raises:
        EnvelopeError: it can't be decoded, or asks for what can't be.
    """
    if not section:
        return NO_WISHES
    try:
        wishes = Wishes(*_WISHES.unpack_from(section), *_split(section, _WISHES.size, 2))
    except struct.error as error:
        raise EnvelopeError(f"wishes: {error}") from None
    _check_priority(wishes.priority)
    _check_times(max(wishes.expires, wishes.deliver_at), MAX_MOMENT)
    _check_times(max(wishes.ttl, wishes.delay, wishes.period), MAX_SPAN)
    _check_repeat(wishes.repeat)
    _check_texts(wishes.cron, wishes.dedup_id)
    return wishes


def unpack_details(section: bytes, *, persistent: bool) -> Details:
    """Of another envelope's section; an empty one says nothing.

    Raises:
        EnvelopeError: it can't be decoded, or is out of bounds.
    """
    if not section:
        return DURABLY if persistent else PLAIN
    try:
        priority, reason, *rest = _DETAILS.unpack_from(section)
        details = Details(priority, persistent, Reason(reason), *rest, *_split(section, _DETAILS.size, 4))
    except (struct.error, ValueError) as error:
        raise EnvelopeError(f"details: {error}") from None
    _check_priority(details.priority)
    # what the router has made of wishes: the sum of a moment and a span
    _check_times(max(details.expires, details.due, details.dedup_until), MAX_MOMENT + MAX_SPAN)
    _check_times(details.period, MAX_SPAN)
    _check_repeat(details.repeat)
    _check_texts(details.cron, details.dedup_id)
    if len(details.reject_reason) > MAX_REJECT_REASON:
        raise EnvelopeError(
            f"a reason of {len(details.reject_reason)} bytes for a NACK, at most {MAX_REJECT_REASON} are permitted"
        )
    return details


def _check_priority(priority: int) -> None:
    if priority > MAX_PRIORITY:
        raise EnvelopeError(f"priority {priority}, at most {MAX_PRIORITY} is permitted")


def _check_times(longest: int, most: int) -> None:
    if longest > most:
        raise EnvelopeError(f"a time of {longest} ms, at most {most} is permitted")


def _check_repeat(repeat: int) -> None:
    if not -1 <= repeat <= MAX_REPEAT:
        raise EnvelopeError(f"{repeat} repetitions, -1 to {MAX_REPEAT} are permitted")


def _check_texts(cron: bytes, dedup_id: bytes) -> None:
    if len(cron) > MAX_CRON or len(dedup_id) > MAX_DEDUP_ID:
        raise EnvelopeError(
            f"a cron line of {len(cron)} bytes and a dedup-id of {len(dedup_id)}, "
            f"at most {MAX_CRON} and {MAX_DEDUP_ID} are permitted"
        )


def _texts(*texts: bytes) -> bytes:
    return b"".join(_U16.pack(len(text)) + text for text in texts)


def _split(section: bytes, at: int, count: int) -> list[bytes]:
    texts = []
    for _ in range(count):
        (length,) = _U16.unpack_from(section, at)
        texts.append(section[at + 2 : at + 2 + length])
        at += 2 + length
    if at != len(section):
        raise EnvelopeError(f"a section of {len(section)} bytes, {at} are used")
    return texts
