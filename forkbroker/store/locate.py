"""Which backend an URL means, and where the store is when nobody says.

Packages add backends with an entry point in the group `forkbroker.stores`: its name is the scheme of their URLs, and
it names a class as in `forkbroker.store.api`. The two that come with the broker are found without their entry points,
too, as in a directory that was only unpacked, and before what the entry points say is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from forkbroker.errors import ConfigurationError
from forkbroker.store.api import Store

GROUP = "forkbroker.stores"

_OURS = {
    "memory": "forkbroker.store.memory:MemoryStore",
    "sqlite": "forkbroker.store.sqlite:SqliteStore",
}


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
    value = _OURS.get(scheme) if colon else None
    if value is None:
        others = _find_others()
        if not colon or scheme not in others:
            known = ", ".join(f"{name}:" for name in sorted({*others, *_OURS}))
            raise ConfigurationError(url, "no such store", f"begin with one of {known}; packages can add others")
        value = others[scheme]
    return _load(url, value)(url)


def _find_others() -> dict[str, str]:
    """The classes of other packages, by their schemes."""
    # with it come modules that nobody else needs
    from importlib.metadata import entry_points

    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def _load(url: str, value: str) -> type[Store]:
    """The class that `value` names, as an entry point does (`module:attribute`)."""
    module, _, attribute = value.partition(":")
    try:
        backend = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            url, f"its backend cannot be loaded ({error})", f"see to the package that has {value}"
        ) from error
    if not (isinstance(backend, type) and issubclass(backend, Store)):
        raise ConfigurationError(url, f"{value} is no store", "it should be a class of forkbroker.store.api")
    return backend
