"""The serialised form of what processes tell each other."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.errors import EnvelopeError
from forkbroker.wire.details import DURABLY, PLAIN, Details, Reason, Wishes
from forkbroker.wire.envelope import (
    HEADER,
    MAX_BATCH,
    MAX_SERIAL,
    SETTLEMENT,
    VERSION,
    Buffer,
    Envelope,
    pack,
    pack_number,
    pack_pieces,
    pack_run,
    pack_serial,
    pack_settle,
    read_length,
    with_fence,
    with_index,
    with_number,
)
from forkbroker.wire.kinds import (
    FROM_CHILD,
    FROM_NURSERY,
    FROM_PARENT,
    FROM_STORE,
    HEEDED,
    SENT_BY,
    TO_NURSERY,
    TO_SPARE,
    TO_STORE,
    Begin,
    Cause,
    ChildState,
    Flag,
    Kind,
    Outcome,
    Role,
)

U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
BODIES = st.one_of(
    st.lists(st.binary(max_size=20), min_size=1, max_size=20),
    st.builds(lambda body, count: [body] * count, st.binary(max_size=20), st.integers(1, 20)),
)


def join(buffers: list[Buffer]) -> bytes:
    return b"".join(buffers)


DETAILS = Details(reason=Reason.REJECTED, expires=99, origin=b"/queue/o")


def make_send(
    bodies: list[bytes],
    *,
    flags: int = 0,
    block: bytes = b"session-1\na:b\n\n",
    index: int = 0,
    wishes: Wishes | None = None,
) -> Envelope:
    needed, payload = pack_pieces(bodies)
    raw = join(
        pack(
            Kind.SEND,
            flags=flags | needed,
            count=len(bodies),
            index=index,
            destination=b"/queue/a",
            block=block,
            section=wishes.pack() if wishes is not None else b"",
            payload=payload,
        )
    )
    return Envelope(raw)


def make_offer(message: Envelope, first: int, count: int, details: Details = PLAIN) -> Envelope:
    offer = pack_run(
        Kind.OFFER,
        message,
        first=first,
        count=count,
        token=3,
        slot=4,
        number=5,
        serial=6,
        deliveries=7,
        destination=b"/queue/b",
        details=details,
    )
    return Envelope(join(offer))


def bytes_of(pieces: list[Buffer]) -> list[bytes]:
    return [bytes(piece) for piece in pieces]


# ---------------------------------------------------------------- round trips


@given(
    kind=st.sampled_from(Kind),
    flags=U16.map(lambda flags: flags & ~Flag.SECTION),
    token=U32,
    slot=U32,
    index=U32,
    count=U32,
    number=U64,
    serial=U64,
    deliveries=U16,
    destination=st.binary(max_size=100),
    block=st.binary(max_size=100),
    payload=st.lists(st.binary(max_size=50), max_size=3),
)
def test_what_was_packed_is_there_again(**fields: object) -> None:
    """Every field, in every kind."""
    envelope = Envelope(join(pack(**fields)))  # type: ignore[arg-type]

    payload = fields.pop("payload")
    found = {name: getattr(envelope, name) for name in fields}
    assert found == fields
    assert bytes(envelope.payload) == b"".join(payload)  # type: ignore[arg-type]
    assert envelope.wishes == Wishes()
    assert envelope.details == (DURABLY if envelope.flags & Flag.PERSISTENT else PLAIN)
    assert read_length(envelope.raw, 0) == len(envelope.raw)


@given(BODIES)
def test_pieces_come_out_as_they_went_in(bodies: list[bytes]) -> None:
    """Of one length or of many."""
    envelope = make_send(bodies)

    assert bytes_of(envelope.pieces()) == bodies
    assert bool(envelope.flags & Flag.UNIFORM) == (len({len(body) for body in bodies}) == 1)


@pytest.mark.parametrize("length", [0, 1, 100])
@pytest.mark.parametrize("count", [2, 31, 32, 33, 64, 100, MAX_BATCH])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_many_pieces_of_one_length_come_out_as_well(count: int, length: int, kind: Callable[[bytes], Buffer]) -> None:
    """They are cut many at a time."""
    bodies = [bytes([number % 251]) * length for number in range(count)]
    raw = make_send(bodies).raw

    assert bytes_of(Envelope(kind(raw)).pieces()) == bodies


@given(BODIES, st.data())
def test_bounds_are_where_the_pieces_are(bodies: list[bytes], data: st.DataObject) -> None:
    """Of any part of a batch."""
    envelope = make_send(bodies)
    first = data.draw(st.integers(0, len(bodies) - 1))
    count = data.draw(st.integers(1, len(bodies) - first))

    start, end = envelope.bounds(first, count)

    assert bytes(envelope.raw[start:end]) == b"".join(bodies[first : first + count])


@given(
    BODIES,
    st.data(),
    st.sampled_from([PLAIN, DURABLY, DETAILS]),
    st.sampled_from([0, Flag.ESCAPED, Flag.MIXED, Flag.RECOVERED]),
    st.sampled_from([None, Wishes(ttl=5, dedup_id=b"me")]),
)
def test_any_part_of_a_batch_can_be_offered(
    bodies: list[bytes], data: st.DataObject, details: Details, flag: int, wishes: Wishes | None
) -> None:
    """With its place in the batch, the block and the flags that belong to it, and its details instead of wishes."""
    message = make_send(bodies, flags=flag | Flag.FENCE, index=100, wishes=wishes)
    first = data.draw(st.integers(0, len(bodies) - 1))
    count = data.draw(st.integers(1, len(bodies) - first))

    offer = make_offer(message, first, count, details)

    assert bytes_of(offer.pieces()) == bodies[first : first + count]
    assert (offer.kind, offer.block, offer.index, offer.count) == (Kind.OFFER, message.block, 100 + first, count)
    assert (offer.token, offer.slot, offer.number, offer.serial, offer.deliveries) == (3, 4, 5, 6, 7)
    assert (offer.destination, offer.details) == (b"/queue/b", details)
    kept = message.flags & (Flag.UNIFORM | Flag.ESCAPED | Flag.MIXED | Flag.RECOVERED)
    assert offer.flags == kept | _details_flags(details)


def _details_flags(details: Details) -> int:
    """Those that most messages have take no section."""
    return (Flag.PERSISTENT if details.persistent else 0) | (Flag.SECTION if details is DETAILS else 0)


@given(BODIES, st.binary(max_size=60))
def test_a_section_stands_between_block_and_pieces(bodies: list[bytes], section: bytes) -> None:
    """Whatever it is, all else is found as without it."""
    flags, payload = pack_pieces(bodies)
    fields = {"flags": flags, "count": len(bodies), "destination": b"/queue/a", "block": b"b\n\n"}
    raw = join(pack(Kind.SEND, section=section, payload=payload, **fields))  # type: ignore[arg-type]
    envelope = Envelope(raw)

    assert bool(envelope.flags & Flag.SECTION) == bool(section)
    assert (envelope.block, bytes_of(envelope.pieces())) == (b"b\n\n", bodies)
    assert bytes(envelope.payload) == join(payload)


def test_other_numbers_and_nothing_else() -> None:
    """A message that comes again needs a message-id of its own."""
    message = make_send([b"a", b"b"], index=7)
    again = with_index(message, 9)

    assert (message.index, again.index) == (7, 9)
    assert bytes_of(again.pieces()) == [b"a", b"b"]
    assert again.block == message.block


@given(U64)
def test_the_serial_of_what_was_moved(serial: int) -> None:
    """The payload of MOVE."""
    assert Envelope(join(pack(Kind.MOVE, payload=[pack_serial(serial)]))).new_serial() == serial


@given(
    st.lists(
        st.tuples(st.integers(0, MAX_SERIAL - 2**32), st.integers(1, 2**32 - 1), st.sampled_from(Outcome)), max_size=20
    ),
    U32,
)
def test_settlements_come_out_as_they_went_in(entries: list[tuple[int, int, Outcome]], token: int) -> None:
    """In their order."""
    envelope = Envelope(join(pack_settle(token, entries)))

    assert envelope.settlements() == entries
    assert (envelope.kind, envelope.token, envelope.count) == (Kind.SETTLE, token, len(entries))


def test_a_transaction_contains_whole_envelopes() -> None:
    """In their order."""
    parts = [make_send([b"a"]).raw, pack_settle(1, [(2, 3, Outcome.RELEASED)])[0], make_send([b"b", b""]).raw]

    nested = Envelope(join(pack(Kind.TRANSACTION, count=3, payload=parts))).nested()

    assert [bytes(part.raw) for part in nested] == parts
    assert Envelope(join(pack(Kind.TRANSACTION))).nested() == []


def test_a_fence_can_be_added() -> None:
    """Nothing else changes."""
    plain = pack(Kind.SUBSCRIBE, flags=Flag.AUTO, token=4, destination=b"/queue/a", payload=[bytes(40_000)])

    fenced = with_fence(plain, 77)

    envelope = Envelope(join(fenced))
    assert (envelope.flags, envelope.number, envelope.token) == (Flag.AUTO | Flag.FENCE, 77, 4)
    assert fenced[1:] == plain[1:]
    assert Envelope(join(plain)).flags == Flag.AUTO


def test_a_number_alone_is_packed_as_any_envelope() -> None:
    """Only quicker."""
    assert pack_number(Kind.FENCED, MAX_SERIAL) == pack(Kind.FENCED, number=MAX_SERIAL)


def test_a_number_can_be_given() -> None:
    """A change that is told again, behind another store's, has a number of its own; nothing else changes."""
    plain = pack(Kind.WRITE, number=3, serial=4, deliveries=5, destination=b"/queue/a", payload=[bytes(40_000)])

    numbered = with_number(plain, 77)

    envelope = Envelope(join(numbered))
    assert (envelope.number, envelope.serial, envelope.deliveries, envelope.flags) == (77, 4, 5, 0)
    assert numbered[1:] == plain[1:]
    assert Envelope(join(plain)).number == 3


