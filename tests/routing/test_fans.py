"""What is sent to several durable subscriptions: told once, and cut where it is too much."""

from __future__ import annotations

import pytest

from forkbroker.routing.keeping import fans
from forkbroker.routing.keeping.fans import Fan, Piece
from forkbroker.routing.keeping.journal import Journal
from forkbroker.routing.kit import Kit
from forkbroker.routing.queues.runs import Run, make_run
from forkbroker.routing.queues.window import Window
from forkbroker.wire.details import DURABLY, PLAIN, Details
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.fan import unpack_fan
from forkbroker.wire.kinds import Kind

from .simulation import make_send

QUEUES = [b"/dsub/%d" % number for number in range(10)]


def run_of(*bodies: bytes, serial: int = 5, details: Details = DURABLY) -> Run:
    """Messages of one SEND."""
    return make_run(make_send(b"/topic/t", bodies), serial, details)


def packed(piece: Piece) -> Envelope:
    """As the store gets it."""
    return Envelope(b"".join(piece.pack(7)))


def test_queues_that_know_the_same_of_a_batch_share_a_piece() -> None:
    """Another expiry, another piece."""
    run = run_of(b"x", b"yy")
    fan = Fan(run.envelope)
    late = make_run(run.envelope, 9, Details(persistent=True, expires=8))

    assert fan.add(b"/dsub/a", run)
    assert fan.add(b"/dsub/b", make_run(run.envelope, 7, DURABLY))
    assert fan.add(b"/dsub/c", late)
    (both, alone) = map(packed, fan.pieces)

    targets, batch = unpack_fan(both)
    assert targets == [(5, b"/dsub/a"), (7, b"/dsub/b")]
    assert (both.number, batch.kind, batch.pieces(), batch.details) == (7, Kind.WRITE, [b"x", b"yy"], DURABLY)
    assert (alone.kind, alone.number, alone.serial, alone.destination) == (Kind.WRITE, 7, 9, b"/dsub/c")
    assert alone.details.expires == 8


def test_another_batch_is_none_of_the_fans() -> None:
    """A dead letter that has to make room, for one."""
    assert not Fan(run_of(b"x").envelope).add(b"/queue/DLQ", run_of(b"x"))


def test_what_becomes_of_a_run_afterwards_changes_nothing() -> None:
    """It may be cut, and its front dropped, before the fan is told."""
    run = run_of(b"a", b"b", b"c")
    fan = Fan(run.envelope)
    fan.add(b"/dsub/a", run)
    fan.add(b"/dsub/b", make_run(run.envelope, 8, DURABLY))
    run.split(2)

    (piece,) = fan.pieces
    targets, batch = unpack_fan(packed(piece))
    assert targets == [(5, b"/dsub/a"), (8, b"/dsub/b")]
    assert batch.pieces() == [b"a", b"b", b"c"]


def test_what_is_not_persistent_is_spilled() -> None:
    """To one or to many."""
    run = run_of(b"x", details=PLAIN)

    assert packed(Piece(run, [(5, b"/dsub/a")])).kind is Kind.SPILL
    assert unpack_fan(packed(Piece(run, [(5, b"/dsub/a"), (6, b"/dsub/b")])))[1].kind is Kind.SPILL


@pytest.mark.parametrize(("limit", "sizes"), [(10, [10]), (9.99, [9, 1]), (3, [3, 3, 3, 1]), (0.5, [1] * 10)])
def test_a_piece_is_cut_where_the_store_would_have_too_much_to_write(monkeypatch, limit, sizes) -> None:
    """Never below one queue; each keeps its serial."""
    piece = Piece(run_of(bytes(1000)), [(100 + place, queue) for place, queue in enumerate(QUEUES)])
    monkeypatch.setattr(fans, "FAN_OCTETS", int(limit * piece.octets / 10))
    parts = list(piece.cut())

    assert [len(part.targets) for part in parts] == sizes
    assert [target for part in parts for target in part.targets] == piece.targets
    assert all(part.octets <= fans.FAN_OCTETS or len(part.targets) == 1 for part in parts)


def test_a_piece_is_what_the_store_writes_in_one_group() -> None:
    """8 MiB: to change one alone makes groups that are larger than the store's."""
    assert fans.FAN_OCTETS == 8 * 1024 * 1024


@pytest.mark.parametrize(("limit", "sizes"), [(1_000, [10]), (170, [10]), (169, [9, 1]), (17, [1] * 10), (1, [1] * 10)])
def test_a_piece_is_cut_where_its_list_of_queues_is_too_long(monkeypatch, limit: int, sizes: list[int]) -> None:
    """However little there is to write: an envelope has no room for more names. One that is too long goes alone."""
    monkeypatch.setattr(fans, "NAMES_OCTETS", limit)
    run = run_of(b"x")
    piece = Piece(run, [(10 + at, queue) for at, queue in enumerate(QUEUES)])

    parts = list(piece.cut())

    assert [len(part.targets) for part in parts] == sizes
    assert [target for part in parts for target in part.targets] == piece.targets
    assert [len(part.targets) for part in piece.cut_names()] == sizes


def test_a_list_of_queues_is_cut_within_a_transaction_as_well() -> None:
    """It is several parts of one change then."""
    kit = Kit(lambda: 0.0)
    journal = Journal(kit, Window(1 << 20))
    journal.opened()
    run = run_of(b"x")
    names = [b"/dsub/%060000d" % number for number in range(20)]
    with journal.one_change(), journal.fan_out(run.envelope, len(names)):
        for number, name in enumerate(names):
            journal.write(name, make_run(run.envelope, 10 + number, DURABLY))

    told = [
        Envelope(b"".join(buffers)) for _, buffers in kit.out if Envelope(b"".join(buffers)).kind is not Kind.RETOLD
    ]
    assert [(each.kind, each.number, each.count) for each in told] == [
        (Kind.FAN, 0, 8), (Kind.FAN, 0, 8), (Kind.FAN, 0, 4), (Kind.TOGETHER, 1, 3),
    ]  # fmt: skip
    assert max(len(each.raw) for each in told) < fans.NAMES_OCTETS + 1_000
