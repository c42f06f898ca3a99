"""What a client's child may send: an honest envelope of each kind, and lies, made of it for hypothesis."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st

from forkbroker.wire.details import DEFAULT_PRIORITY, Wishes
from forkbroker.wire.envelope import HEADER, MAX_BATCH, SETTLEMENT, VERSION, Envelope, pack, pack_pieces, pack_settle
from forkbroker.wire.kinds import FROM_CHILD, Flag, Kind, Outcome

_UNIFORM, _TWO = pack_pieces([b"a", b"b"])
BLOCK = b"-session-1\na:b\n\n"


def join(kind: Kind, **fields: object) -> bytes:
    """The octets of one envelope."""
    return b"".join(pack(kind, **fields))  # type: ignore[arg-type]


SEND: Mapping[str, object] = {
    "flags": _UNIFORM,
    "count": 2,
    "destination": b"/queue/a",
    "block": BLOCK,
    "payload": _TWO,
}

#: An envelope of each kind that a child may send, as a child that tells the truth sends it.
HONEST: dict[Kind, bytes] = {
    Kind.ADDRESS: join(Kind.ADDRESS, number=7, destination=b"192.0.2.1"),
    Kind.CONNECTED: join(Kind.CONNECTED, destination=b"alice"),
    Kind.SEND: join(Kind.SEND, **SEND),
    Kind.SUBSCRIBE: join(Kind.SUBSCRIBE, token=1, count=10, destination=b"/queue/a"),
    Kind.UNSUBSCRIBE: join(Kind.UNSUBSCRIBE, token=1, destination=b"/queue/a"),
    Kind.READY: join(Kind.READY),
    Kind.CLAIMED: join(Kind.CLAIMED, token=1, number=1),
    Kind.LOST: join(Kind.LOST, token=1, number=1),
    Kind.PASSED: join(Kind.PASSED, token=1, number=1),
    Kind.SETTLE: b"".join(pack_settle(1, [(1, 1, Outcome.ACKNOWLEDGED)])),
    Kind.PARK: join(Kind.PARK, token=1, serial=1, index=60_000, destination=b"default\nalice", block=b"k" * 32),
    Kind.UNPARK: join(Kind.UNPARK, token=Outcome.ACKNOWLEDGED, destination=b"default\nalice", block=b"k" * 32),
    Kind.TRANSACTION: join(Kind.TRANSACTION, count=1, payload=[join(Kind.SEND, **SEND)]),
    Kind.FENCE: join(Kind.FENCE, number=1),
    Kind.CONGESTED: join(Kind.CONGESTED),
    Kind.RELIEVED: join(Kind.RELIEVED),
    Kind.QUIESCED: join(Kind.QUIESCED),
    Kind.TRACED: join(Kind.TRACED, block=b"[]"),
    Kind.ASK: join(Kind.ASK, token=1, destination=b"queues", block=b"{}"),
    Kind.LEAVING: join(Kind.LEAVING, number=1, serial=1, block=b"client sent DISCONNECT"),
}


def _edges(bits: int) -> st.SearchStrategy[int]:
    most = 2**bits - 1
    near = [0, 1, 2, 3, MAX_BATCH - 1, MAX_BATCH, MAX_BATCH + 1, most // 2, most // 2 + 1, most - MAX_BATCH, most]
    return st.one_of(st.sampled_from([value for value in near if value <= most]), st.integers(0, most))


_U16, _U32, _U64 = map(_edges, (16, 32, 64))
_NAMES = st.sampled_from(
    [
        b"",
        b"/",
        b"x",
        b"/queue/",
        b"/queue/a",
        b"/queue/b",
        b"/topic/a",
        b"/topic/#",
        b"/topic/#.a",
        b"/topic/" + b"\xff" * 65_500,
        b"/reply-queue/a",
        b"/dsub/",
        b"/dsub/a",
        b"/dsub/" + b"a" * 65_529,
    ]
)
_BLOCKS = st.one_of(
    st.sampled_from(
        [b"", b"\n", b"-", b"-s-1\n", b"-s-1\n\n", b"-s-1\na:b\\n\n\n", b"/dsub/a", b"/dsub/" + b"x" * 70_000]
    ),
    st.binary(max_size=20),
)
_FLAGS = st.lists(st.sampled_from([*Flag, 8192, 32_768]), max_size=4).map(lambda flags: sum(set(flags)))
_BODIES = st.lists(st.sampled_from([b"", b"\n", b"\n\n", b"a:b\n\nx", b"x", b"x" * 40]), min_size=1, max_size=4)
_WISHES = st.builds(
    lambda *numbers, cron, dedup_id: (
        struct.pack(">BQQQQQi", *numbers) + b"".join(struct.pack(">H", len(text)) + text for text in (cron, dedup_id))
    ),
    st.one_of(st.just(DEFAULT_PRIORITY), st.integers(0, 255)),
    *[st.one_of(st.just(0), st.integers(0, 10_000), _U64)] * 5,
    st.one_of(st.just(0), st.integers(-(2**31), 2**31 - 1)),
    cron=st.sampled_from([b"", b"", b"* * * * *", b"0 0 31 2 *", b"often", b"\xff" * 300]),
    dedup_id=st.sampled_from([b"", b"", b"once", b"x" * 65_535]),
)
_SECTIONS = st.one_of(st.just(b""), st.just(Wishes(delay=1000).pack()), _WISHES, st.binary(max_size=60))


@st.composite
def _sends(draw: st.DrawFn) -> bytes:
    """A SEND whose pieces are in order, and whatever else may not be."""
    flags, payload = pack_pieces(draw(_BODIES))
    fields = dict(SEND, flags=flags | draw(_FLAGS), payload=payload, destination=draw(_NAMES), section=draw(_SECTIONS))
    fields["count"] = draw(st.one_of(st.just(len(payload[0]) // 4), st.integers(1, 4), _U32))
    fields["block"] = draw(st.one_of(st.just(BLOCK), st.just(b"-s-1\n"), _BLOCKS))
    return join(Kind.SEND, **fields)


@st.composite
def _anything(draw: st.DrawFn) -> bytes:
    """Each field may be anything; its lengths add up, and so it is an envelope."""
    kind = draw(st.sampled_from(sorted(FROM_CHILD)))
    honest = Envelope(HONEST[kind])
    name = draw(st.one_of(st.just(honest.destination), _NAMES))[:65_535]
    block = draw(st.one_of(st.just(honest.block), _BLOCKS))
    parts = st.lists(st.one_of(st.sampled_from(sorted(HONEST.values())), _sends()), max_size=3).map(b"".join)
    settled = st.lists(
        st.builds(lambda *entry: struct.pack(">QIB", *entry), _U64, _U32, st.integers(0, 6)), max_size=3
    ).map(b"".join)
    payload = draw(st.one_of(st.just(bytes(honest.payload)), parts, settled, st.binary(max_size=30)))
    numbers = [
        draw(st.one_of(st.just(value), strategy))
        for value, strategy in (
            (honest.flags, st.one_of(_FLAGS, _U16)),
            (honest.token, _U32),
            (honest.slot, _U32),
            (honest.index, _U32),
            (honest.count, _U32),
            (honest.number, _U64),
            (honest.serial, _U64),
            (honest.deliveries, _U16),
        )
    ]
    flags, token, slot, index, count, number, serial, deliveries = numbers
    size = HEADER.size + len(name) + len(block) + len(payload)
    header = HEADER.pack(
        size, VERSION, kind, flags, token, slot, index, count, number, serial, len(name), deliveries, len(block)
    )
    return header + name + block + payload


LIES = st.one_of(_anything(), _sends(), st.sampled_from(sorted(HONEST.values())))
"""Envelopes that a child may send that is not to be trusted: some of them are true."""


def make_lie(random: Random, names: Sequence[bytes], numbers: int, most: int) -> bytes:
    """One envelope of a child that is not to be trusted, about these names: honest, but for some of its fields.

    `numbers`: offers and serials near this one are other children's; `most`: octets that its channel takes.
    """
    kind = random.choice([*sorted(HONEST), *[Kind.SEND, Kind.TRANSACTION, Kind.SEND] * 4])
    honest = Envelope(HONEST[kind])
    name = random.choice(names) if honest.destination else b""
    fields: dict[str, Any] = {
        "flags": honest.flags, "token": honest.token, "index": honest.index, "count": honest.count,
        "number": honest.number, "serial": honest.serial, "destination": name, "block": honest.block,
        "payload": [bytes(honest.payload)],
    }  # fmt: skip
    if kind is Kind.SEND:
        fields.update(_make_send(random, name, most))
    elif kind is Kind.SETTLE:
        fields["payload"] = [SETTLEMENT.pack(random.randint(0, numbers + 1), random.choice([0, 1, 9]), 1)]
    elif kind is Kind.TRANSACTION:
        parts = [join(Kind.SEND, **{**SEND, **_make_send(random, random.choice(names), 0)}) for _ in range(2)]
        fields.update(payload=[random.choice(parts), *parts], count=random.choice([1, 3]))
    elif kind in (Kind.CLAIMED, Kind.LOST, Kind.PASSED):
        fields["number"] = random.randint(0, numbers + 1)
    for field in random.choices(
        ["flags", "token", "slot", "index", "count", "number", "serial"], k=random.choice(_FEW)
    ):
        bits = {"flags": 16, "number": 64, "serial": 64}.get(field, 32)
        fields[field] = random.choice(
            [0, 1, 2, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1, 1 << random.randrange(bits)]
        )
    return join(kind, **fields)


_FEW = [0, 0, 1, 1, 2]
"""How many fields of a lie are not what an honest child would write there."""


def _make_send(random: Random, name: bytes, most: int) -> dict[str, Any]:
    """A SEND to this name, with wishes that may be none; or, without any, as large as its channel takes."""
    if most and random.random() < 0.2:
        room = most - HEADER.size - len(name) - len(BLOCK) - 4
        flags, payload = pack_pieces([b"l" * room])
        return {"flags": flags | Flag.PERSISTENT, "destination": name, "count": 1, "payload": payload}
    wishes = Wishes(
        priority=random.choice([4, 4, 9, 10, 255]),
        expires=random.choice(_TIMES),
        ttl=random.choice(_TIMES),
        delay=random.choice(_TIMES),
        deliver_at=random.choice(_TIMES),
        period=random.choice([0, 0, 1, 1000]),
        repeat=random.choice([0, 0, 1, -1]),
    )
    flags = random.choice([0, Flag.PERSISTENT, Flag.PERSISTENT | Flag.MIXED])
    bodies = random.choice([[b"lie", b"LIE"], [b"a:b\n\nlie", b"\nlie"]])
    own_flags, payload = pack_pieces(bodies)
    section = random.choice([b"", wishes.pack(), b"\xff" * 60])
    return {
        "flags": flags | own_flags, "destination": name, "count": 2, "payload": payload, "section": section,
        "block": random.choice([BLOCK, BLOCK, b"-s-1\n", b""]),
    }  # fmt: skip


_TIMES = [0, 0, 0, 0, 1, 1000, 2**63, 2**64 - 1]
