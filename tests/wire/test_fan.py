"""FAN: a list of targets, and one batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.errors import EnvelopeError
from forkbroker.wire.envelope import Envelope, pack, pack_pieces
from forkbroker.wire.fan import address, pack_targets, unpack_fan
from forkbroker.wire.kinds import Kind

TARGETS = st.lists(st.tuples(st.integers(0, (1 << 64) - 1), st.binary(max_size=300)), min_size=1, max_size=20)


def batch(kind: Kind = Kind.WRITE, *, destination: bytes = b"", serial: int = 0) -> list[bytes]:
    form, payload = pack_pieces([b"a", b"bb"])
    buffers = pack(
        kind, flags=form, index=3, count=2, serial=serial, destination=destination, block=b"-s-1\n\n", payload=payload
    )
    return [bytes(buffer) for buffer in buffers]


def fan(block: bytes, count: int, payload: list[bytes]) -> Envelope:
    return Envelope(b"".join(pack(Kind.FAN, number=7, count=count, block=block, payload=payload)))


@given(TARGETS)
def test_targets_come_out_as_they_went_in(targets) -> None:
    """In their order, the batch beside them."""
    found, inner = unpack_fan(fan(pack_targets(targets), len(targets), batch()))

    assert found == targets
    assert (inner.kind, inner.pieces()) == (Kind.WRITE, [b"a", b"bb"])


@given(st.binary(max_size=80), st.integers(0, 5), st.binary(max_size=80))
def test_nonsense_is_an_error_of_the_envelope(block, count, payload) -> None:
    """And no other."""
    try:
        targets, _ = unpack_fan(fan(block, count, [payload]))
    except EnvelopeError:
        return
    assert len(targets) == count


@pytest.mark.parametrize(("count", "targets"), [(1, []), (0, []), (1, [(1, b"a"), (2, b"b")]), (3, [(1, b"a")])])
def test_the_count_has_to_be_that_of_the_targets(count, targets) -> None:
    """At least one."""
    with pytest.raises(EnvelopeError, match="FAN"):
        unpack_fan(fan(pack_targets(targets), count, batch()))


def test_a_name_that_is_cut_off_is_no_name() -> None:
    """Else messages would go to a queue that nobody has named."""
    block = pack_targets([(1, b"/queue/a"), (2, b"/queue/b")])

    with pytest.raises(EnvelopeError, match="the name of a queue ends at 36 of 35"):
        unpack_fan(fan(block[:-1], 2, batch()))


def test_only_messages_can_be_fanned_out() -> None:
    """A DELETE for several queues means nothing."""
    with pytest.raises(EnvelopeError, match="FAN of DELETE"):
        unpack_fan(fan(pack_targets([(1, b"a")]), 1, [bytes(pack(Kind.DELETE)[0])]))


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.SPILL])
@pytest.mark.parametrize("destination", [b"", b"/queue/longer/than/the/other"])
def test_addressed_to_one_queue_it_is_what_it_would_have_been_alone(kind, destination) -> None:
    """Octet for octet."""
    inner = Envelope(b"".join(batch(kind, destination=destination)))

    assert address(inner, (9, b"/queue/a")) == b"".join(batch(kind, destination=b"/queue/a", serial=9))
