"""What is decided without a process: URLs, groups, pages; and the two backends against each other."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkbroker.errors import ConfigurationError, EnvelopeError
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
    Store,
    Update,
)
from forkbroker.store.group import Group
from forkbroker.store.locate import default_url, make_store
from forkbroker.store.memory import MemoryStore
from forkbroker.store.pages import pack_pages, unpack_messages
from forkbroker.store.sqlite import SqliteStore
from forkbroker.wire.details import DURABLY, Details
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Flag, Kind
from store.driven import bodies_of, delete, move, transaction, write

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


# -- groups


def envelope(buffers: list[bytes | bytearray | memoryview]) -> Envelope:
    """As the other side gets it."""
    return Envelope(b"".join(buffers))


def group_of(*changes: list[bytes | bytearray | memoryview]) -> Group:
    """All of these in one."""
    group = Group()
    for change in changes:
        group.add(envelope(change))
    return group


def test_a_group_knows_its_last_number() -> None:
    """Without any there is nothing to commit."""
    assert not group_of()
    assert group_of(write(3, [b"a"]), delete(4, 1)).number == 4


def test_a_message_that_is_settled_in_its_group_is_not_written() -> None:
    """The deletion stays: a process before this one may have written it."""
    group = group_of(write(1, [b"a", b"b", b"c"]), delete(2, 2), delete(3, 1))

    assert [type(change) for change in group.take_changes()] == [Message, Delete, Delete]
    assert group.cancelled == 2


def test_a_message_that_was_moved_is_written() -> None:
    """Its old serial means nothing any more."""
    group = group_of(write(1, [b"a"]), move(2, 1, 1, 5), delete(3, 5), delete(4, 1))

    assert [type(change) for change in group.take_changes()] == [Message, Move, Delete, Delete]


def test_what_is_no_change_breaks_the_contract() -> None:
    """Also within a transaction."""
    with pytest.raises(EnvelopeError, match="PAGED"):
        group_of(transaction(1, pack(Kind.PAGED)))


# -- pages


def messages(*serials: int, **fields: object) -> list[Message]:
    """Of one batch, whose first message had the number 0."""
    return [
        Message(serial, b"/queue/a", b"%d-s-1" % serial, b"a:b\n", b"body")._replace(**fields) for serial in serials
    ]


def pages_of(items: list[Message | Chunk], recovered_before: int = 0) -> list[Envelope]:
    """What goes to the parent."""
    return [envelope(page) for page in pack_pages(items, recovered_before=recovered_before)]


@pytest.mark.parametrize(
    ("items", "counts"),
    [
        (messages(1, 2, 3), [3]),
        (messages(1, 3), [1, 1]),
        (messages(1) + messages(2, message_id=b"7-s-1"), [1, 1]),
        (messages(1) + messages(2, message_id=b"2-s-2"), [1, 1]),
        (messages(1) + messages(2, deliveries=1), [1, 1]),
        (messages(1) + messages(2, details=Details(persistent=True, expires=5)), [1, 1]),
        (messages(1) + messages(2, queue=b"/queue/b"), [1, 1]),
        (messages(1) + messages(2, headers=b"c:d\n"), [2]),
        (messages(*range(1, 1030)), [1024, 5]),
        (messages(1, 2, message_id=b""), [1, 1]),
        (messages(1, message_id=b"99999999999-s-1"), [1]),
    ],
)
def test_what_came_together_and_has_one_fate_is_one_page(items, counts) -> None:
    """And nothing else."""
    pages = pages_of(items)

    assert [page.count for page in pages] == counts
    assert [bytes(body) for body in bodies_of(pages)] == [
        b"%s\n%s" % (item.headers, item.body) if pages[0].flags & Flag.MIXED else item.body for item in items
    ]


def test_what_may_have_been_delivered_is_marked() -> None:
    """Up to a serial, and in a page of its own."""
    pages = pages_of(messages(1, 2, 3), recovered_before=3)

    assert [(page.count, bool(page.flags & Flag.RECOVERED)) for page in pages] == [(2, True), (1, False)]


def test_a_backslash_is_told() -> None:
    """Clients of older versions need the headers translated."""
    (page,) = pages_of(messages(1) + messages(2, headers=b"c:\\c\n"))

    assert page.flags & Flag.ESCAPED


@given(
    st.lists(st.tuples(st.sampled_from([b"", b"a:b\n", b"c:\\n\n"]), st.binary(max_size=20)), min_size=1, max_size=30),
    st.integers(0, 3),
)
def test_rows_make_the_pages_of_which_they_were_made(rows, deliveries) -> None:
    """There and back."""
    items = [
        Message(10 + place, b"/queue/a", b"%d-s-1" % (5 + place), headers, body, deliveries)
        for place, (headers, body) in enumerate(rows)
    ]

    pages = pages_of(items)
    again = [message for page in pages for message in unpack_messages(page)[0]]

    assert again == items


# -- both backends

_SERIALS = st.integers(1, 12)
_QUEUES = st.sampled_from([b"/queue/a", b"/queue/b"])
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


def _message(half: int, queue: bytes, body: bytes, details: Details) -> Message:
    return Message(2 * half, queue, b"1-s-1", b"a:b\n", body, 0, details)


def _chunk(half: int, queue: bytes, priority: int) -> Chunk:
    return Chunk(2 * half + 1, queue, priority, 2, b"octets")


def _move(first: int, count: int, shift: int, queue: bytes, details: Details) -> Move:
    return Move(first, first + count, first + (20 * shift), 7 * shift, queue, 2, details)


_CHANGES = st.one_of(
    st.builds(_message, _SERIALS, _QUEUES, st.binary(max_size=9), _DETAILS),
    st.builds(_chunk, _SERIALS, _QUEUES, st.sampled_from([4, 9])),
    _ranges(Delete),
    _ranges(Update, st.integers(0, 3), st.integers(0, 2)),
    st.builds(_move, _SERIALS, st.integers(0, 4), st.integers(0, 2), _QUEUES, _DETAILS),
    st.builds(Purge, _QUEUES),
    st.builds(Define, _QUEUES, st.just(b"/topic/t"), st.integers(0, 9)),
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
                    lasting.write(step)
                    passing.write(step)
                else:
                    assert lasting.read(*step) == passing.read(*step)
                assert _stock(lasting) == _stock(passing)
        finally:
            lasting.close(in_order=True)
