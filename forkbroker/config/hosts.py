"""[hosts]: virtual hosts, a table each (`forkbroker.hosts`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from forkbroker.config.subjects import unknown_group
from forkbroker.config.suggesting import list_words, suggest
from forkbroker.config.toml_tables import TomlTables
from forkbroker.hosts import ALWAYS_DEFAULT, DEFAULT, DEFAULT_NAMES, MAX_KEY, Host, Hosts

HOSTS = "hosts"

_LISTS = ("names", "users", "groups")
_KEYS = (*_LISTS, "control")
_KEY_OF_HOST = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_KEY}}}")


def read_hosts(tables: TomlTables, found: object, groups: Iterable[str]) -> Hosts:
    """Return all hosts; each name is that of one. Raises ConfigurationFileError."""
    return Hosts(tuple(_read_each(tables, found, groups)))


def _read_each(tables: TomlTables, found: object, groups: Iterable[str]) -> Iterator[Host]:
    known: dict[str, Host] = {}
    for key, values in tables.read_table(found, (HOSTS,), "write a table for each host, [hosts.shop]"):
        path = (HOSTS, key)
        if not _KEY_OF_HOST.fullmatch(key):
            remedy = f"name it by 1 to {MAX_KEY} letters, digits, _ and -, and give its names as names"
            raise tables.fault(path, "cannot be part of a name of a destination", remedy)
        host = _read_host(tables, key, values, groups)
        for name in host.names:
            here = (*path, "names")
            if name == ALWAYS_DEFAULT and not host.is_default:
                raise tables.fault(here, f"{name} always means the default host", "give another name")
            if name in known:
                raise tables.fault(here, f"{name} is a name of host {known[name].key} as well", "leave it out of one")
            known[name] = host
        yield host


def _read_host(tables: TomlTables, key: str, found: object, groups: Iterable[str]) -> Host:
    path = (HOSTS, key)
    values = dict(tables.read_table(found, path, 'write keys as in names = ["shop.example"]'))
    for name in values:
        if name not in _KEYS:
            raise tables.fault((*path, name), "unknown key", suggest(name, _KEYS, f"write {list_words(_KEYS)}"))
    texts = {name: tuple(tables.read_texts(values[name], (*path, name))) for name in _LISTS if name in values}
    for user in texts.get("users", ()):
        tables.check_name(user, (*path, "users"))
    for group in texts.get("groups", ()):
        if group not in groups:
            raise unknown_group(tables, (*path, "groups"), group, groups)
    control = values.get("control", key == DEFAULT)
    if not isinstance(control, bool):
        raise tables.fault((*path, "control"), "not true or false", "write true or false")
    names = texts.get("names", DEFAULT_NAMES if key == DEFAULT else (key,))
    for name in names:
        if not name or not name.isprintable():
            raise tables.fault((*path, "names"), f"{name!r} is no name of a host", "write it as clients do")
    lower = tuple(dict.fromkeys(name.lower() for name in names))
    return Host(key, lower, texts.get("users"), texts.get("groups"), control, tables.line(path))
