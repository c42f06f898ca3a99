"""Options as a configuration file: the one to begin with, and the one that is in effect."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from forkbroker.config.evaluation import make_settings
from forkbroker.config.file import parse_text
from forkbroker.config.listing import list_defaults, list_effective
from forkbroker.config.options.option import Given
from forkbroker.config.options.table import OPTIONS
from forkbroker.identity import Identity
from forkbroker.permissions import Grant, Permissions, Right

ROOT = Path(__file__).parents[2]


def test_the_file_to_begin_with_is_made_from_the_table() -> None:
    """`python -m forkbroker.config.listing > etc/forkbroker.toml` writes it."""
    written = subprocess.run(
        [sys.executable, "-m", "forkbroker.config.listing"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert (ROOT / "etc" / "forkbroker.toml").read_text() == written.stdout
    assert parse_text(written.stdout, "f").given == {}


def test_each_of_its_lines_is_the_default_or_an_example_that_can_be_used() -> None:
    """Without the sign of a comment."""
    text = "\n".join(list_defaults()).partition("\n# -- Permissions")[0]
    lines = dict(re.findall(r"^#([a-z-]+) = (.+)$", text, re.MULTILINE))

    assert list(lines) == [option.name for option in OPTIONS if option.in_file]
    needed: dict[str, dict[str, Given]] = {
        "web-cookie": {"token_key": ["/key.pem"]},
        "authenticator-user": {"authenticator": "/bin/true"},
    }
    for name, value in lines.items():
        file = parse_text(f"{name} = {value}", "f")
        option = next(option for option in OPTIONS if option.name == name)
        settings = make_settings(needed.get(name, {}) | file.given, file.origins)
        if option.default is not None or option.is_flag:
            assert settings == make_settings({}), name
        else:
            assert settings != make_settings(needed.get(name, {})), name


def test_the_tables_of_the_file_to_begin_with_can_be_used() -> None:
    """Without the signs of comments."""
    text = "\n".join(list_defaults()).partition("\n# -- Permissions")[2]
    tables = "\n".join(re.findall(r"^#((?:\[|[a-z-]+ = ).*)$", text, re.MULTILINE))
    permissions = parse_text(tables, "f").permissions

    assert permissions.groups == {"workers": ("alice", "bob")}
    assert permissions.rights_of(Identity("alice"), is_local=False).allows(Right.MANAGE, b"/queue/jobs.a")
    assert len(permissions.grants or ()) == 6
    assert permissions.quotas == {"group workers": {"connections": 10, "bytes_per_second": 1_048_576}}


def test_what_is_in_effect_can_be_used_as_a_file() -> None:
    """It gives the same settings, and says where each value comes from."""
    given = {"max_body": "1 MiB", "prefetch": "7", "strict": True, "listen": ["unix:/é", "127.0.0.1:1"], "status": True}
    given["pidfile"] = '/run/"quoted"'
    lines = list(list_effective(given, {"max_body": "f.toml, line 3"}))
    again = parse_text("\n".join(lines), "f")

    assert make_settings({**again.given, "status": True}) == make_settings(given)
    assert [line.split() for line in lines if line.startswith("max-body")] == [
        ["max-body", "=", '"1', 'MiB"', "#", "f.toml,", "line", "3"]
    ]
    sources = {line.split()[0]: line.rpartition("# ")[2] for line in lines}
    assert (sources["prefetch"], sources["strict"], sources["log-level"]) == ("command line", "command line", "default")
    assert "# --status                                   # command line" in lines
    assert "# user is not set                            # default" in lines


def test_permissions_in_effect_are_tables_with_their_lines() -> None:
    """They give the same again, whatever names are written in."""
    grants = (
        Grant("user a.b", "read", "/queue/é", "f.toml, line 3"),
        Grant("user a.b", "read", '/queue/"', "f.toml, line 3"),
        Grant("group w", "manage", "/>", "f.toml, line 5"),
        Grant("all-users", "write", "/topic/%u", "f.toml, line 7"),
        Grant("anonymous", "read", "/topic/x", "f.toml, line 9"),
    )
    for permissions in (Permissions(grants, {"w": ("a", "b c")}), Permissions((), {}), Permissions(None, {"w": ()})):
        lines = list(list_effective({}, {}, permissions))
        again = parse_text("\n".join(lines), "f").permissions

        assert again.groups == permissions.groups
        assert [grant[:3] for grant in again.grants or ()] == [grant[:3] for grant in permissions.grants or ()]
        assert (again.grants is None) == (permissions.grants is None)
    assert 'read = ["/queue/é", "/queue/\\""] # f.toml, line 3' in list(list_effective({}, {}, Permissions(grants)))
