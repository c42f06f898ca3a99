"""The tables of the configuration file that say who may do what."""

from __future__ import annotations

import json

import pytest

from forkbroker.config.file import parse_text
from forkbroker.config.listing import list_permissions
from forkbroker.errors import ConfigurationFileError
from forkbroker.permissions import Grant, from_plain

TEXT = """\
prefetch = 7

[groups]
workers = ["alice", "bob"]
"night shift" = "carol"

[permissions.group."night shift"]
read = "/queue/jobs"

[permissions.group.workers]
# all of it
read = [
    "/queue/jobs.>",
    "/topic/%u.#",
]
write = "/queue/100%%"

[permissions.user]
"a.b" = { manage = "/>" }

[permissions.all-users]
monitor = "/control/status"
[permissions.anonymous]
read = "/topic/news"
"""


def test_tables_are_read_with_their_lines() -> None:
    """Keys of options are still options."""
    file = parse_text(TEXT, "f")

    assert file.given == {"prefetch": "7"}
    assert file.permissions.groups == {"workers": ("alice", "bob"), "night shift": ("carol",)}
    assert sorted(file.permissions.grants or ()) == [
        Grant("all-users", "monitor", "/control/status", "f, line 22"),
        Grant("anonymous", "read", "/topic/news", "f, line 24"),
        Grant("group night shift", "read", "/queue/jobs", "f, line 8"),
        Grant("group workers", "read", "/queue/jobs.>", "f, line 12"),
        Grant("group workers", "read", "/topic/%u.#", "f, line 12"),
        Grant("group workers", "write", "/queue/100%%", "f, line 16"),
        Grant("user a.b", "manage", "/>", "f, line 19"),
    ]


def test_no_table_is_something_else_than_an_empty_one() -> None:
    """With the table, what is not granted is denied."""
    assert parse_text("", "f").permissions.grants is None
    assert parse_text("[groups]\na = []", "f").permissions.grants is None
    assert parse_text("[permissions]", "f").permissions.grants == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("groups = 1", "f, line 1: groups: not a table; write groups as in"),
        ("[groups]\na = 1", "f, line 2: groups.a: not a text in quotes; write one text, or several in brackets"),
        ("[groups]\na = ['x', 1]", "f, line 2: groups.a: not a text in quotes"),
        ("[groups]\na = ['x:y']", "f, line 2: groups.a: 'x:y': not a name; a name has printable"),
        ("[groups]\n'#a' = []", "f, line 2: groups.#a: '#a': not a name"),
        ("permissions = 'x'", "f, line 1: permissions: not a table; write a table for each"),
        ("[permissions.users]\nread = '/>'", "f, line 1: permissions.users: not whose permissions these are; write us"),
        ("[permissions.user]\nalice = '/>'", "f, line 2: permissions.user.alice: not a table; write rights as in"),
        ("[permissions.user.'a:b']\n", "f, line 1: permissions.user.a:b: 'a:b': not a name"),
        (
            "[groups]\nworkers = []\n[permissions.group.worker]",
            "f, line 3: permissions.group.worker: unknown group",
        ),
        ("[permissions.group.worker]", "unknown group; name its members in [groups], or give it none: []"),
        ("[permissions.all-users]\nraed = '/>'", "f, line 2: permissions.all-users.raed: unknown right; write read"),
        ("[permissions.all-users]\nfly = '/>'", "unknown right; write read, write, create, browse, manage or monitor"),
        ("[permissions.all-users]\nread = 7", "f, line 2: permissions.all-users.read: not a text in quotes"),
        (
            "[permissions.all-users]\nread = 'jobs'",
            'f, line 2: permissions.all-users.read = "jobs": not a',
        ),
        ("[permissions.all-users]\nread = '/queue/'", "not a destination; begin it with /queue/, /topic/, /dsub/ or"),
        ("[permissions.all-users]\nread = '/quue/a'", "not a destination"),
        ("[permissions.all-users]\nread = '/temp-queue/a'", "temporary destinations are their session's own"),
        ("[permissions.all-users]\nread = '/queue/#.a'", "'#' is permitted as the last level only"),
        ("[permissions.all-users]\nread = '/queue/50%'", "% stands alone; write %u for the user's name, or %% for %"),
        ("[permissions.all-users]\nread = '/queue/%%%x'", "% stands alone"),
        ("[permissions.anonymous]\nread = '/queue/%u'", "clients without a login have no name; write no %u here"),
        ("[quotas.users]\n", "f, line 1: quotas.users: not whose quotas these are; write user, group, all-users or"),
        ("[quotas.group.x]", "f, line 1: quotas.group.x: unknown group"),
        (
            "[quotas.all-users]\nconnection = 1",
            "f, line 2: quotas.all-users.connection: unknown limit; write connections",
        ),
        ("[quotas.all-users]\nmemory = '1 MiB'", "f, line 2: quotas.all-users.memory = 1 MiB: too small; give"),
        ("[quotas.all-users]\nnice = 20", "f, line 2: quotas.all-users.nice = 20: too large"),
        ("[quotas.all-users]\ncpu = 0", "f, line 2: quotas.all-users.cpu = 0: too small"),
        ("[quotas.all-users]\ncpu = true", "f, line 2: quotas.all-users.cpu: not a number"),
        ("[quotas.all-users]\ncpu = 1.5", "f, line 2: quotas.all-users.cpu: not a number"),
        ("[[permissions]]\nread = '/>'", "f, line 1: permissions: not a table"),
    ],
)
def test_a_mistake_is_told_with_file_line_key_and_what_would_be_right(text: str, said: str) -> None:
    """As with options."""
    with pytest.raises(ConfigurationFileError) as caught:
        parse_text(text, "f")

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hosts = 1", "f, line 1: hosts: not a table; write a table for each host, [hosts.shop]"),
        ("[hosts]\nshop = 1", "f, line 2: hosts.shop: not a table; write keys as in names"),
        ("[hosts.shop]\nname = 'a'", "f, line 2: hosts.shop.name: unknown key; write names"),
        (
            "[hosts.shop]\nports = 'a'",
            "f, line 2: hosts.shop.ports: unknown key; write names, users, gro",
        ),
        ("[hosts.'a.b']", "f, line 1: hosts.a.b: cannot be part of a name of a destination; name it by 1 to 32"),
        ("[hosts.shop]\nnames = 7", "f, line 2: hosts.shop.names: not a text in quotes"),
        ("[hosts.shop]\nnames = ''", "f, line 2: hosts.shop.names: '' is no name of a host; write it as clients do"),
        ("[hosts.shop]\nnames = '/'", "f, line 2: hosts.shop.names: / always means the default host"),
        (
            "[hosts.shop]\nnames = 'a'\n[hosts.work]\nnames = ['b', 'A']",
            "f, line 4: hosts.work.names: a is a name of host shop as well; leave it out of one",
        ),
        ("[hosts.a]\n[hosts.b]\nnames = 'a'", "f, line 3: hosts.b.names: a is a name of host a as well"),
        ("[hosts.shop]\nusers = 'x:y'", "f, line 2: hosts.shop.users: 'x:y': not a name"),
        (
            "[groups]\nworkers = []\n[hosts.shop]\ngroups = 'worker'",
            "f, line 4: hosts.shop.groups: unknown group worker; write workers",
        ),
        ("[hosts.shop]\ncontrol = 1", "f, line 2: hosts.shop.control: not true or false; write true or false"),
    ],
)
def test_a_mistake_in_a_host_is_told_as_well(text: str, said: str) -> None:
    """With what would be right."""
    with pytest.raises(ConfigurationFileError) as caught:
        parse_text(text, "f")

    assert said in str(caught.value)


