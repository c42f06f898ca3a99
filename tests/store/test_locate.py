"""Which backend a URL means, and where the store is if nothing is said."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from forkbroker.errors import ConfigurationError
from forkbroker.store.locate import GROUP, default_url, make_store
from forkbroker.store.memory import MemoryStore
from forkbroker.store.sqlite import SqliteStore


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


def test_an_empty_variable_of_the_service_manager_says_nothing(monkeypatch) -> None:
    """Then it is the user's own directory, under the home directory."""
    monkeypatch.setenv("HOME", "/home/alice")

    assert default_url({"STATE_DIRECTORY": ""}, 1000) == "sqlite:///home/alice/.local/state/forkbroker/queues.db"
    assert default_url({"STATE_DIRECTORY": "", "XDG_STATE_HOME": "/x"}, 0) == "sqlite:///var/lib/forkbroker/queues.db"


@pytest.mark.parametrize(("url", "sort"), [("memory:", MemoryStore), ("sqlite:///var/q.db", SqliteStore)])
def test_the_backends_of_the_broker_are_found_by_their_schemes(url, sort) -> None:
    """In a directory that was only unpacked, too."""
    assert type(make_store(url)) is sort


@pytest.mark.parametrize("url", ["sqlite", "memory", "", "/var/lib/queues.db", "SQLITE:///var/q.db"])
def test_what_has_no_scheme_is_no_store(url) -> None:
    """As a path is none."""
    with pytest.raises(ConfigurationError, match="no such store"):
        make_store(url)


def register(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Have a package with this backend under the scheme `mine`."""
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [EntryPoint("mine", value, group)])


def test_a_package_can_add_a_backend(monkeypatch) -> None:
    """By an entry point in the group; those of the broker stay."""
    register(monkeypatch, "forkbroker.store.memory:MemoryStore")

    # this one looks at its URL, which is not its own
    with pytest.raises(ConfigurationError, match="512MiB"):
        make_store("mine:7 apples")
    assert GROUP == "forkbroker.stores"
    assert type(make_store("memory:")) is MemoryStore


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (
            "no.such.package:Store",
            "its backend cannot be loaded .*; see to the package that has no.such.package:Store",
        ),
        ("forkbroker.store.memory:NoStore", "its backend cannot be loaded .*NoStore"),
        ("forkbroker.errors:Exit", "forkbroker.errors:Exit is no store; it should be a class of forkbroker.store.api"),
        ("forkbroker.store.locate:make_store", "make_store is no store"),
    ],
)
def test_a_backend_that_is_none_is_told(monkeypatch, value, problem) -> None:
    """With the package that has it."""
    register(monkeypatch, value)

    with pytest.raises(ConfigurationError, match=problem):
        make_store("mine:")


def test_the_directory_is_made_by_the_stores_process(tmp_path: Path) -> None:
    """For its user alone."""
    store = SqliteStore(f"sqlite://{tmp_path}/a/b/queues.db")
    store.open(is_fresh=True)
    store.close(in_order=True)

    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
