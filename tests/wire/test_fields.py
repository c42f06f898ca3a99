"""What the fields of each kind may be: the tables, their exact limits, and what no table can say."""

from __future__ import annotations

import struct
from dataclasses import fields as fields_of

import pytest
from hypothesis import given
from support.lies import HONEST, LIES, SEND, join

from forkbroker.cron import HAS_CRON
from forkbroker.errors import EnvelopeError
from forkbroker.identity import Way
from forkbroker.wire.details import MAX_MOMENT, MAX_SPAN, Details, Wishes
from forkbroker.wire.envelope import MAX_BATCH, MAX_SERIAL, SETTLEMENT, Envelope, pack_pieces
from forkbroker.wire.fields import (
    MAX_LOGIN,
    MAX_REASON,
    OF_BACKUP,
    OF_CHECKER,
    OF_CHILD,
    OF_STORE,
    OF_TRANSACTION,
    Fields,
    check,
)
from forkbroker.wire.kinds import FROM_BACKUP, FROM_CHECKER, FROM_CHILD, FROM_STORE, HEEDED, Flag, Kind

U16, U32, U64 = 2**16 - 1, 2**32 - 1, 2**64 - 1
WIDTHS = {"token": U32, "slot": U32, "index": U32, "count": U32, "number": U64, "serial": U64, "deliveries": U16}
#: Where each field stands in the header.
PLACES = {
    "token": (8, ">I"),
    "slot": (12, ">I"),
    "index": (16, ">I"),
    "count": (20, ">I"),
    "number": (24, ">Q"),
    "serial": (32, ">Q"),
    "deliveries": (42, ">H"),
}
PAGE = {**SEND, "serial": 7}
STORED = {
    Kind.OPENING: join(Kind.OPENING, serial=1),
    Kind.OPENED: join(Kind.OPENED, flags=Flag.RECOVERED),
    Kind.BACKLOG: join(Kind.BACKLOG, destination=b"/queue/a", index=4, count=1, number=1, serial=1),
    Kind.DURABLE: join(Kind.DURABLE, destination=b"/dsub/a", block=b"/topic/a", serial=1),
    Kind.NOTED: join(Kind.NOTED, destination=b"/queue/a", token=1, count=1, block=b"17"),
    Kind.DUPLICATE: join(Kind.DUPLICATE, destination=b"/queue/a", block=b"id", number=1),
    Kind.PAGE: join(Kind.PAGE, **PAGE),
    Kind.PAGED: join(Kind.PAGED, destination=b"/queue/a", index=4, count=1),
    Kind.COMMITTED: join(Kind.COMMITTED, number=1),
    Kind.TRYING: join(Kind.TRYING, number=1),
    Kind.DECLINED: join(Kind.DECLINED, number=1, block=b"no such kind"),
    Kind.DELETED: join(Kind.DELETED, number=1),
    Kind.DISK: join(Kind.DISK, token=1, block=b"full", serial=1),
    Kind.FAILED: join(Kind.FAILED, token=74, block=b"broken"),
}
TABLES = [(OF_CHILD, kind, HONEST[kind]) for kind in FROM_CHILD] + [(OF_STORE, kind, STORED[kind]) for kind in OF_STORE]


def refusal(raw: bytes, table: dict[Kind, Fields] = OF_CHILD) -> str:
    """Why this is not permitted."""
    with pytest.raises(EnvelopeError) as caught:
        check(Envelope(raw), table)
    return str(caught.value)


def accept(kind: Kind, **fields: object) -> None:
    """This is permitted to a child."""
    check(Envelope(join(kind, **fields)), OF_CHILD)


def refuse(kind: Kind, **fields: object) -> str:
    """This isn't."""
    return refusal(join(kind, **fields))


def send(**changes: object) -> dict[str, object]:
    """An honest SEND, but for this."""
    return {**SEND, **changes}


