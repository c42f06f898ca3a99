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
    ]
    assert can(file, "bob", "write", "/topic/bob").returncode == 0


def test_no_names_what_there_is_or_who_would_need_a_line(file: Path) -> None:
    """A pattern of a subscription needs one line that covers it."""
    done = can(file, "alice", "read", "/topic/>")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[0] == "no"
    assert done.stdout.splitlines()[-1] == "  these do not cover the destination"

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
        "right": "create",
        "destination": "/dsub/a",
        "is_allowed": False,
        "reasons": ["no line gives create to user alice, group workers or all-users"],
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
