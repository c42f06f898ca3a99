"""Which backend an URL means, and where the store is when nobody says.

Packages add backends with an entry point in the group `forkbroker.stores`: its name is the scheme of their URLs, and
it names a class as in `forkbroker.store.api`. The two that come with the broker are found without their entry points,
too, as in a directory that was only unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from forkbroker.errors import ConfigurationError
from forkbroker.store.api import Store

GROUP = "forkbroker.stores"

_OURS = (
    EntryPoint("memory", "forkbroker.store.memory:MemoryStore", GROUP),
    EntryPoint("sqlite", "forkbroker.store.sqlite:SqliteStore", GROUP),
)


def default_url(environ: Mapping[str, str], user: int) -> str:
    """SQLite, in the directory that the service manager gives, or the system or the user has for this.

    `user` is the number of the user who starts the broker.
    """
    return f"sqlite://{_state_directory(environ, user) / 'queues.db'}"


def _state_directory(environ: Mapping[str, str], user: int) -> Path:
    # systemd.exec(5): several are separated by colons
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    if user == 0:
        return Path("/var/lib/forkbroker")
    # XDG Base Directory Specification: a relative one is to be ignored
    home = environ.get("XDG_STATE_HOME", "")
    return (Path(home) if home.startswith("/") else Path("~/.local/state").expanduser()) / "forkbroker"


def make_store(url: str) -> Store:
    """The store that `url` means, not opened yet, with all its modules imported.

    Raises:
        ConfigurationError: there is no such backend, or it can't be used, or it doesn't understand the rest of the URL.
    """
    scheme, colon, _ = url.partition(":")
    found = _find()
    if not colon or scheme not in found:
        raise ConfigurationError(
            url,
            "no such store",
            f"begin with one of {', '.join(f'{name}:' for name in sorted(found))}; packages can add others",
        )
    return _load(url, found[scheme])(url)


def _find() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in (*entry_points(group=GROUP), *_OURS)}


def _load(url: str, entry: EntryPoint) -> type[Store]:
    try:
        backend = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            url, f"its backend cannot be loaded ({error})", f"see to the package that has {entry.value}"
        ) from error
    if not (isinstance(backend, type) and issubclass(backend, Store)):
        raise ConfigurationError(url, f"{entry.value} is no store", "it should be a class of forkbroker.store.api")
    return backend