def test_every_kind_that_comes_up_has_a_row() -> None:
    """A kind that is permitted has its fields described, and no other one."""
    assert set(OF_CHILD) == set(FROM_CHILD)
    assert set(OF_STORE) == set(FROM_STORE)
    assert set(OF_CHECKER) == FROM_CHECKER
    assert set(OF_BACKUP) == FROM_BACKUP
    assert set(OF_TRANSACTION) == {Kind.SEND, Kind.SETTLE}


@pytest.mark.parametrize(("table", "kind", "raw"), TABLES, ids=lambda value: getattr(value, "name", ""))
def test_the_truth_is_permitted(table: dict[Kind, Fields], kind: Kind, raw: bytes) -> None:
    """An honest envelope of each kind."""
    check(Envelope(raw), table)


@pytest.mark.parametrize(("table", "kind", "raw"), TABLES, ids=lambda value: getattr(value, "name", ""))
def test_each_number_has_its_exact_limit(table: dict[Kind, Fields], kind: Kind, raw: bytes) -> None:
    """What the row says is not too much, and one more is; 0 is the limit of what a kind does not use."""
    row = table[kind]
    for name, (at, form) in PLACES.items():
        most = getattr(row, name)
        if most < WIDTHS[name]:
            changed = bytearray(raw)
            struct.pack_into(form, changed, at, most + 1)
            assert f"{name} {most + 1}, at most {most}" in refusal(bytes(changed), table)


@pytest.mark.parametrize(("table", "kind", "raw"), TABLES, ids=lambda value: getattr(value, "name", ""))
def test_what_is_at_its_limit_is_not_too_much(table: dict[Kind, Fields], kind: Kind, raw: bytes) -> None:
    """The row permits it; its content, or its octets that are not there, may still be wrong."""
    for name, (at, form) in PLACES.items():
        changed = bytearray(raw)
        struct.pack_into(form, changed, at, getattr(table[kind], name))
        try:
            check(Envelope(bytes(changed)), table)
        except EnvelopeError as error:
            assert "at most" not in str(error)


@pytest.mark.parametrize(("table", "kind", "raw"), TABLES, ids=lambda value: getattr(value, "name", ""))
def test_where_no_name_and_no_block_belong_there_is_none(table: dict[Kind, Fields], kind: Kind, raw: bytes) -> None:
    """Not one octet of it."""
    if not table[kind].destination:
        assert f"{kind.name}: a destination of 1 bytes, at most 0" in refusal(join(kind, destination=b"x"), table)
    if not table[kind].block:
        assert f"{kind.name}: a block of 1 bytes, at most 0" in refusal(join(kind, block=b"x"), table)


def _limits(table: dict[Kind, Fields]) -> dict[Kind, dict[str, int]]:
    """What is smaller than its place in the header."""
    widths = {**WIDTHS, "destination": U16, "block": U32}
    rows = {
        kind: {name: getattr(row, name) for name, width in widths.items() if 0 < getattr(row, name) < width}
        for kind, row in table.items()
    }
    return {kind: row for kind, row in rows.items() if row}


def test_limits_are_fixed_numbers() -> None:
    """What is not named here has the whole of its field, or is not used."""
    assert _limits(OF_CHILD) == {
        Kind.ADDRESS: {"number": 65_535, "destination": 45},
        Kind.CONNECTED: {"token": max(Way), "count": 1, "destination": 255, "block": 65_535},
        Kind.SEND: {"count": 1024},
        Kind.SUBSCRIBE: {"index": 8, "block": 65_535},
        Kind.UNSUBSCRIBE: {"block": 65_535},
        Kind.CLAIMED: {"serial": MAX_SERIAL},
        Kind.LOST: {"index": 16},
        Kind.PASSED: {"index": 16},
        Kind.SETTLE: {"block": 1024},
        Kind.LEAVING: {"token": 1, "block": 65_535},
        Kind.ASK: {"destination": 64, "block": 65_535},
        Kind.TRACED: {"block": 262_144},
        Kind.PARK: {"index": 43_200_000, "serial": 2**63 - 1, "destination": 512, "block": 64},
        Kind.UNPARK: {"destination": 512, "block": 1_089},
    }
    assert _limits(OF_STORE) == {
        Kind.OPENING: {"serial": 2**62 - 1},
        Kind.BACKLOG: {"index": 9, "number": 2**63 - 1, "serial": 2**63 - 1},
        Kind.DURABLE: {"serial": 2**63 - 1, "block": 65_535},
        Kind.DUPLICATE: {"number": 2**63 - 1, "block": 65_535},
        Kind.NOTED: {"token": 2, "count": 1, "block": 65_535},
        Kind.PAGE: {"count": 1024, "serial": 2**63 - 1},
        Kind.PAGED: {"index": 9},
        Kind.DISK: {"token": 1},
    }


