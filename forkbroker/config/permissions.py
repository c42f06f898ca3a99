"""The tables of the configuration file that say who may do what, and where.

    [groups]
    workers = ["alice", "bob"]

    [permissions.group.workers]
    read = ["/queue/jobs.>"]
    write = "/queue/results"

    [permissions.user.alice]
    manage = "/queue/jobs.>"

    [permissions.all-users]
    read = "/topic/%u.>"
    write = "/topic/%u.>"

    [permissions.anonymous]
    read = "/topic/news"

    [quotas.group.workers]
    connections = 10
    bytes-per-second = "1 MiB"

    [hosts.shop]
    names = ["shop.example"]
    groups = ["workers"]

Each key of a table of permissions is a right, and its value one pattern or several (`forkbroker.permissions`). Quotas
are read in `forkbroker.config.quotas`, hosts in `forkbroker.config.hosts`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from forkbroker.config.hosts import HOSTS, read_hosts
from forkbroker.config.quotas import QUOTAS, read_quotas
from forkbroker.config.subjects import NAME_IT, read_subjects
from forkbroker.config.suggesting import list_words, suggest
from forkbroker.config.toml_tables import Lines, Path, TomlTables
from forkbroker.config.users import UserFile
from forkbroker.errors import ConfigurationFileError
from forkbroker.patterns import PatternError, check_pattern
from forkbroker.permissions import ANONYMOUS, RIGHTS, Grant, Permissions, fill

GROUPS, PERMISSIONS = "groups", "permissions"
TABLES = (GROUPS, PERMISSIONS, QUOTAS, HOSTS)

_PREFIXES = ("/queue/", "/topic/", "/dsub/", "/control/")
_PERCENT = re.compile(r"%(?![u%])")
_TEMPORARY = ("/temp-queue/", "/temp-topic/", "/reply-queue/", "/reply-topic/")
_SOMEBODY = "x"
"""A name to check patterns with."""


def read_permissions(values: Mapping[str, object], lines: Lines, name: str) -> Permissions:
    """Read the tables of a file that is called `name`.

    Raises:
        ConfigurationFileError: they have mistakes.
    """
    tables = TomlTables(lines, name)
    groups = _read_groups(tables, values.get(GROUPS, {}))
    quotas = read_quotas(tables, values.get(QUOTAS, {}), groups)
    grants = tuple(_read_grants(tables, values[PERMISSIONS], groups)) if PERMISSIONS in values else None
    return Permissions(grants, groups, quotas=quotas, hosts=read_hosts(tables, values.get(HOSTS, {}), groups))


def add_groups(permissions: Permissions, users: UserFile) -> Permissions:
    """These permissions, with the members of groups that the password file names.

    Raises:
        ConfigurationFileError: a group that there is not, where it would matter: whoever has mistyped it would give
            nothing, without a word.
    """
    for group, where in users.places.items():
        if group not in permissions.groups and _needs_groups(permissions):
            remedy = suggest(group, permissions.groups, NAME_IT)
            raise ConfigurationFileError(where, f"unknown group {group}", remedy)
    groups = {
        group: tuple(dict.fromkeys([*permissions.groups.get(group, ()), *users.groups.get(group, ())]))
        for group in {**permissions.groups, **users.groups}
    }
    return replace(permissions, groups=groups)


def _needs_groups(permissions: Permissions) -> bool:
    """Something is said of groups, or could be."""
    return bool(permissions.grants is not None or permissions.quotas or permissions.hosts.all)


def _read_groups(tables: TomlTables, found: object) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for group, members in tables.read_table(found, (GROUPS,), 'write groups as in workers = ["alice", "bob"]'):
        here = (GROUPS, group)
        tables.check_name(group, here)
        groups[group] = tuple(tables.check_name(member, here) for member in tables.read_texts(members, here))
    return groups


def _read_grants(tables: TomlTables, found: object, groups: Iterable[str]) -> Iterator[Grant]:
    for subject, rights, path in read_subjects(tables, PERMISSIONS, found, groups):
        for right, patterns in tables.read_table(rights, path, 'write rights as in read = "/queue/jobs"'):
            here = (*path, right)
            if right not in RIGHTS:
                otherwise = f"write {list_words(tuple(RIGHTS))}"
                raise tables.fault(here, "unknown right", suggest(right.lower(), RIGHTS, otherwise))
            for pattern in tables.read_texts(patterns, here):
                _check_pattern(tables, pattern, subject, here)
                yield Grant(subject, right, pattern, tables.line(here))


def _check_pattern(tables: TomlTables, text: str, subject: str, path: Path) -> None:
    def fault(problem: str, remedy: str) -> ConfigurationFileError:
        return tables.fault_of_value(path, f'"{text}"', problem, remedy)

    if text.startswith(_TEMPORARY):
        raise fault("temporary destinations are their session's own, and need no right", "leave it out")
    if not (text.startswith(_PREFIXES) or text == "/>") or text in _PREFIXES:
        raise fault("not a destination", f"begin it with {list_words(_PREFIXES)}, or write />")
    if _PERCENT.search(text.replace("%%", "")):
        raise fault("% stands alone", "write %u for the user's name, or %% for %")
    if subject == ANONYMOUS and "%u" in text.replace("%%", ""):
        raise fault("clients without a login have no name", "write no %u here")
    try:
        check_pattern(fill(text, _SOMEBODY))
    except PatternError as error:
        raise fault(str(error), "give a name, or one with *, # or >") from None
