"""What a backend has, as the parent gets it: a row for each persistent message, and octets for all others.

Rows that came in one batch become one envelope again, so that they are read, offered and delivered as the batch was.
Rows of messages that came one by one are put together, each with its own message-id. The way in is `changes.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from forkbroker.store.api import Chunk, Message
from forkbroker.wire.details import DURABLY
from forkbroker.wire.envelope import (
    FEW,
    HEADER,
    KIND_AT,
    MAX_BATCH,
    MAX_NAMED,
    MAX_NAMED_OCTETS,
    Buffer,
    pack,
    pack_pieces,
)
from forkbroker.wire.kinds import Flag, Kind

PAGE_OCTETS = 262_144
"""Bodies in one PAGE at most, unless it is one message: one read of a channel."""

_NUMBER_AT = slice(24, 32)
_MAX_INDEX = 0xFFFF_FFFF
_MAX_DIGITS = 18
"""int() raises an exception of its own for thousands of them."""


def pack_pages(items: Iterable[Message | Chunk], *, recovered_before: int) -> Iterator[list[Buffer]]:
    """PAGEs of these, in their order. Messages below `recovered_before` get flag `RECOVERED`."""
    # a hot loop: what makes a message follow the last one is compared in place, 0.8 µs a message in all
    group: list[Message] = []
    octets = lines = index = 0
    suffix = b""
    is_named = False
    for item in items:
        if isinstance(item, Chunk):
            if group:
                yield _pack_group(group, None if is_named else suffix, recovered_before)
                group = []
            yield _as_page(item.raw)
            continue
        serial, queue, ident, headers, body, deliveries, details = item
        octets += len(body)
        lines += len(headers)
        if group:
            last = group[-1]
            if (
                serial == last.serial + 1
                and octets <= PAGE_OCTETS
                and deliveries == last.deliveries
                and (details is last.details or details == last.details)
                and queue == last.queue
                and serial != recovered_before
                and len(group) < MAX_BATCH
            ):
                if not is_named and ident == b"%d-%s" % (index, suffix):
                    group.append(item)
                    index += 1
                    continue
                if (
                    (is_named or (len(group) < FEW and details is DURABLY and not deliveries))
                    and len(group) < MAX_NAMED
                    and octets + lines <= MAX_NAMED_OCTETS
                ):
                    group.append(item)
                    is_named = True
                    continue
            yield _pack_group(group, None if is_named else suffix, recovered_before)
        group, octets, lines = [item], len(body), len(headers)
        is_named = False
        index, suffix = _parse_ident(ident)
        index += 1
    if group:
        yield _pack_group(group, None if is_named else suffix, recovered_before)


def _parse_ident(ident: bytes) -> tuple[int, bytes]:
    """Number, and session and batch; somebody may have written the row by hand, and left it empty."""
    number, _, suffix = ident.partition(b"-")
    if not number.isdigit() or len(number) > _MAX_DIGITS or int(number) > _MAX_INDEX - MAX_BATCH:
        return 0, suffix or b"store-0"
    return int(number), suffix or b"store-0"


def _pack_group(group: list[Message], suffix: bytes | None, recovered_before: int) -> list[Buffer]:
    """`suffix` is what all message-ids end with; None: each has one of its own."""
    first = group[0]
    details = first.details
    headers = {message.headers for message in group}
    flags = int(Flag.PERSISTENT)
    if any(b"\\" in lines for lines in headers):
        flags |= Flag.ESCAPED
    if first.serial < recovered_before:
        flags |= Flag.RECOVERED
    index = 0 if suffix is None else _parse_ident(first.message_id)[0]
    if suffix is None:
        form, payload = pack_pieces(
            [
                b"%d-%s\n%s\n%s" % (*_parse_ident(message.message_id), _whole_lines(message.headers), message.body)
                for message in group
            ]
        )
        block = b""
        flags |= Flag.MIXED | Flag.NAMED
    elif len(headers) == 1:
        form, payload = pack_pieces([message.body for message in group])
        block = b"-%s\n%s\n" % (suffix, _whole_lines(first.headers))
    else:
        form, payload = pack_pieces([b"%s\n%s" % (_whole_lines(message.headers), message.body) for message in group])
        block = b"-%s\n" % suffix
        flags |= Flag.MIXED
    return pack(
        Kind.PAGE,
        flags=flags | form,
        index=index,
        count=len(group),
        serial=first.serial,
        deliveries=first.deliveries,
        destination=first.queue,
        block=block,
        section=b"" if details == DURABLY else details.pack(),
        payload=payload,
    )


def _whole_lines(headers: bytes) -> bytes:
    """Somebody may have written them by hand, and left out the last line feed."""
    return headers if not headers or headers.endswith(b"\n") else headers + b"\n"


def _as_page(raw: Buffer) -> list[Buffer]:
    """The envelope that came as SPILL; all but its header is untouched."""
    header = bytearray(raw[: HEADER.size])
    header[KIND_AT] = Kind.PAGE
    header[_NUMBER_AT] = bytes(8)
    return [header, memoryview(raw)[HEADER.size :]]


def count_messages(items: Iterable[Message | Chunk]) -> int:
    """How many messages these are."""
    return sum(item.messages if isinstance(item, Chunk) else 1 for item in items)