@pytest.mark.parametrize(("table", "kind", "raw"), TABLES, ids=lambda value: getattr(value, "name", ""))
def test_each_flag_is_permitted_or_not(table: dict[Kind, Fields], kind: Kind, raw: bytes) -> None:
    """A bit that has no meaning for this kind, or none at all, is a lie."""
    row = table[kind]
    for bit in (1 << number for number in range(16)):
        if not row.flags & bit:
            changed = bytearray(raw)
            struct.pack_into(">H", changed, 6, bit)
            assert "flags" in refusal(bytes(changed), table)


@pytest.mark.parametrize("kind", sorted(HEEDED))
def test_what_the_parent_keeps_has_no_fence(kind: Kind) -> None:
    """Nobody would answer it."""
    assert "flags" in refusal(join(kind, flags=Flag.FENCE))


@pytest.mark.parametrize(
    ("kind", "field", "most"),
    [(Kind.CONNECTED, "destination", MAX_LOGIN), (Kind.LEAVING, "block", MAX_REASON)],
)
def test_what_is_logged_is_short(kind: Kind, field: str, most: int) -> None:
    """A name of 255 octets, a reason of 65,535."""
    accept(kind, **{field: b"x" * most})
    assert f"of {most + 1} bytes" in refuse(kind, **{field: b"x" * (most + 1)})


def test_a_name_in_a_block_fits_a_destination() -> None:
    """A durable subscription's name becomes the destination of its messages."""
    name = b"/dsub/" + b"x" * (U16 - 6)
    accept(Kind.SUBSCRIBE, flags=Flag.DURABLE, destination=b"/topic/a", block=name)
    accept(Kind.UNSUBSCRIBE, flags=Flag.DURABLE, block=name)

    for kind in (Kind.SUBSCRIBE, Kind.UNSUBSCRIBE):
        assert "a block of 65536 bytes" in refuse(kind, flags=Flag.DURABLE, block=name + b"x")


@pytest.mark.parametrize(
    "fields",
    [
        {"destination": b"/queue/a", "block": b"x"},
        {"flags": Flag.DURABLE, "destination": b"/topic/a"},
        {"flags": Flag.DURABLE, "destination": b"/topic/a", "block": b"/queue/a"},
        {"flags": Flag.DURABLE, "destination": b"/queue/a", "block": b"/dsub/a"},
        {"flags": Flag.DURABLE | Flag.TEMPORARY, "destination": b"/topic/a", "block": b"/dsub/a"},
        {"destination": b"/queue/a", "payload": [b"x"]},
    ],
)
def test_subscriptions_that_mean_nothing(fields: dict[str, object]) -> None:
    """A name where there is none to be, none where there is one, a queue for a topic, octets left over."""
    assert "SUBSCRIBE" in refuse(Kind.SUBSCRIBE, **fields)


@pytest.mark.parametrize("kind", [Kind.READY, Kind.CLAIMED, Kind.FENCE, Kind.LEAVING, Kind.UNSUBSCRIBE])
def test_nothing_is_left_over(kind: Kind) -> None:
    """Kinds without a payload have none."""
    assert "a payload of 1 bytes" in refuse(kind, payload=[b"x"])


