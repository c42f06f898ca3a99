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

Each key of a table of permissions is a right, and its value one pattern or several (`forkbroker.permissions`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

from forkbroker.config.users import UserFile
from forkbroker.config.values import number, size
from forkbroker.errors import ConfigurationError, ConfigurationFileError
from forkbroker.hosts import ALWAYS_DEFAULT, DEFAULT, DEFAULT_NAMES, MAX_KEY, Host, Hosts
from forkbroker.passwords import PasswordError, check_name
from forkbroker.patterns import PatternError, check_pattern
from forkbroker.permissions import (
    ALL_USERS,
    ANONYMOUS,
    QUOTA_KEYS,
    RIGHTS,
    Grant,
    Permissions,
    fill,
    group_subject,
    user_subject,
)

GROUPS, PERMISSIONS, QUOTAS, HOSTS = "groups", "permissions", "quotas", "hosts"
TABLES = (GROUPS, PERMISSIONS, QUOTAS, HOSTS)

_SUBJECTS = {"user": user_subject, "group": group_subject}
_KINDS = (*_SUBJECTS, ALL_USERS, ANONYMOUS)
_LIMITS = {
    "connections": number(1),
    "subscriptions": number(1),
    "messages-per-second": number(1),
    "bytes-per-second": size(1),
    "memory": size(67_108_864),
    "cpu": number(1),
    "nice": number(1, 19),
    "queues": number(1),
    "queue-bytes": size(1),
}
_HOST_KEYS = ("names", "users", "groups", "control")
_KEY_OF_HOST = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_KEY}}}")
_PREFIXES = ("/queue/", "/topic/", "/dsub/", "/control/")
_PERCENT = re.compile(r"%(?![u%])")
_TEMPORARY = ("/temp-queue/", "/temp-topic/", "/reply-queue/", "/reply-topic/")
_NAME_IT = "name its members in [groups], or give it none: []"
_SOMEBODY = "x"
"""A name to check patterns with."""

Lines = Mapping[tuple[str, ...], int]
"""The line of each key, by the names of its tables and its own."""


def read_permissions(values: Mapping[str, object], lines: Lines, name: str) -> Permissions:
    """Read the tables of a file that is called `name`.

    Raises:
        ConfigurationFileError: they have mistakes.
    """
    reader = _Reader(lines, name)
    groups = reader.read_groups(values.get(GROUPS, {}))
    quotas = dict(reader.read_quotas(values.get(QUOTAS, {}), groups))
    grants = tuple(reader.read_grants(values[PERMISSIONS], groups)) if PERMISSIONS in values else None
    return Permissions(
        grants, groups, quotas=quotas, hosts=Hosts(tuple(reader.read_hosts(values.get(HOSTS, {}), groups)))
    )


def add_groups(permissions: Permissions, users: UserFile) -> Permissions:
    """These permissions, with the members of groups that the password file names.

    Raises:
        ConfigurationFileError: a group that there is not, where it would matter: whoever has mistyped it would give
            nothing, without a word.
    """
    for group, where in users.places.items():
        if group not in permissions.groups and _needs_groups(permissions):
            close = get_close_matches(group, list(permissions.groups), 1)
            remedy = f"write {close[0]}" if close else _NAME_IT
            raise ConfigurationFileError(where, f"unknown group {group}", remedy)
    groups = {
        group: tuple(dict.fromkeys([*permissions.groups.get(group, ()), *users.groups.get(group, ())]))
        for group in {**permissions.groups, **users.groups}
    }
    return replace(permissions, groups=groups)


def _needs_groups(permissions: Permissions) -> bool:
    """Something is said of groups, or could be."""
    return bool(permissions.grants is not None or permissions.quotas or permissions.hosts.all)


def list_permissions(permissions: Permissions) -> Iterator[str]:
    """Return the lines of a configuration file that has these tables, each with its source."""
    if permissions.groups:
        yield ""
        yield f"[{GROUPS}]"
    for group, members in permissions.groups.items():
        yield f"{_write_key(group)} = {json.dumps(list(members), ensure_ascii=False)}"
    if permissions.grants is not None:
        yield ""
        yield f"[{PERMISSIONS}]"
    table: dict[str, dict[str, list[Grant]]] = {}
    for grant in permissions.grants or ():
        table.setdefault(grant.subject, {}).setdefault(grant.right, []).append(grant)
    for subject, rights in table.items():
        yield ""
        yield _write_header(PERMISSIONS, subject)
        for right, grants in rights.items():
            patterns = json.dumps([grant.pattern for grant in grants], ensure_ascii=False)
            yield f"{right} = {patterns} # {grants[0].where}"

    names = {field: key for key, field in QUOTA_KEYS.items()}
    for subject, limits in permissions.quotas.items():
        yield ""
        yield _write_header(QUOTAS, subject)
        for field, limit in limits.items():
            yield f"{names[field]} = {limit}"
    for host in permissions.hosts.all:
        yield from ("", f"[{HOSTS}.{host.key}]", f"names = {_write_texts(host.names)} # {host.where}")
        yield from (f"users = {_write_texts(host.users)}",) if host.users is not None else ()
        yield from (f"groups = {_write_texts(host.groups)}",) if host.groups is not None else ()
        yield f"control = {'true' if host.control else 'false'}"


