"""The serialised form of what processes tell each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.errors import EnvelopeError
from forkbroker.wire.envelope import (
    HEADER,
    MAX_BATCH,
    VERSION,
    Buffer,
    Envelope,
    pack,
    pack_offer,
    pack_pieces,
    pack_settle,
    read_length,
    with_fence,
)
from forkbroker.wire.kinds import FROM_CHILD, FROM_PARENT, Flag, Kind, Outcome

U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
BODIES = st.one_of(
    st.lists(st.binary(max_size=20), min_size=1, max_size=20),
    st.builds(lambda body, count: [body] * count, st.binary(max_size=20), st.integers(1, 20)),
)


def join(buffers: list[Buffer]) -> bytes:
    return b"".join(buffers)


def make_send(bodies: list[bytes], *, flags: int = 0, block: bytes = b"session-1\na:b\n\n", index: int = 0) -> Envelope:
    needed, payload = pack_pieces(bodies)
    raw = join(
        pack(
            Kind.SEND,
            flags=flags | needed,
            count=len(bodies),
            index=index,
            destination=b"/queue/a",
            block=block,
            payload=payload,
        )
    )
    return Envelope(raw)


def make_offer(message: Envelope, first: int, count: int, origin: bytes = b"") -> Envelope:
    offer = pack_offer(
        message,
        first=first,
        count=count,
        token=3,
        slot=4,
        number=5,
        serial=6,
        deliveries=7,
        destination=b"/queue/b",
        origin=origin,
    )
    return Envelope(join(offer))


def bytes_of(pieces: list[Buffer]) -> list[bytes]:
    return [bytes(piece) for piece in pieces]


# ---------------------------------------------------------------- round trips


@given(
    kind=st.sampled_from(Kind),
    flags=st.integers(0, 511).map(lambda flags: flags & ~Flag.DEAD),
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
    assert envelope.origin == b""
    assert read_length(envelope.raw, 0) == len(envelope.raw)


@given(BODIES)
def test_pieces_come_out_as_they_went_in(bodies: list[bytes]) -> None:
    """Of one length or of many."""
    envelope = make_send(bodies)

    assert bytes_of(envelope.pieces()) == bodies
    assert bool(envelope.flags & Flag.UNIFORM) == (len({len(body) for body in bodies}) == 1)


@given(BODIES, st.data())
def test_bounds_are_where_the_pieces_are(bodies: list[bytes], data: st.DataObject) -> None:
    """Of any part of a batch."""
    envelope = make_send(bodies)
    first = data.draw(st.integers(0, len(bodies) - 1))
    count = data.draw(st.integers(1, len(bodies) - first))

    start, end = envelope.bounds(first, count)

    assert bytes(envelope.raw[start:end]) == b"".join(bodies[first : first + count])


@given(BODIES, st.data(), st.sampled_from([b"", b"/queue/origin"]), st.sampled_from([0, Flag.ESCAPED, Flag.MIXED]))
def test_any_part_of_a_batch_can_be_offered(bodies: list[bytes], data: st.DataObject, origin: bytes, flag: int) -> None:
    """With its place in the batch, the block and the flags that belong to it."""
    message = make_send(bodies, flags=flag | Flag.FENCE, index=100)
    first = data.draw(st.integers(0, len(bodies) - 1))
    count = data.draw(st.integers(1, len(bodies) - first))

    offer = make_offer(message, first, count, origin)

    assert bytes_of(offer.pieces()) == bodies[first : first + count]
    assert (offer.kind, offer.block, offer.index, offer.count) == (Kind.OFFER, message.block, 100 + first, count)
    assert (offer.token, offer.slot, offer.number, offer.serial, offer.deliveries) == (3, 4, 5, 6, 7)
    assert (offer.destination, offer.origin) == (b"/queue/b", origin)
    kept = Flag.UNIFORM | Flag.ESCAPED | Flag.MIXED
    assert offer.flags == (message.flags & kept) | (Flag.DEAD if origin else 0)


@given(st.lists(st.tuples(U64, U32, st.sampled_from(Outcome)), max_size=20), U32)
def test_settlements_come_out_as_they_went_in(entries: list[tuple[int, int, Outcome]], token: int) -> None:
    """In their order."""
    envelope = Envelope(join(pack_settle(token, entries)))

    assert list(envelope.settlements()) == entries
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
    buffers = pack_offer(
        envelope, first=0, count=1, token=1, slot=1, number=1, serial=1, deliveries=0, destination=b"/queue/a"
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
        (Flag.DEAD, 1, b""),
        (Flag.DEAD, 1, b"\0\5ab"),
        (Flag.DEAD | Flag.UNIFORM, 1, b"\0\5ab"),
    ],
)
def test_pieces_that_do_not_add_up_are_refused(flags: int, count: int, payload: bytes) -> None:
    """Before memory is taken for them."""
    envelope = Envelope(join(pack(Kind.OFFER, flags=flags, count=count, payload=[payload])))

    with pytest.raises(EnvelopeError):
        envelope.pieces()
    with pytest.raises(EnvelopeError):
        envelope.bounds(0, count)


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


@given(BODIES, st.sampled_from([b"", b"/queue/o"]), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255))))
def test_damage_raises_the_one_error(bodies: list[bytes], origin: bytes, damage: list[tuple[int, int]]) -> None:
    """Or gives something decodable: never another error."""
    raw = bytearray(make_offer(make_send(bodies), 0, len(bodies), origin).raw)
    for position, value in damage:
        raw[position % len(raw)] = value

    read_everything(bytes(raw))
    read_everything(join(pack(Kind.TRANSACTION, count=1, payload=[raw])))


def read_everything(raw: bytes) -> None:
    """Whatever a receiver may ask."""
    for read in (Envelope.pieces, Envelope.nested, lambda envelope: list(envelope.settlements())):
        try:
            envelope = Envelope(raw)
            assert len(envelope.destination) + len(envelope.block) + len(envelope.payload) == len(raw) - HEADER.size
            read(envelope)
            assert envelope.origin is not None
        except EnvelopeError:
            continue


# ---------------------------------------------------------------- kinds


def test_every_kind_has_a_sender() -> None:
    """A child or the parent; SEND goes both ways."""
    assert set(FROM_CHILD) | FROM_PARENT == set(Kind)
    assert set(FROM_CHILD) & FROM_PARENT == {Kind.SEND}