# ---------------------------------------------------------------- messages


def test_index_and_count_fit_together() -> None:
    """The last message of an envelope has an index, too."""
    accept(Kind.SEND, **send(index=U32 - 1))
    assert f"index {U32}" in refuse(Kind.SEND, **send(index=U32))


def test_serial_and_count_fit_together() -> None:
    """The last message of a PAGE has a serial that databases have."""
    check(Envelope(join(Kind.PAGE, **{**PAGE, "serial": MAX_SERIAL - 2})), OF_STORE)
    assert f"serial {MAX_SERIAL - 1}" in refusal(join(Kind.PAGE, **{**PAGE, "serial": MAX_SERIAL - 1}), OF_STORE)


NAMED = Flag.NAMED | Flag.MIXED


@pytest.mark.parametrize(
    "pieces", [[b"0-s-1\na:b\n\nx"], [b"4294967295-s-1\n\n", b"7-t\na:b\n\nx"], [b"0-\n\n\n"]], ids=range(3)
)
def test_pieces_with_names_have_message_ids_and_empty_lines(pieces: list[bytes]) -> None:
    """The store may tell them, as it was told some."""
    flags, payload = pack_pieces(pieces)
    page = {**PAGE, "flags": flags | NAMED, "count": len(pieces), "block": b"", "payload": payload}
    check(Envelope(join(Kind.PAGE, **page)), OF_STORE)
    assert "flags" in refuse(Kind.SEND, **send(flags=flags | NAMED, count=len(pieces), block=b"", payload=payload))


@pytest.mark.parametrize(
    "piece", [b"", b"\n\n", b"-s-1\n\n", b"x-s-1\n\n", b"01\n\n", b"0-s-1", b"0-s-1\na:b\nx", b"0-s-1\n"]
)
def test_pieces_with_other_names_are_refused(piece: bytes) -> None:
    """Wherever they stand; and what has a block as well."""
    flags, payload = pack_pieces([b"0-s-1\n\n", piece])
    page = {**PAGE, "flags": flags | NAMED, "count": 2, "block": b"", "payload": payload}
    assert "a piece without message-id" in refusal(join(Kind.PAGE, **page), OF_STORE)
    flags, payload = pack_pieces([b"0-s-1\n\n"])
    page = {**PAGE, "flags": flags | NAMED, "count": 1, "block": b"-s-1\n", "payload": payload}
    assert "a block beside" in refusal(join(Kind.PAGE, **page), OF_STORE)
    assert "a block beside" in refusal(join(Kind.PAGE, **{**page, "flags": flags | Flag.NAMED, "block": b""}), OF_STORE)


def test_the_number_of_pieces_has_limits() -> None:
    """1 to `MAX_BATCH`."""
    flags, payload = pack_pieces([b""] * MAX_BATCH)
    accept(Kind.SEND, **send(flags=flags, count=MAX_BATCH, payload=payload))
    assert "1025" in refuse(Kind.SEND, **send(flags=flags, count=MAX_BATCH + 1, payload=payload))
    assert "0 pieces" in refuse(Kind.SEND, **send(count=0))


@pytest.mark.parametrize(
    ("flags", "count", "payload"),
    [
        (Flag.UNIFORM, 2, b"\0\0\0\2ab"),
        (Flag.UNIFORM, 2, b"\0\0\0\1abc"),
        (Flag.UNIFORM, 1, b"\0\0\0"),
        (0, 2, b"\0\0\0\1\0\0\0\2ab"),
        (0, 3, b"\0\0\0\1\0\0\0\1ab"),
    ],
)
def test_lengths_and_pieces_fit_together(flags: int, count: int, payload: bytes) -> None:
    """The length that is told for all, or those of each, and the octets that are there."""
    assert "SEND" in refuse(Kind.SEND, **send(flags=flags, count=count, payload=[payload]))


