"""What is decided without a process: URLs; and the two backends against each other."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkbroker.errors import ConfigurationError
from forkbroker.store.api import (
    Change,
    Chunk,
    Define,
    Delete,
    Forget,
    Message,
    Move,
    Purge,
    Remember,
    SerialTakenError,
    Store,
    Update,
)
from forkbroker.store.locate import default_url, make_store
from forkbroker.store.memory import MemoryStore
from forkbroker.store.sqlite import SqliteStore
from forkbroker.wire.details import DURABLY, Details

# -- where the store is


def test_the_default_is_where_the_service_manager_says() -> None:
    """The first directory of several."""
    assert default_url({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, 1000) == "sqlite:///var/lib/a/queues.db"


def test_the_default_for_root_is_the_systems() -> None:
    """As FHS has it."""
    assert default_url({}, 0) == "sqlite:///var/lib/forkbroker/queues.db"


def test_the_default_for_others_is_their_own() -> None:
    """As XDG has it; a relative directory does not count."""
    assert default_url({"XDG_STATE_HOME": "/home/a/s"}, 1000) == "sqlite:///home/a/s/forkbroker/queues.db"
    assert default_url({"XDG_STATE_HOME": "s"}, 1000).endswith("/.local/state/forkbroker/queues.db")


def test_an_unknown_store_is_refused_with_those_that_there_are() -> None:
    """And with where others come from."""
    with pytest.raises(ConfigurationError, match=r"memory:, sqlite:.*packages"):
        make_store("redis://localhost")


@pytest.mark.parametrize("url", ["memory:lots", "memory://", "memory:0"])
def test_the_memory_store_wants_a_size(url) -> None:
    """Or none."""
    with pytest.raises(ConfigurationError, match="512MiB"):
        make_store(url)


def test_the_size_of_the_memory_store_is_what_is_free() -> None:
    """In octets, or in KiB, MiB and GiB."""
    assert make_store("memory:").free() == 256 << 20
    assert make_store("memory:3KiB").free() == 3072


def test_to_make_a_store_touches_nothing(tmp_path) -> None:
    """That is for its process to do."""
    make_store(f"sqlite://{tmp_path}/a/queues.db")

    assert list(tmp_path.iterdir()) == []


# -- both backends

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
    st.builds(Remember, _QUEUES, st.sampled_from([b"x", b"y"]), st.integers(4_000_000_000_000, 4_000_000_000_009)),
)
_READS = st.tuples(_QUEUES, st.sampled_from([4, 9]), st.integers(0, 30), st.integers(1, 400))


def _stock(store: Store) -> tuple[object, ...]:
    return (
        sorted(store.backlog()),
        sorted(store.durables()),
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


@settings(max_examples=150, deadline=None)
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
