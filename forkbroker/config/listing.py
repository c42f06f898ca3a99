"""All options in the form of the configuration file: as they are in effect, and as a file to begin with.

python -m forkbroker.config.listing > etc/forkbroker.toml
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

from forkbroker.config.hosts import HOSTS
from forkbroker.config.options.option import Given, Option, Type
from forkbroker.config.options.table import CHAPTERS, OPTIONS
from forkbroker.config.permissions import GROUPS, PERMISSIONS
from forkbroker.config.quotas import QUOTAS
from forkbroker.permissions import QUOTA_KEYS, Grant, Permissions

_WIDTH = 44
"""Column in which the source of a value stands, if there is room."""


def list_effective(
    given: Mapping[str, Given], origins: Mapping[str, str], permissions: Permissions | None = None
) -> Iterator[str]:
    """Return the lines of a configuration file that has all values which are in effect, each with its source.

    `given` and `origins` are as for `make_settings`: what is given and has no origin comes from the command line.
    Options without a value, and those that a file cannot have, are comments. Tables are last, as TOML demands.
    """
    for option in OPTIONS:
        value = given.get(option.field)
        source = "default" if value is None else origins.get(option.field, "command line")
        written = _write(option, value)
        if written and option.in_file:
            yield f"{f'{option.name} = {written}':<{_WIDTH}} # {source}"
        elif value is not None:
            yield f"{f'# --{option.name}':<{_WIDTH}} # {source}"
        elif option.in_file:
            yield f"{f'# {option.name} is not set':<{_WIDTH}} # {source}"
    yield from list_permissions(permissions or Permissions())


def list_defaults() -> Iterator[str]:
    """Return the lines of a file in which each option is explained, and none is set."""
    yield "# Options of stomp-broker(8), see forkbroker.toml(5). Each line with = has the default, or an example."
    yield "# After a change: stomp-broker --config FILE --check-config."
    for chapter in CHAPTERS:
        yield ""
        yield f"# -- {chapter.title}"
        for option in chapter.options:
            if not option.in_file:
                continue
            yield ""
            yield f"# {option.help[0].upper()}{option.help[1:]}."
            yield f"#{option.name} = {_write(option, None) or option.example}"
    yield from _TABLES.splitlines()


_TABLES = """
# -- Permissions: tables, which stand behind all options. With [permissions], what is not granted is denied. Rights are
# -- read, write, create, browse, manage and monitor; %u is the user's name.

#[groups]
#workers = ["alice", "bob"]

#[permissions.group.workers]
#read = ["/queue/jobs.>"]
#write = ["/queue/results"]

#[permissions.user.alice]
#manage = ["/queue/jobs.>"]

#[permissions.all-users]
#read = ["/topic/news.>", "/topic/%u.>"]

#[permissions.anonymous]
#read = ["/topic/news.>"]

# -- Quotas: connections, subscriptions, messages-per-second, bytes-per-second, memory, cpu, nice,
# -- queues and queue-bytes.

#[quotas.group.workers]
#connections = 10
#bytes-per-second = "1 MiB"

# -- Virtual hosts: each has destinations of its own. Clients choose one by the host header of CONNECT; [hosts.default]
# -- is where all others are, or nobody else with strict = true.

#[hosts.shop]
#names = ["shop.example"]
#users = ["alice"]
#groups = ["workers"]
#control = false
"""
"""What stands behind the options in the file to begin with."""


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


def _write(option: Option, given: Given | None) -> str:
    """A value in TOML; empty: there is none."""
    if option.is_flag:
        return "true" if given else "false"
    value = given if given is not None else [option.default] if option.repeatable and option.default else option.default
    if value is None or value is False:
        return ""
    is_bare = option.type is not Type.TEXT and isinstance(value, str) and value.isdecimal()
    return str(value) if is_bare else json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in list_defaults())
