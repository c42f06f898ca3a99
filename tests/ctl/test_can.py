"""The command stomp-brokerctl can, which explains what a user may do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.deadline import stretched

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / "bin" / "stomp-brokerctl"), "can"]
TEXT = """\
[groups]
workers = ["alice"]

[permissions.group.workers]
read = ["/queue/jobs.>"]

[permissions.user.alice]
read = ["/queue/jobs.a", "/topic/%u.#"]

[permissions.all-users]
write = "/topic/%u"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file with permissions."""
    path = tmp_path / "forkbroker.toml"
    path.write_text(TEXT)
    return path


def can(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments, "--config", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=stretched(60.0))


def test_yes_names_the_lines_that_give_the_right(file: Path) -> None:
    """All of them, as removing one might not be enough."""
    done = can(file, "alice", "read", "/queue/jobs.a")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "yes",
        f'  {file}, line 5: group workers: read = "/queue/jobs.>"',
        f'  {file}, line 8: user alice: read = "/queue/jobs.a"',
        "  user alice is in group workers",
    ]
    assert can(file, "bob", "write", "/topic/bob").returncode == 0


def test_no_names_what_there_is_or_who_would_need_a_line(file: Path) -> None:
    """A pattern of a subscription needs one line that covers it."""
    done = can(file, "alice", "read", "/topic/>")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[0] == "no"
    assert done.stdout.splitlines()[-2:] == ["  these do not cover the destination", "  user alice is in group workers"]

    done = can(file, "bob", "read", "/queue/jobs.a")
    assert done.stdout.splitlines() == ["no", "  no line gives read to user bob or all-users"]
    assert can(file, "", "read", "/queue/a").stdout.splitlines()[1] == "  no line gives read to anonymous"


def test_without_permissions_the_default_is_told(file: Path) -> None:
    """It is about messages."""
    file.write_text("")

    assert can(file, "x", "write", "/queue/a").stdout.startswith("yes\n  the file has no [permissions];")
    assert can(file, "x", "manage", "/control/drain").returncode == 1


def test_programs_read_json(file: Path) -> None:
    """One object."""
    found = json.loads(can(file, "alice", "create", "/dsub/a", "--json").stdout)

    assert found == {
        "user": "alice",
        "groups": ["workers"],
        "right": "create",
        "destination": "/dsub/a",
        "host": "default",
        "is_allowed": False,
        "reasons": ["no line gives create to user alice, group workers or all-users", "user alice is in group workers"],
    }


def test_mistakes_have_the_status_of_their_kind(file: Path) -> None:
    """A right that there is not, a destination that is none, a file with a mistake, no file."""
    assert can(file, "alice", "fly", "/queue/a").returncode == 2
    done = can(file, "alice", "read", "jobs")
    assert (done.returncode, done.stdout) == (65, "")
    assert "'jobs' has no prefix" in done.stderr
    file.write_text("[permissions.user.x]\nfly = 'x'\n")
    assert can(file, "alice", "read", "/queue/a").returncode == 78
    assert can(file.with_name("none"), "alice", "read", "/queue/a").returncode == 78


HASH = "$scrypt$ln=1,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$" + "A" * 43


def test_groups_are_also_those_of_the_password_file(file: Path) -> None:
    """That of the configuration, or another one; one that cannot be read leaves them open, and that is said."""
    users, others = file.with_name("users"), file.with_name("others")
    users.write_text(f"bob:{HASH}:workers\n")
    others.write_text(f"carol:{HASH}:workers\n")
    file.write_text(f'users = "{users}"\n{TEXT}')
    done = can(file, "bob", "read", "/queue/jobs.a")
    assert done.returncode == 0 and done.stdout.endswith("\n  user bob is in group workers\n")
    assert can(file, "carol", "read", "/queue/jobs.a").returncode == 1
    assert can(file, "carol", "read", "/queue/jobs.a", "--users", str(others)).returncode == 0
    users.write_text(f"bob:{HASH}:worker\n")
    done = can(file, "bob", "read", "/queue/jobs.a")
    assert (done.returncode, "line 1: unknown group worker; write workers" in done.stderr) == (78, True)
    users.unlink()
    done = can(file, "bob", "read", "/queue/jobs.a")
    assert done.returncode == 1
    assert done.stdout.endswith(f"\n  groups of {users} are not known: No such file or directory\n")
    assert can(file, "bob", "read", "/queue/a", "--users", str(users)).returncode == 66


def test_groups_of_tokens_and_programs_are_given_by_hand(file: Path) -> None:
    """Nobody else knows of them; clients without a login have none."""
    assert can(file, "bob", "read", "/queue/jobs.a").returncode == 1
    done = can(file, "bob", "read", "/queue/jobs.a", "--group", "workers", "--group", "x")
    assert done.returncode == 0 and done.stdout.endswith("\n  user bob is in groups workers, x\n")
    assert can(file, "", "read", "/queue/jobs.a", "--group", "workers").returncode == 1


HOSTS = """
[hosts.default]
names = ["plain"]
users = ["bob"]

[hosts.shop]
names = ["shop.example"]
groups = ["workers"]

[permissions.anonymous]
monitor = "/>"
"""


def test_a_host_has_to_let_the_user_in(file: Path) -> None:
    """That which the client names; without a name, or with one that is not known, the default one."""
    file.write_text(TEXT + HOSTS)
    first = len(TEXT.splitlines())
    done = can(file, "alice", "read", "/queue/jobs.a")
    assert done.stdout.splitlines()[:2] == [
        "no",
        f"  {file}, line {first + 2}: user 'alice' may not connect to the host default",
    ]
    for name in ("shop.example", "SHOP.example"):
        done = can(file, "alice", "read", "/queue/jobs.a", "--host", name)
        assert (done.returncode, done.stdout.splitlines()[0]) == (0, "yes")
    done = can(file, "bob", "write", "/topic/bob", "--host", "shop.example", "--json")
    assert (done.returncode, json.loads(done.stdout)["host"]) == (1, "shop")
    assert can(file, "bob", "write", "/topic/bob", "--host", "other").returncode == 0
    file.write_text(f"strict = true\n{TEXT}{HOSTS}")
    done = can(file, "bob", "write", "/topic/bob", "--host", "other")
    assert (done.returncode, done.stdout) == (1, "no\n  there is no host other, and strict is set\n")


def test_a_host_may_know_nothing_of_the_broker(file: Path) -> None:
    """Requests, and what the broker says of itself, are for hosts with control."""
    file.write_text(TEXT + HOSTS.replace('groups = ["workers"]', ""))
    for name in ("/control/status", "/topic/$SYS/status"):
        done = can(file, "", "monitor", name, "--host", "shop.example")
        assert (done.returncode, "clients of host shop have no access to" in done.stdout) == (1, True)
    file.write_text(TEXT + HOSTS.replace('groups = ["workers"]', "control = true"))
    assert can(file, "", "monitor", "/control/status", "--host", "shop.example").returncode == 0
    assert can(file, "", "monitor", "/queue/a", "--host", "shop.example").returncode == 0