def _write_texts(texts: Sequence[str]) -> str:
    return json.dumps(list(texts), ensure_ascii=False)


def _write_header(table: str, subject: str) -> str:
    kind, _, whose = subject.partition(" ")
    return f"[{table}.{kind}{f'.{_write_key(whose)}' if whose else ''}]"


def _write_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


class _Reader:
    def __init__(self, lines: Lines, name: str) -> None:
        self._lines = lines
        self._name = name

    def read_groups(self, found: object) -> dict[str, tuple[str, ...]]:
        where = self._where(GROUPS)
        return {
            self._check_name(group, self._where(GROUPS, group)): tuple(
                self._check_name(member, self._where(GROUPS, group))
                for member in self._read_texts(members, self._where(GROUPS, group))
            )
            for group, members in self._read_table(found, where, 'write groups as in workers = ["alice", "bob"]')
        }

    def read_grants(self, found: object, groups: Mapping[str, object]) -> Iterator[Grant]:
        for subject, rights, path in self._read_subjects(PERMISSIONS, found, groups):
            yield from self._read_rights(rights, subject, path)

    def read_quotas(self, found: object, groups: Mapping[str, object]) -> Iterator[tuple[str, dict[str, int]]]:
        for subject, limits, path in self._read_subjects(QUOTAS, found, groups):
            yield subject, dict(self._read_limits(limits, path))

    def read_hosts(self, found: object, groups: Mapping[str, object]) -> Iterator[Host]:
        """Each name is that of one host."""
        known: dict[str, Host] = {}
        for key, values in self._read_table(found, self._where(HOSTS), "write a table for each host, [hosts.shop]"):
            path = (HOSTS, key)
            if not _KEY_OF_HOST.fullmatch(key):
                remedy = f"name it by 1 to {MAX_KEY} letters, digits, _ and -, and give its names as names"
                raise self._fault(path, "cannot be part of a name of a destination", remedy)
            host = self._read_host(key, values, groups)
            for name in host.names:
                here = (*path, "names")
                if name == ALWAYS_DEFAULT and not host.is_default:
                    raise self._fault(here, f"{name} always means the default host", "give another name")
                if name in known:
                    raise self._fault(
                        here, f"{name} is a name of host {known[name].key} as well", "leave it out of one"
                    )
                known[name] = host
            yield host

    def _read_host(self, key: str, found: object, groups: Mapping[str, object]) -> Host:
        path = (HOSTS, key)
        values = dict(self._read_table(found, self._where(*path), 'write keys as in names = ["shop.example"]'))
        for name in values:
            if name not in _HOST_KEYS:
                close = get_close_matches(name, _HOST_KEYS, 1)
                raise self._fault((*path, name), "unknown key", f"write {close[0] if close else _join(_HOST_KEYS)}")
        here = {name: self._where(*path, name) for name in _HOST_KEYS}
        texts = {name: tuple(self._read_texts(values[name], here[name])) for name in _HOST_KEYS[:3] if name in values}
        for user in texts.get("users", ()):
            self._check_name(user, here["users"])
        for group in texts.get("groups", ()):
            if group not in groups:
                raise self._unknown_group((*path, "groups"), group, groups)
        control = values.get("control", key == DEFAULT)
        if not isinstance(control, bool):
            raise self._fault((*path, "control"), "not true or false", "write true or false")
        names = texts.get("names", DEFAULT_NAMES if key == DEFAULT else (key,))
        for name in names:
            if not name or not name.isprintable():
                raise self._fault((*path, "names"), f"{name!r} is no name of a host", "write it as clients do")
        return Host(
            key,
            tuple(dict.fromkeys(name.lower() for name in names)),
            texts.get("users"),
            texts.get("groups"),
            control,
            self._where_line(path),
        )

    def _unknown_group(self, path: tuple[str, ...], group: str, groups: Mapping[str, object]) -> ConfigurationFileError:
        close = get_close_matches(group, list(groups), 1)
        remedy = f"write {close[0]}" if close else _NAME_IT
        return self._fault(path, f"unknown group {group}", remedy)

    def _read_limits(self, found: object, path: tuple[str, ...]) -> Iterator[tuple[str, int]]:
        for key, value in self._read_table(found, self._where(*path), "write limits as in connections = 10"):
            here = (*path, key)
            if key not in QUOTA_KEYS:
                close = get_close_matches(key, list(QUOTA_KEYS), 1)
                raise self._fault(here, "unknown limit", f"write {close[0] if close else _join(tuple(QUOTA_KEYS))}")
            if not isinstance(value, int | str) or isinstance(value, bool):
                raise self._fault(here, "not a number", 'write a number, or a size as in "1 MiB"')
            try:
                yield QUOTA_KEYS[key], _LIMITS[key](str(value))
            except ConfigurationError as error:
                shown = f"{self._where(*here)} = {value}"
                raise ConfigurationFileError(shown, error.problem, error.remedy) from None

    def _read_subjects(
        self, table: str, found: object, groups: Mapping[str, object]
    ) -> Iterator[tuple[str, object, tuple[str, ...]]]:
        """Each subject, what is said of it, and where that stands."""
        remedy = f"write a table for each user or group, as in [{table}.group.workers]"
        for kind, within in self._read_table(found, self._where(table), remedy):
            path = (table, kind)
            if kind not in _KINDS:
                raise self._fault(path, f"not whose {table} these are", f"write {_join(_KINDS)}")
            if kind not in _SUBJECTS:
                yield kind, within, path
                continue
            for whose, rights in self._read_table(within, self._where(*path), remedy):
                here = (*path, whose)
                self._check_name(whose, self._where(*here))
                if kind == "group" and whose not in groups:
                    close = get_close_matches(whose, list(groups), 1)
                    remedy = f"write {close[0]}" if close else _NAME_IT
                    raise self._fault(here, "unknown group", remedy)
                yield _SUBJECTS[kind](whose), rights, here

    def _read_rights(self, found: object, subject: str, path: tuple[str, ...]) -> Iterator[Grant]:
        for right, patterns in self._read_table(found, self._where(*path), 'write rights as in read = "/queue/jobs"'):
            here = (*path, right)
            if right not in RIGHTS:
                close = get_close_matches(right.lower(), list(RIGHTS), 1)
                raise self._fault(here, "unknown right", f"write {close[0] if close else _join(tuple(RIGHTS))}")
            for pattern in self._read_texts(patterns, self._where(*here)):
                self._check_pattern(pattern, subject, self._where(*here))
                yield Grant(subject, right, pattern, self._where_line(here))

    def _check_pattern(self, text: str, subject: str, where: str) -> None:
        shown = f'{where} = "{text}"'
        if text.startswith(_TEMPORARY):
            problem = "temporary destinations are their session's own, and need no right"
            raise ConfigurationFileError(shown, problem, "leave it out")
        if not (text.startswith(_PREFIXES) or text == "/>") or text in _PREFIXES:
            raise ConfigurationFileError(shown, "not a destination", f"begin it with {_join(_PREFIXES)}, or write />")
        if _PERCENT.search(text.replace("%%", "")):
            raise ConfigurationFileError(shown, "% stands alone", "write %u for the user's name, or %% for %")
        if subject == ANONYMOUS and "%u" in text.replace("%%", ""):
            raise ConfigurationFileError(shown, "clients without a login have no name", "write no %u here")
        try:
            check_pattern(fill(text, _SOMEBODY))
        except PatternError as error:
            raise ConfigurationFileError(shown, str(error), "give a name, or one with *, # or >") from None

    def _check_name(self, name: str, where: str) -> str:
        try:
            check_name(name)
        except PasswordError as error:
            raise ConfigurationFileError(f"{where}: {name!r}", "not a name", str(error)) from None
        return name

    def _read_table(self, found: object, where: str, remedy: str) -> list[tuple[str, object]]:
        if not isinstance(found, dict):
            raise ConfigurationFileError(where, "not a table", remedy)
        return list(found.items())

    def _read_texts(self, found: object, where: str) -> list[str]:
        texts: list[str] = []
        for text in found if isinstance(found, list) else [found]:
            if not isinstance(text, str):
                raise ConfigurationFileError(where, "not a text in quotes", "write one text, or several in brackets")
            texts.append(text)
        return texts

    def _fault(self, path: tuple[str, ...], problem: str, remedy: str) -> ConfigurationFileError:
        return ConfigurationFileError(self._where(*path), problem, remedy)

    def _where(self, *path: str) -> str:
        """Line and key, for an error."""
        return f"{self._where_line(path)}: {'.'.join(path)}"

    def _where_line(self, path: tuple[str, ...]) -> str:
        while path and path not in self._lines:
            path = path[:-1]
        return f"{self._name}, line {self._lines[path]}" if path else self._name


def _join(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