@pytest.mark.parametrize("block", [b"", b"\n\n", b"-s-1", b"-s-1\n", b"-s-1\na:b\n", b"s-1\n\n"])
def test_a_block_has_a_message_id_and_an_empty_line(block: bytes) -> None:
    """Else a receiver would take the body for header lines."""
    assert "a block without message-id or empty line" in refuse(Kind.SEND, **send(block=block))


@pytest.mark.parametrize("block", [b"", b"\n", b"-s-1", b"s-1\n", b"-s-1\n\n", b"-s-1\na:b\n"])
def test_the_block_of_mixed_messages_is_a_message_id(block: bytes) -> None:
    """All header lines stand in the pieces."""
    flags, payload = pack_pieces([b"a:b\n\nx"])
    assert "rest of a message-id" in refuse(
        Kind.SEND, **send(flags=flags | Flag.MIXED, count=1, block=block, payload=payload)
    )


@pytest.mark.parametrize("bad", [b"", b"x", b"a:b\n", b"a:b\nx"])
@pytest.mark.parametrize("other", [b"\nx", b"a:b\n\n", b"a:b\n\nlonger"])
def test_mixed_pieces_have_an_empty_line(bad: bytes, other: bytes) -> None:
    """Each of them, whether or not they are of one length, and wherever the bad one stands."""
    good = [b"\n", b"a:b\n\nx", other]
    flags, payload = pack_pieces(good)
    accept(Kind.SEND, **send(flags=flags | Flag.MIXED, count=3, block=b"-s-1\n", payload=payload))
    for pieces in ([bad, other], [other, bad], [bad], [bad, bad]):
        flags, payload = pack_pieces(pieces)
        mixed = send(flags=flags | Flag.MIXED, count=len(pieces), block=b"-s-1\n", payload=payload)
        assert "a piece without an empty line" in refuse(Kind.SEND, **mixed)


@pytest.mark.parametrize("destination", [b"", b"/dsub/a"])
def test_destinations_to_which_nothing_is_sent(destination: bytes) -> None:
    """None at all, and a durable subscription: it gets what its topic gets."""
    assert "SEND to" in refuse(Kind.SEND, **send(destination=destination))


def test_what_is_asked_for_has_bounds() -> None:
    """No time, moment or priority that the router could not count with later."""
    limits = {"expires": MAX_MOMENT, "deliver_at": MAX_MOMENT, "ttl": MAX_SPAN, "delay": MAX_SPAN, "period": MAX_SPAN}
    for name, most in limits.items():
        accept(Kind.SEND, **send(section=Wishes(**{name: most}).pack()))
        assert f"a time of {most + 1}" in refuse(Kind.SEND, **send(section=Wishes(**{name: most + 1}).pack()))
    assert "priority 10" in refuse(Kind.SEND, **send(section=Wishes(priority=10).pack()))
    assert "repetitions" in refuse(Kind.SEND, **send(section=Wishes(repeat=-2).pack()))
    assert "wishes" in refuse(Kind.SEND, **send(section=b"x"))


def test_details_of_a_page_have_bounds() -> None:
    """An administrator may have edited the row."""
    limits = dict.fromkeys(("expires", "due", "dedup_until"), MAX_MOMENT + MAX_SPAN) | {"period": MAX_SPAN}
    for name, most in limits.items():
        check(Envelope(join(Kind.PAGE, **PAGE, section=Details(**{name: most}).pack())), OF_STORE)
        beyond = join(Kind.PAGE, **PAGE, section=Details(**{name: most + 1}).pack())
        assert f"a time of {most + 1}" in refusal(beyond, OF_STORE)


@pytest.mark.skipif(not HAS_CRON, reason="pip install cronsim")
def test_a_cron_line_names_a_time() -> None:
    """The router finds out before it has applied the half of a transaction."""
    accept(Kind.SEND, **send(section=Wishes(cron=b"0 4 * * *").pack()))
    assert "is not a cron line" in refuse(Kind.SEND, **send(section=Wishes(cron=b"0 0 31 2 *").pack()))


