"""MESSAGE frames out of an envelope: the hot half of a delivery.

The envelope holds what all receivers share (`forkbroker.wire.envelope`); a delivery adds `subscription`, the number
of the message, and the names under which it can be acknowledged. `forkbroker.wire.rendering` puts them together.
"""

from __future__ import annotations

from typing import Any

from forkbroker.hosts import EVERYWHERE, Space
from forkbroker.stomp.encoder import END, encode_block, readable_block, translate_block
from forkbroker.stomp.versions import V12, Version
from forkbroker.wire.details import Details
from forkbroker.wire.envelope import Buffer, Envelope, split_names
from forkbroker.wire.kinds import Flag, Kind
from forkbroker.wire.rendering import LARGE, interleave, number_from

_ESCAPED = int(Flag.ESCAPED)
_MIXED = int(Flag.MIXED)
_NAMED = int(Flag.NAMED)
_SECTION = int(Flag.SECTION)
_RECOVERED = int(Flag.RECOVERED)


class Messages:
    """What one envelope holds for one version of STOMP, made ready once for all subscriptions that get it."""

    def __init__(self, envelope: Envelope, version: Version, space: Space = EVERYWHERE) -> None:
        """`space` has the names that the client knows. Raises EnvelopeError when the lengths don't add up."""
        self._version = version
        self.index = envelope.index
        """The number that the first message-id begins with."""
        self.pieces = envelope.pieces()
        self.names: list[bytes] = []
        """The whole message-ids, where each message has another one."""
        block, flags = envelope.block, envelope.flags
        if flags & _NAMED:
            self.names, self.pieces = split_names(self.pieces)
        if flags & _ESCAPED and version is not V12:
            block = translate_block(block, version)
            if flags & _MIXED:
                self.pieces = [_translate(bytes(piece), version) for piece in self.pieces]
        expires = 0
        if flags & _SECTION:
            if envelope.kind is Kind.SEND:
                expires = envelope.wishes.expires
            else:
                details = envelope.details
                expires = details.expires
                if details.origin:
                    block = self._readdress(envelope, block, details, version, space)
        if version.utf8_required:
            if not block.isascii():
                block = readable_block(block)
            if flags & _MIXED:
                self.pieces = list(map(_make_readable, self.pieces))
        # The first line is the rest of the message-id, where an id of the delivery may be put behind it.
        self.ident, _, self._lines = block.partition(b"\n")
        """What all message-ids end with."""
        self._marks = _marks(envelope, expires) if envelope.deliveries or flags & _RECOVERED or expires else b""

    def _readdress(self, envelope: Envelope, block: bytes, details: Details, version: Version, space: Space) -> bytes:
        """A dead letter's destination is the dead letter queue; where it came from, and why, is said beside it."""
        reason = details.reason.name.lower().encode()
        names = [
            ("destination", space.outward(envelope.destination) or envelope.destination),
            ("original-destination", space.outward(details.origin) or details.origin),
            ("dead-letter-reason", reason),
        ]
        if details.reject_reason:
            names.append(("reject-reason", details.reject_reason))
        lines = encode_block([(name, value.decode(errors="surrogateescape")) for name, value in names])
        lines = translate_block(lines, version) if b"\\" in lines else lines
        ident, _, rest = block.partition(b"\n")
        if envelope.flags & _MIXED:
            self.pieces = [bytes(piece).partition(b"\n")[2] for piece in self.pieces]
            return ident + b"\n" + lines
        return ident + b"\n" + lines + rest.partition(b"\n")[2]

    def frames(self, opening: bytes, first: int, count: int) -> list[Buffer]:
        """MESSAGE frames that need no acknowledgement, from the envelope's `first` message on.

        `opening` is what `message_opening` gave for their subscription.
        """
        opening += self._marks + b"message-id:"
        number = self.index + first
        numbers = b"%d" % number if count == 1 else number_from(number, count)
        if self.names:
            numbers = self._names_of(first, count)
        return self._join(first, count, (opening, numbers, self.ident + b"\n" + self._lines))

    def _names_of(self, first: int, count: int) -> bytes | list[bytes]:
        return self.names[first] if count == 1 else self.names[first : first + count]

    def acknowledged_frames(self, opening: bytes, token: int, first: int, count: int, delivery: int) -> list[Buffer]:
        """The same for a subscription that acknowledges, with this token; they are deliveries from `delivery` on.

        The name to acknowledge is `<token>-<delivery>`: in 1.2 the `ack` header, before it the end of `message-id`,
        which the ACK of those versions names.
        """
        opening += self._marks
        number = self.index + first
        numbers: bytes | list[bytes] = b"%d" % number
        deliveries: bytes | list[bytes] = b"%d" % delivery
        if count > 1:
            numbers, deliveries = number_from(number, count), number_from(delivery, count)
        if self.names:
            numbers = self._names_of(first, count)
        if self._version.message_carries_ack:
            opening += b"ack:%d-" % token
            rest = self.ident + b"\n" + self._lines
            return self._join(first, count, (opening, deliveries, b"\nmessage-id:", numbers, rest))
        opening += b"message-id:"
        ident = b"%b-%d-" % (self.ident, token)
        return self._join(first, count, (opening, numbers, ident, deliveries, b"\n" + self._lines))

    def _join(self, first: int, count: int, columns: tuple[bytes | list[bytes], ...]) -> list[Buffer]:
        """Interleave the columns, the pieces and the ends of the frames; of a single message no column is a list."""
        parts: list[Any]
        if count == 1:
            parts = [*columns, self.pieces[first], END]
        else:
            pieces = self.pieces if count == len(self.pieces) else self.pieces[first : first + count]
            parts = interleave(columns, pieces)
        return parts if len(self.pieces[first]) >= LARGE else [b"".join(parts)]


def _marks(envelope: Envelope, expires: int) -> bytes:
    """Header lines that are the broker's to set; none on most messages.

    After a crash of the broker nobody knows how often a message was delivered, or whether.
    """
    marks = b""
    if envelope.deliveries:
        marks = b"redelivered:true\ndelivery-count:%d\n" % (envelope.deliveries + 1)
    elif envelope.flags & _RECOVERED:
        marks = b"redelivered:true\n"
    return b"%bexpires:%d\n" % (marks, expires) if expires else marks


def _translate(piece: bytes, version: Version) -> bytes:
    lines, gap, body = piece.partition(b"\n\n")
    return translate_block(lines, version) + gap + body


def _make_readable(piece: Buffer) -> Buffer:
    """The piece with header lines in UTF-8; its body is the sender's business."""
    octets = bytes(piece)
    if octets.isascii():
        return octets
    lines, gap, body = octets.partition(b"\n\n")
    return readable_block(lines) + gap + body


def message_opening(subscription_id: str | None, version: Version) -> bytes:
    """`MESSAGE LF`, and the `subscription` line where the subscription has an id."""
    if subscription_id is None:
        return b"MESSAGE\n"
    line = encode_block([("subscription", subscription_id)])
    return b"MESSAGE\n" + (translate_block(line, version) if b"\\" in line else line)
