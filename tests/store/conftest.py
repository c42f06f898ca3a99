"""A store's process, with a test in the place of the broker's parent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("forkbroker.testing.stores")

from support.leftovers import Leftovers  # noqa: E402 (behind the registration)

from forkbroker.store.api import Store  # noqa: E402
from forkbroker.store.locate import make_store  # noqa: E402
from forkbroker.store.sqlite import SqliteStore  # noqa: E402
from store.driven import DrivenStore  # noqa: E402

StartStore = Callable[..., DrivenStore]


@pytest.fixture(autouse=True)
def leftovers() -> Iterator[None]:
    """Fail a test that leaves a descriptor or a child."""
    before = Leftovers()
    yield
    before.check()
    with pytest.raises(ChildProcessError):
        os.wait4(-1, os.WNOHANG)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "queues.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """The database, closed in disorder at the end; a test opens it."""
    store = SqliteStore(f"sqlite://{path}")
    yield store
    store.close(in_order=False)


@pytest.fixture
def start_store(tmp_path: Path) -> Iterator[StartStore]:
    """Start processes of the store, on `URL` or the test's own database; all that are left are killed at the end."""
    started: list[DrivenStore] = []
    stores: dict[str, Store] = {}

    def start(url: str | None = None, *, is_fresh: bool = True, **settings: object) -> DrivenStore:
        url = url or f"sqlite://{tmp_path}/queues.db"
        if is_fresh or url not in stores:
            # another broker has another one
            stores[url] = make_store(url)
        driven = DrivenStore(stores[url], is_fresh=is_fresh, **settings)  # type: ignore[arg-type]
        started.append(driven)
        return driven

    yield start
    for driven in started:
        driven.end()