def test_the_layout_is_that_of_version_3() -> None:
    """Another one needs another version: the store keeps envelopes, and tools may read them."""
    assert (VERSION, HEADER.format, HEADER.size) == (3, ">IBBHIIIIQQHHI", 48)
    assert (SETTLEMENT.format, MAX_BATCH, MAX_SERIAL) == (">QIB", 1024, 2**63 - 1)
    packed = join(
        pack(
            Kind.WRITE,
            flags=0x0102,
            token=1,
            slot=2,
            index=3,
            count=4,
            number=5,
            serial=6,
            deliveries=7,
            destination=b"d",
            block=b"bb",
            payload=[b"ppp"],
        )
    )
    assert packed.hex(" ", -4) == (
        "00000036 03400102 00000001 00000002 00000003 00000004 00000000 00000005 00000000 00000006 00010007 00000002 "
        "64626270 7070"
    )


def test_what_is_not_said_is_nothing() -> None:
    """The default of each field is 0 or empty."""
    assert join(pack(Kind.FENCE)) == HEADER.pack(48, 3, Kind.FENCE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    run = pack_run(
        Kind.WRITE, make_send([b"a"]), first=0, count=1, number=1, serial=1, deliveries=0, destination=b"/queue/a"
    )
    assert (Envelope(join(run)).token, Envelope(join(run)).slot) == (0, 0)


def test_what_was_decoded_is_kept() -> None:
    """It is asked for by the check, and again by the rules."""
    send = make_send([b"a"], wishes=Wishes(ttl=5))
    settle = Envelope(join(pack_settle(1, [(2, 3, Outcome.RELEASED)])))
    transaction = Envelope(join(pack(Kind.TRANSACTION, count=1, payload=[send.raw])))

    assert send.wishes is send.wishes
    assert settle.settlements() is settle.settlements()
    assert transaction.nested() is transaction.nested()


@given(BODIES)
def test_starts_and_ends_are_those_of_the_pieces(bodies: list[bytes]) -> None:
    """As many as there are pieces, also where all of them are empty."""
    envelope = make_send(bodies)

    starts, ends = envelope.starts_and_ends()

    assert len(starts) == len(ends) == len(bodies)
    assert [bytes(envelope.raw[start:end]) for start, end in zip(starts, ends, strict=True)] == bodies


def test_the_last_serial_can_be_settled() -> None:
    """And none behind it, nor none at all."""
    last = (MAX_SERIAL - 5, 5, Outcome.ACKNOWLEDGED)
    assert Envelope(join(pack_settle(1, [last]))).settlements() == [last]
    for entry in ((MAX_SERIAL - 5, 6, Outcome.ACKNOWLEDGED), (1, 0, Outcome.ACKNOWLEDGED)):
        with pytest.raises(EnvelopeError, match="messages from serial"):
            Envelope(join(pack_settle(1, [entry]))).settlements()


def test_the_largest_batch_is_whole() -> None:
    """Of one length or of many."""
    for bodies in ([b"x"] * MAX_BATCH, [b"", b"x"] * (MAX_BATCH // 2)):
        assert bytes_of(make_send(bodies).pieces()) == bodies
        with pytest.raises(EnvelopeError, match="1 to 1024 permitted"):
            make_send([*bodies, b"x"]).pieces()


def test_a_length_is_at_least_that_of_a_header() -> None:
    """Else a reader would not get on."""
    assert read_length(b"x" + (48).to_bytes(4, "big"), 1) == 48
    for data in ((47).to_bytes(4, "big"), bytes(3), bytes(4)):
        with pytest.raises(EnvelopeError):
            read_length(data, 0)


# ---------------------------------------------------------------- copies


def test_small_envelopes_are_one_buffer_and_large_ones_keep_their_bodies() -> None:
    """A gather write of small pieces costs more than their copy; of large ones less."""
    large = bytes(100_000)

    assert len(pack(Kind.SEND, payload=[b"1", b"2"])) == 1
    assert len(pack(Kind.SEND, destination=b"/queue/a")) == 1
    assert any(buffer is large for buffer in pack(Kind.SEND, payload=pack_pieces([large])[1]))


def test_a_large_body_is_a_view() -> None:
    """Neither unpacking nor offering copies it."""
    envelope = make_send([bytes(100_000)])

    (piece,) = envelope.pieces()
    buffers = pack_run(
        Kind.WRITE, envelope, first=0, count=1, number=1, serial=1, deliveries=0, destination=b"/queue/a"
    )

    assert isinstance(piece, memoryview)
    assert piece.obj is envelope.raw
    assert isinstance(buffers[-1], memoryview)
    assert buffers[-1].obj is envelope.raw


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_any_buffer_is_decoded(form: Callable[[bytes], Buffer]) -> None:
    """What a channel received into place is not copied first."""
    envelope = Envelope(form(bytes(make_send([b"a", b"bb"]).raw)))

    assert bytes_of(envelope.pieces()) == [b"a", b"bb"]
    assert bytes_of(make_offer(envelope, 1, 1).pieces()) == [b"bb"]
    assert envelope.destination == b"/queue/a"


# ---------------------------------------------------------------- what is refused


def test_fields_have_their_sizes() -> None:
    """An excess is ours to fix."""
    with pytest.raises(EnvelopeError, match="SEND"):
        pack(Kind.SEND, destination=bytes(65_536))
    with pytest.raises(EnvelopeError, match="SEND"):
        pack(Kind.SEND, token=2**32)
    assert Envelope(join(pack(Kind.OFFER, deliveries=100_000))).deliveries == 65_535


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(HEADER.size),
        bytes(make_send([b"a"]).raw)[:-1],
        bytes(make_send([b"a"]).raw) + b"x",
        bytes(make_send([b"a"]).raw)[: HEADER.size],
        HEADER.pack(48, VERSION + 1, Kind.SEND, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        HEADER.pack(48, VERSION, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        HEADER.pack(48, VERSION, Kind.SEND, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0),
        HEADER.pack(48, VERSION, Kind.SEND, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
    ],
)
def test_what_is_no_envelope_is_not_decoded(raw: bytes) -> None:
    """Too short, too long, of another version, unknown, or longer inside than outside."""
    with pytest.raises(EnvelopeError):
        Envelope(raw)


@pytest.mark.parametrize(
    ("flags", "count", "payload"),
    [
        (0, 0, b""),
        (0, 1, b""),
        (0, 1, b"\0\0\0\2x"),
        (0, 1, b"\0\0\0\0x"),
        (0, 2, b"\0\0\0\1x"),
        (0, 2**32 - 1, b"\0\0\0\1x"),
        (Flag.UNIFORM, 0, b"\0\0\0\0"),
        (Flag.UNIFORM, 1, b""),
        (Flag.UNIFORM, 2, b""),
        (Flag.UNIFORM, 2, b"\0\0\0\1xyz"),
        (Flag.UNIFORM, MAX_BATCH + 1, b"\0\0\0\0"),
        (Flag.UNIFORM, 2**32 - 1, b"\0\0\0\0"),
        (Flag.SECTION, 1, b"\0\0\0\2ab"),
    ],
)
def test_pieces_that_do_not_add_up_are_refused(flags: int, count: int, payload: bytes) -> None:
    """Before memory is taken for them."""
    envelope = Envelope(join(pack(Kind.OFFER, flags=flags, count=count, payload=[payload])))

    with pytest.raises(EnvelopeError):
        envelope.pieces()
    with pytest.raises(EnvelopeError):
        envelope.bounds(0, count)


@pytest.mark.parametrize("section", [b"", b"\0\0\0", b"\0\0\0\5", b"\0\0\0\5abcd", b"\xff\xff\xff\xffab"])
def test_a_section_that_is_not_there_makes_no_envelope(section: bytes) -> None:
    """Its flag says that it is, or its length that there is more of it."""
    raw = join(pack(Kind.OFFER, flags=Flag.SECTION, count=1, payload=[section]))

    with pytest.raises(EnvelopeError, match="OFFER: version 3, flags 0x80, "):
        Envelope(raw)


def test_a_section_may_be_all_that_there_is() -> None:
    """Its end is the end."""
    envelope = Envelope(join(pack(Kind.SEND, section=Wishes(priority=7).pack())))

    assert (envelope.wishes.priority, bytes(envelope.payload)) == (7, b"")


@pytest.mark.parametrize("payload", [b"short", bytes(13), bytes(12) + b"\5"])
def test_settlements_that_are_none_are_refused(payload: bytes) -> None:
    """Not whole, or with an unknown outcome."""
    with pytest.raises(EnvelopeError):
        list(Envelope(join(pack(Kind.SETTLE, payload=[payload]))).settlements())


@pytest.mark.parametrize("payload", [b"x", bytes(4), b"\0\0\0\x30" + bytes(44), b"\0\0\1\0" + bytes(44)])
def test_a_transaction_of_nonsense_is_refused(payload: bytes) -> None:
    """Less than an envelope, or more than there is."""
    with pytest.raises(EnvelopeError):
        Envelope(join(pack(Kind.TRANSACTION, payload=[payload]))).nested()


@given(st.binary(max_size=200))
def test_noise_raises_the_one_error(noise: bytes) -> None:
    """And nothing else."""
    read_everything(noise)


@given(
    BODIES,
    st.sampled_from([PLAIN, DURABLY, DETAILS]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255))),
)
def test_damage_raises_the_one_error(bodies: list[bytes], details: Details, damage: list[tuple[int, int]]) -> None:
    """Or gives something decodable: never another error."""
    raw = bytearray(make_offer(make_send(bodies), 0, len(bodies), details).raw)
    for position, value in damage:
        raw[position % len(raw)] = value

    read_everything(bytes(raw))
    read_everything(join(pack(Kind.TRANSACTION, count=1, payload=[raw])))


def read_everything(raw: bytes) -> None:
    """Whatever a receiver may ask."""
    for read in (
        Envelope.pieces,
        Envelope.nested,
        Envelope.new_serial,
        lambda envelope: list(envelope.settlements()),
        lambda envelope: envelope.wishes,
        lambda envelope: envelope.details,
    ):
        try:
            envelope = Envelope(raw)
            assert len(envelope.destination) + len(envelope.block) + len(envelope.payload) <= len(raw) - HEADER.size
            read(envelope)
        except EnvelopeError:
            continue


# ---------------------------------------------------------------- kinds


def test_every_kind_has_a_sender() -> None:
    """A child, the parent, the store or the nursery, and no kind has another one than is written here.

    SEND goes both ways, CLOSE to all, and every helper may send FAILED.
    """
    senders = {Kind(number): (_SENDERS[number // 32], number) for number in map(int, Kind)}
    of_child, to_child = set(FROM_CHILD), set(FROM_PARENT)

    assert {kind for kind, (sender, _) in senders.items() if sender == "child"} == of_child
    assert {kind for kind, (sender, _) in senders.items() if sender == "parent"} | {Kind.SEND} == to_child
    assert {kind for kind, (sender, _) in senders.items() if sender == "parent to store"} == TO_STORE - {Kind.CLOSE}
    assert {kind for kind, (sender, _) in senders.items() if sender == "store"} == FROM_STORE
    assert {kind for kind, (sender, _) in senders.items() if sender == "parent to nursery"} == (
        TO_NURSERY - {Kind.CLOSE} | TO_SPARE
    )
    assert {kind for kind, (sender, _) in senders.items() if sender == "nursery"} == FROM_NURSERY - {Kind.FAILED}
    assert not TO_STORE & of_child
    assert TO_STORE & to_child == {Kind.CLOSE}


_SENDERS = ["child", "parent", "parent to store", "store", "parent to nursery", "nursery", "checker", "backup"]
"""Of the kinds below 32, 64, 96, 128 and so on."""


def test_every_role_has_kinds_to_send() -> None:
    """Its own: no two roles share one, but FAILED, which any helper may say."""
    assert set(SENT_BY) == set(Role)
    assert SENT_BY[Role.CLIENT] == set(FROM_CHILD)
    assert SENT_BY[Role.STORE] == FROM_STORE
    assert SENT_BY[Role.CHECKER] == {Kind.CHECKED, Kind.FAILED}
    assert SENT_BY[Role.BACKUP] == {Kind.SAVED, Kind.FAILED}
    assert SENT_BY[Role.NURSERY] == FROM_NURSERY
    assert not SENT_BY[Role.CLIENT] & (SENT_BY[Role.STORE] | SENT_BY[Role.NURSERY])
    assert SENT_BY[Role.STORE] & SENT_BY[Role.NURSERY] == {Kind.FAILED}


def test_the_parent_heeds_what_is_a_childs_to_say() -> None:
    """And the router all else."""
    assert set(FROM_CHILD) > HEEDED
    assert set(FROM_CHILD) - HEEDED == {
        Kind.SEND,
        Kind.SUBSCRIBE,
        Kind.UNSUBSCRIBE,
        Kind.READY,
        Kind.CLAIMED,
        Kind.LOST,
        Kind.PASSED,
        Kind.SETTLE,
        Kind.PARK,
        Kind.UNPARK,
        Kind.TRANSACTION,
        Kind.FENCE,
        Kind.ASK,
    }


@pytest.mark.parametrize("enumeration", [Kind, Flag, Outcome, Reason])
def test_numbers_are_unique(enumeration: type[IntEnum]) -> None:
    """A second name for a number would be an alias, which enumerations permit."""
    assert len(enumeration.__members__) == len(list(enumeration))


def test_each_flag_is_one_bit() -> None:
    """Of the 16 that a header has."""
    assert all(flag.bit_count() == 1 and flag < 2**16 for flag in Flag)


def test_numbers_are_fixed() -> None:
    """A child of an older parent may still be alive, and the store keeps envelopes: what is new gets a new number."""
    assert {kind.name: int(kind) for kind in Kind} == _KINDS
    assert {flag.name: int(flag) for flag in Flag} == _FLAGS
    assert [int(outcome) for outcome in Outcome] == [1, 2, 3, 4]
    assert [outcome.name for outcome in Outcome] == ["ACKNOWLEDGED", "RELEASED", "REJECTED", "UNTOUCHED"]
    assert [(reason.name, int(reason)) for reason in Reason] == [
        ("NONE", 0), ("REJECTED", 1), ("DELIVERIES", 2), ("EXPIRED", 3), ("LIMIT", 4), ("POISON", 5),
    ]  # fmt: skip
    assert [(outbound.name, outbound.value) for outbound in ChildState] == [
        ("STARTING", "starting"), ("CONNECTED", "connected"), ("LEAVING", "leaving"),
    ]  # fmt: skip
    assert [(begin.name, int(begin)) for begin in Begin] == [
        ("TLS", 1), ("PROXIED", 2), ("WEB", 4), ("FORWARDED", 8), ("SUSPECT", 16),
    ]  # fmt: skip
    assert [cause.name for cause in Cause] == ["ASKED", "FAULT", "DENIED", "AWAY", "FULL"]


_KINDS = {
    "CONNECTED": 1, "SEND": 2, "SUBSCRIBE": 3, "UNSUBSCRIBE": 4, "READY": 5, "CLAIMED": 6, "LOST": 7, "PASSED": 8,
    "SETTLE": 9, "TRANSACTION": 10, "FENCE": 11, "CONGESTED": 12, "RELIEVED": 13, "QUIESCED": 14, "LEAVING": 15,
    "ASK": 16, "ADDRESS": 17, "TRACED": 18,
    "PARK": 19, "UNPARK": 20,
    "OFFER": 32, "FENCED": 33, "REFUSED": 34, "HOLD": 35, "RESUME": 36, "QUIESCE": 37, "CLOSE": 38, "RENDERED": 39,
    "RIGHTS": 40, "ANSWER": 41, "AHEAD": 42, "WITHDRAW": 43, "TRACE": 44,
    "WRITE": 64, "SPILL": 65, "DELETE": 66, "UPDATE": 67, "MOVE": 68, "PURGE": 69, "DEFINE": 70, "FORGET": 71,
    "FETCH": 72, "RETOLD": 73, "FAN": 74, "TOGETHER": 75, "SET_ASIDE": 76,
    "NOTE": 77,
    "OPENED": 96, "BACKLOG": 97, "DURABLE": 98, "DUPLICATE": 99, "PAGE": 100, "PAGED": 101, "COMMITTED": 102,
    "DISK": 103, "FAILED": 104, "OPENING": 105, "TRYING": 106, "DECLINED": 107, "DELETED": 108,
    "NOTED": 109,
    "SPARES": 128, "REAP": 129, "SERVE": 130, "LOG": 131, "EQUIP": 132,
    "REHEARSED": 160, "BORN": 161, "UNBORN": 162, "ENDED": 163,
    "CHECKED": 192, "SAVED": 224,
}  # fmt: skip
_FLAGS = {
    "FENCE": 1, "UNIFORM": 2, "ESCAPED": 4, "MIXED": 8, "AUTO": 16, "EXCLUSIVE": 32, "TEMPORARY": 64, "SECTION": 128,
    "WARNING": 256, "PERSISTENT": 512, "DURABLE": 1024, "RECOVERED": 2048, "FINAL": 4096,
    "BARE": 8192, "NAMED": 16384,
    "EXISTING": 32768,
}  # fmt: skip


@pytest.mark.parametrize("kind", list(FROM_CHILD))
def test_which_states_permit_which_kinds(kind: Kind) -> None:
    """CONNECTED once, LEAVING and QUIESCED at any time, all else only to who has logged in; nothing after LEAVING."""
    permission = FROM_CHILD[kind]
    states = {
        Kind.ADDRESS: {ChildState.STARTING},
        Kind.CONNECTED: {ChildState.STARTING},
        Kind.QUIESCED: {ChildState.STARTING, ChildState.CONNECTED},
        Kind.LEAVING: {ChildState.STARTING, ChildState.CONNECTED},
    }
    follows = {Kind.CONNECTED: ChildState.CONNECTED, Kind.LEAVING: ChildState.LEAVING}

    assert permission.states == states.get(kind, {ChildState.CONNECTED})
    assert permission.follows is follows.get(kind)