def test_hosts_are_read_with_what_is_not_said() -> None:
    """A host is called as its key, if it has no other name; requests to the broker are for the default one."""
    text = (
        "[groups]\nw = ['a']\n[hosts.shop]\nnames = ['Shop.example', 'shop']\nusers = 'bob'\ngroups = ['w']\n"
        "[hosts.work]\ncontrol = true\n[hosts.default]\n"
    )
    permissions = parse_text(text, "f").permissions
    shop, work, default = permissions.hosts.all

    assert (shop.names, shop.users, shop.groups, shop.control) == (("shop.example", "shop"), ("bob",), ("w",), False)
    assert (work.names, work.is_limited, work.control) == (("work",), False, True)
    assert (default.names, default.is_limited, default.control) == (("localhost",), False, True)
    assert parse_text("\n".join(list_permissions(permissions)), "f").permissions == permissions
    assert from_plain(json.loads(json.dumps(permissions.to_plain()))) == permissions


def test_quotas_are_read_by_subject() -> None:
    """Sizes as in options."""
    text = (
        "[groups]\nw = ['a']\n[quotas.group.w]\nconnections = 7\nbytes-per-second = '1 MiB'\n"
        "[quotas.user.\"a.b\"]\nmemory = '128 MiB'\nnice = 5\n[quotas.anonymous]\nmessages-per-second = 9\n"
        "queues = 3\nqueue-bytes = '1 KiB'\n"
    )
    permissions = parse_text(text, "f").permissions
    assert permissions.quotas == {
        "group w": {"connections": 7, "bytes_per_second": 1_048_576},
        "user a.b": {"memory": 134_217_728, "nice": 5},
        "anonymous": {"messages_per_second": 9, "queues": 3, "queue_bytes": 1024},
    }
    again = parse_text("\n".join(list_permissions(permissions)), "f").permissions
    assert again == permissions
