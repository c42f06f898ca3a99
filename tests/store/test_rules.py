"""The two backends against each other: they do the same, whatever they are told."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from forkbroker.store.api import (
    Change,
    Chunk,
    Define,
    Delete,
    Forget,
    Message,
    Move,
    Note,
    Purge,
    Remember,
    SerialTakenError,
    Store,
    Update,
)
from forkbroker.store.memory import MemoryStore
from forkbroker.store.sqlite import SqliteStore
from forkbroker.wire.details import DURABLY, Details
from forkbroker.wire.kinds import Matter

_SERIALS = st.integers(1, 12)
_QUEUES = st.sampled_from([b"/queue/a", b"/dsub/b"])
_DETAILS = st.sampled_from(
    [
        DURABLY,
        Details(priority=9, persistent=True),
        Details(persistent=True, due=4_000_000_000_000),
        Details(persistent=True, expires=7, crashes=1),
    ]
)


def _ranges(maker: type[Delete], *rest: st.SearchStrategy[int]) -> st.SearchStrategy[Change]:
    return st.builds(lambda first, count, *more: maker(first, first + count, *more), _SERIALS, st.integers(0, 4), *rest)


def _message(half: int, queue: bytes, details: Details) -> Message:
    # a serial is one message's for ever, but for some of them
    return Message(2 * half, queue, b"1-s-1", b"a:b\n", b"%d" % min(half, 9), 0, details)


def _chunk(half: int, queue: bytes, priority: int) -> Chunk:
    return Chunk(2 * half + 1, queue, priority, 2, b"octets")


def _move(first: int, count: int, shift: int, queue: bytes, details: Details) -> Move:
    return Move(first, first + count, first + (20 * shift), 7 * shift, queue, 2, details)


_CHANGES = st.one_of(
    st.builds(_message, _SERIALS, _QUEUES, _DETAILS),
    st.builds(_chunk, _SERIALS, _QUEUES, st.sampled_from([4, 9])),
    _ranges(Delete),
    _ranges(Update, st.integers(0, 3), st.integers(0, 2)),
    st.builds(_move, _SERIALS, st.integers(0, 4), st.integers(0, 2), _QUEUES, _DETAILS),
    st.builds(Purge, _QUEUES),
    st.builds(Define, st.just(b"/dsub/b"), st.just(b"/topic/t"), st.integers(0, 9)),
    st.builds(Forget, _QUEUES),
    st.builds(Note, _QUEUES, st.sampled_from(Matter), st.sampled_from([None, b"1", b"2"])),
    st.builds(Remember, _QUEUES, st.sampled_from([b"x", b"y"]), st.integers(4_000_000_000_000, 4_000_000_000_009)),
)
_READS = st.tuples(_QUEUES, st.sampled_from([4, 9]), st.integers(0, 30), st.integers(1, 400))


def _stock(store: Store) -> tuple[object, ...]:
    return (
        sorted(store.backlog()),
        sorted(store.durables()),
        sorted(store.notes()),
        sorted(store.duplicates()),
        [_plain(item) for item in store.scheduled()],
    )


def _plain(item: Message | Chunk) -> Message | Chunk:
    return item._replace(raw=bytes(item.raw)) if isinstance(item, Chunk) else item._replace(body=bytes(item.body))


def _write(store: Store, changes: list[Change]) -> str:
    """Why not; empty if it is done."""
    try:
        store.write(changes)
    except SerialTakenError as error:
        return str(error)
    return ""


@settings(max_examples=150)
@given(st.lists(st.one_of(st.lists(_CHANGES, max_size=8), _READS), max_size=12))
def test_both_backends_do_the_same(steps) -> None:
    """Whatever is written, replaced, moved onto something else, and read."""
    with tempfile.TemporaryDirectory() as directory:
        lasting, passing = SqliteStore(f"sqlite://{Path(directory)}/q.db"), MemoryStore("memory:")
        for store in (lasting, passing):
            store.open(is_fresh=True)
        try:
            for step in steps:
                if isinstance(step, list):
                    refusals = [_write(store, step) for store in (lasting, passing)]
                    assert refusals[0] == refusals[1]
                    if refusals[0]:
                        return
                else:
                    assert lasting.read(*step) == passing.read(*step)
                assert _stock(lasting) == _stock(passing)
        finally:
            lasting.close(in_order=True)