# ---------------------------------------------------------------- settlements and transactions


@pytest.mark.parametrize(
    ("count", "entries"),
    [
        (0, []),
        (1, []),
        (2, [(1, 1, 1)]),
        (1, [(1, 0, 1)]),
        (1, [(1, 1, 0)]),
        (1, [(1, 1, 5)]),
        (1, [(MAX_SERIAL, 1, 1)]),
        (1, [(U64, 1, 1)]),
    ],
)
def test_settlements_that_can_not_be(count: int, entries: list[tuple[int, int, int]]) -> None:
    """None, as many as are not told, of no message, with an unknown outcome, of serials that never are."""
    payload = b"".join(SETTLEMENT.pack(*entry) for entry in entries)
    assert "SETTLE" in refuse(Kind.SETTLE, count=count, payload=[payload])


@pytest.mark.parametrize(
    "fields",
    [
        {"token": 0, "count": 1},
        {"token": 2, "count": 0},
        {"token": 1, "count": 1},
        {"token": 1, "count": 1, "block": b"long"},
        {"token": 1, "count": 1, "block": b"1" * 19},
        {"token": 1, "count": 1, "block": "²".encode()},
        {"token": 2, "count": 1, "payload": [b"x"]},
    ],
)
def test_a_note_that_says_nothing_is_refused(fields: dict[str, object]) -> None:
    """Of no matter, or held until a time that is none. The name of an owner may be empty, as that of no login is."""
    for block in (b"", b"alice"):
        check(Envelope(join(Kind.NOTED, destination=b"/queue/a", token=2, count=1, block=block)), OF_STORE)
    with pytest.raises(EnvelopeError, match="NOTED"):
        check(Envelope(join(Kind.NOTED, destination=b"/queue/a", **fields)), OF_STORE)


def test_a_reason_that_no_header_can_have_is_refused() -> None:
    """A backend that keeps text would not take it."""
    payload = [SETTLEMENT.pack(1, 1, 3)]
    check(Envelope(join(Kind.SETTLE, count=1, block=b"broken", payload=payload)), OF_CHILD)

    assert "no header can have" in refuse(Kind.SETTLE, count=1, block=b"a\0b", payload=payload)


@pytest.mark.parametrize(
    ("count", "parts"),
    [
        (0, [HONEST[Kind.SEND]]),
        (2, [HONEST[Kind.SEND]]),
        (1, [HONEST[Kind.FENCE]]),
        (1, [HONEST[Kind.TRANSACTION]]),
        (1, [join(Kind.SEND, **send(flags=Flag.UNIFORM | Flag.FENCE))]),
        (2, [HONEST[Kind.SEND], join(Kind.SEND, **send(index=U32))]),
        (2, [HONEST[Kind.SEND], join(Kind.SEND, **send(section=Wishes(ttl=U64).pack()))]),
        (2, [HONEST[Kind.SEND], join(Kind.SETTLE, count=1, payload=[SETTLEMENT.pack(1, 0, 1)])]),
    ],
)
def test_transactions_are_checked_to_their_last_part(count: int, parts: list[bytes]) -> None:
    """As many parts as are told, of two kinds, without fences, and each of them true."""
    assert refuse(Kind.TRANSACTION, count=count, payload=parts)


def test_what_a_row_does_not_name_is_not_used() -> None:
    """The default of each field is 0."""
    assert all(not getattr(Fields(), field.name) for field in fields_of(Fields) if field.name != "content")


@given(LIES)
def test_a_lie_raises_the_one_error(raw: bytes) -> None:
    """And what raises none can be decoded by whoever gets it."""
    try:
        envelope = Envelope(raw)
        check(envelope, OF_CHILD)
    except EnvelopeError:
        return
    if envelope.kind is Kind.SEND:
        assert len(envelope.pieces()) == envelope.count
        assert envelope.block.startswith(b"-")
        assert envelope.wishes.ttl <= MAX_SPAN
