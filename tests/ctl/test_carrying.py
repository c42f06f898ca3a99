"""export and import between two real brokers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.deadline import stretched
from support.rawclient import connect

from forkbroker.ctl.users import add_user, list_users
from forkbroker.testing.broker import RunningBroker

COMMAND = [sys.executable, str(Path(__file__).parents[2] / "bin" / "stomp-brokerctl")]
Ctl = Callable[..., tuple[int, str]]


@pytest.fixture
def ctl() -> Iterator[Ctl]:
    """Run the command against one of two brokers: exit status, and what was printed."""
    with RunningBroker() as first, RunningBroker() as second:

        def run(which: int, *arguments: str, stdin: str = "") -> tuple[int, str]:
            broker = (first, second)[which]
            done = subprocess.run(
                [*COMMAND, *arguments, "--url", f"{broker.host}:{broker.port}"],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=stretched(60.0),
            )
            return done.returncode, done.stdout + done.stderr

        run.port = second.port  # type: ignore[attr-defined]
        yield run


def test_what_is_set_up_in_one_broker_is_made_in_another(ctl: Ctl, tmp_path: Path) -> None:
    """Once; the second time it is there."""
    file, users, others = tmp_path / "export.json", tmp_path / "users", tmp_path / "others"
    add_user(users, "alice", "secret")
    assert ctl(0, "durable", "audit", "/topic/orders.>") == (0, "/dsub/audit to /topic/orders.>: made\n")
    assert ctl(0, "durable", "audit", "/topic/orders.>")[1] == "/dsub/audit to /topic/orders.>: is there already\n"
    ctl(0, "send", "/queue/a", "b")
    ctl(0, "hold", "a")
    status, text = ctl(0, "export", str(file), "--users", str(users))
    assert (status, text) == (0, f"{file} written: 1 durable subscription, 1 held queue, 1 user\n")
    assert file.stat().st_mode & 0o777 == 0o600
    assert ctl(0, "export", str(file))[0] == 73

    took = ["import", str(file), "--users", str(others)]
    assert ctl(1, *took, "--dry-run") == (
        0,
        "1 durable subscription would be made, 0 there already\n1 queue would be held, 0 there already\n"
        "1 user would be added, 0 there already\n",
    )
    assert not others.exists()
    assert json.loads(ctl(1, *took, "--json")[1]) == {
        "durables": {"made": ["/dsub/audit"], "there": [], "refused": {}},
        "held": {"made": ["/queue/a"], "there": [], "refused": {}},
        "users": {"made": ["alice"], "there": [], "refused": {}},
    }
    assert ctl(1, *took)[1].splitlines()[0] == "0 durable subscriptions made, 1 there already"
    assert [user.name for user in list_users(others)] == ["alice"]
    with connect(ctl.port) as client:  # type: ignore[attr-defined]
        client.publish("/topic/orders.new", "one")
        client.subscribe("/dsub/audit", 1)
        client.expect("MESSAGE", "one")


def test_a_queue_is_held_for_as_long_as_was_left(ctl: Ctl, tmp_path: Path) -> None:
    """One that is held without an end is held without one."""
    file = tmp_path / "export.json"
    for name in ("timed", "held"):
        ctl(0, "send", f"/queue/{name}", "b")
        ctl(1, "send", f"/queue/{name}", "b")
    ctl(0, "hold", "timed", "--for", "2h")
    ctl(0, "hold", "held")
    ctl(0, "export", str(file))
    held, timed = sorted(json.loads(file.read_text())["held"], key=len)
    assert (held, timed["queue"]) == ({"queue": "/queue/held"}, "/queue/timed")
    assert 0 < timed["for"] <= 7200
    timed["for"] = 3600.0
    file.write_text(export(held=[held, timed]))
    assert ctl(1, "import", str(file))[1].splitlines()[1] == "2 queues held, 0 there already"
    rows = {row["name"]: row for row in json.loads(ctl(1, "queues", "--interval", "0", "--json")[1])}

    assert rows["/queue/held"]["held"] and rows["/queue/held"]["held-for"] is None
    assert 0 < rows["/queue/timed"]["held-for"] <= 3600


def test_what_is_there_and_is_another_one_stays_and_is_told(ctl: Ctl, tmp_path: Path) -> None:
    """The rest is made."""
    users = tmp_path / "users"
    add_user(users, "alice", "secret")
    before = users.read_text()
    ctl(1, "durable", "audit", "/topic/a")
    add_user(tmp_path / "new", "alice", "other")
    hashes = {"alice": (tmp_path / "new").read_text().strip().partition(":")[2]}
    found = export(durables=[{"queue": f"/dsub/{n}", "topic": "/topic/b"} for n in ("audit", "x")], users=hashes)
    status, text = ctl(1, "import", "-", "--users", str(users), stdin=found)

    assert status == 69
    assert "1 durable subscription made, 0 there already, 1 not possible" in text
    assert "/dsub/audit is to /topic/a, not to /topic/b" in text
    assert f"user alice has another passcode in {users}" in text
    assert users.read_text() == before
    assert ctl(1, "durable", "audit", "/topic/b", "--dry-run")[0] == 69


def export(**members: Any) -> str:
    return json.dumps({"format": "forkbroker-export", "version": 1, **members})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting"),
        ("[]", "no export of a broker"),
        (export(version=2), "version 2 of the file; this program reads version 1"),
        (export(queues=[]), "unknown member 'queues'"),
        (export(held="a"), "held must be a list of objects"),
        (export(held=["/queue/a"]), "held must be a list of objects"),
        (export(held=[{"for": 1}]), "held must be a list of objects"),
        (export(held=[{"queue": "/queue/a", "for": 0}]), "held must be a list of objects"),
        (export(held=[{"queue": "/queue/a", "for": "1h"}]), "held must be a list of objects"),
        (export(held=[{"queue": "/queue/a", "until": 1}]), "held must be a list of objects"),
        (export(durables=[{"queue": "/dsub/a"}]), "durables must be a list of objects"),
        (export(users=["a"]), "users must be an object"),
        (export(users={"a": "secret"}), "user 'a': "),
        ("[" * 100_000, ""),
    ],
)
def test_a_file_that_is_wrong_changes_nothing(tmp_path: Path, text: str, said: str) -> None:
    """No broker is asked."""
    file = tmp_path / "export.json"
    file.write_text(text)
    done = subprocess.run([*COMMAND, "import", str(file), "--url", "127.0.0.1:1"], capture_output=True, text=True)

    assert (done.returncode, said in done.stderr) == (65, True), done.stderr


def test_files_and_options_that_are_missing_are_named(ctl: Ctl, tmp_path: Path) -> None:
    """By their names, with an exit status each."""
    assert ctl(0, "import", str(tmp_path / "none"))[0] == 66
    assert ctl(0, "export", "--users", str(tmp_path / "none"))[0] == 66
    users = tmp_path / "users"
    add_user(users, "alice", "secret")
    hashes = {"alice": users.read_text().strip().partition(":")[2]}
    status, text = ctl(0, "import", "-", stdin=export(users=hashes))

    assert (status, "say with --users" in text) == (2, True)
    assert ctl(0, "durable", "a", "/queue/a")[0] == 65
    assert ctl(0, "durable", "a", "/topic/a.>.b")[0] == 65
    assert json.loads(ctl(0, "export")[1])["durables"] == []
