"""The command stomp-brokerctl user, on real files."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.deadline import stretched, wait_until

from forkbroker.config.users import read_users
from forkbroker.passwords import parse_hash
from forkbroker.testing.broker import PATIENCE_S

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / "bin" / "stomp-brokerctl")]
OLD = "$scrypt$ln=1,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$" + "A" * 43


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with alice and a comment, which the group may read."""
    path = tmp_path / "users"
    path.touch()
    path.chmod(0o640)
    path.write_text(f"# people\nalice:{OLD}\n\n# machines\n")
    return path


def ctl(verb: str, file: Path, *more: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a verb to its end."""
    command = [*COMMAND, "user", verb, "--users", str(file), *more]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=stretched(60.0))


def users(file: Path) -> dict[str, str]:
    return read_users(file, {os.geteuid()}).hashes


def test_a_user_is_added_and_the_rest_stays(file: Path) -> None:
    """The hash is one of the passcode, which is a line of standard input."""
    before = file.read_text()
    done = ctl("add", file, "bob", stdin="secret of bob\nnot this\n")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert file.read_text().startswith(before)
    assert parse_hash(users(file)["bob"]).matches("secret of bob")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in file.parent.iterdir()] == ["users"]


@pytest.mark.skipif(os.geteuid() != 0, reason="run as root")
def test_the_owner_stays(file: Path) -> None:
    """Also if root changes the file."""
    os.chown(file, 4711, 4712)
    assert ctl("rm", file, "alice").returncode == 0

    assert (file.stat().st_uid, file.stat().st_gid, stat.S_IMODE(file.stat().st_mode)) == (4711, 4712, 0o640)


def test_add_makes_a_file_that_nobody_else_can_read(tmp_path: Path) -> None:
    """Whatever the umask is; the broker takes it."""
    assert ctl("add", tmp_path / "new", "alice", stdin="a").returncode == 0

    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    assert list(users(tmp_path / "new")) == ["alice"]


def test_a_link_stays_a_link(file: Path) -> None:
    """The file that it leads to is changed."""
    link = file.with_name("link")
    link.symlink_to(file)
    assert ctl("add", link, "bob", stdin="b").returncode == 0

    assert link.is_symlink()
    assert list(users(file)) == ["alice", "bob"]


def test_a_passcode_is_changed_in_its_place(file: Path) -> None:
    """Twice the same passcode gives two hashes."""
    hashes = []
    for _ in range(2):
        assert ctl("passwd", file, "alice", stdin="new\r\n").returncode == 0
        hashes.append(users(file)["alice"])

    assert hashes[0] != hashes[1]
    assert parse_hash(hashes[1]).matches("new")
    assert file.read_text().splitlines()[::3] == ["# people", "# machines"]


def test_a_user_is_removed(file: Path) -> None:
    """Comments stay."""
    assert ctl("rm", file, "alice").returncode == 0
    assert file.read_text() == "# people\n\n# machines\n"


def test_users_are_listed_without_their_hashes(file: Path) -> None:
    """For people, and for programs."""
    assert ctl("list", file).stdout == "alice\tscrypt ln=1,r=8,p=1\n"
    assert json.loads(ctl("list", file, "--json").stdout) == [
        {"name": "alice", "scheme": "scrypt ln=1,r=8,p=1", "groups": []}
    ]
    file.write_text("")
    assert (ctl("list", file).stdout, ctl("list", file, "--json").stdout) == ("", "[]\n")


@pytest.mark.parametrize(
    ("verb", "name", "stdin", "status", "says"),
    [
        ("add", "alice", "x\n", 73, "there is a user alice"),
        ("passwd", "eve", "x\n", 67, "there is no user eve"),
        ("rm", "eve", "", 67, "there is no user eve"),
        ("join", "eve ops", "", 67, "there is no user eve"),
        ("join", "alice a,b", "", 65, "the name of a group has a comma"),
        ("leave", "alice ops", "", 67, "user alice is not in group ops here"),
        ("add", "a:b", "x\n", 65, "has no colon"),
        ("add", "bob", "\n", 65, "the passcode is empty"),
        ("add", "bob", "", 65, "the passcode is empty"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    file: Path, verb: str, name: str, stdin: str, status: int, says: str
) -> None:
    """The exit status is one of sysexits(3)."""
    before = file.read_bytes()
    done = ctl(verb, file, *name.split(" "), stdin=stdin)

    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("stomp-brokerctl: ") and says in done.stderr and done.stderr.count("\n") == 1
    assert file.read_bytes() == before


def test_users_join_groups_and_leave_them(file: Path) -> None:
    """Each group once; another passcode leaves the groups as they are."""
    assert ctl("add", file, "bob", "--group", "ops", "--group", "night shift", stdin="b").returncode == 0
    assert ctl("join", file, "bob", "audit", "ops").returncode == 0
    assert ctl("join", file, "alice", "ops").returncode == 0
    assert ctl("passwd", file, "bob", stdin="other").returncode == 0
    assert ctl("leave", file, "bob", "ops").returncode == 0
    listed = json.loads(ctl("list", file, "--json").stdout)

    assert {user["name"]: user["groups"] for user in listed} == {"alice": ["ops"], "bob": ["night shift", "audit"]}
    assert ctl("list", file).stdout.splitlines()[1].endswith("\tnight shift,audit")
    assert file.read_text().splitlines()[1] == f"alice:{OLD}:ops"
    assert parse_hash(users(file)["bob"]).matches("other")
    assert ctl("leave", file, "alice", "ops").returncode == 0
    assert file.read_text().splitlines()[1] == f"alice:{OLD}"


def test_a_file_that_is_wrong_is_not_changed(file: Path) -> None:
    """Nor is one made where only a change was asked for."""
    file.write_text("alice\n")
    for verb, stdin in (("add", "x"), ("list", ""), ("rm", "")):
        done = ctl(verb, file, *(["alice"] if verb != "list" else []), stdin=stdin)
        assert (done.returncode, "users, line 1: the line has no colon" in done.stderr) == (78, True)
    assert file.read_text() == "alice\n"
    none = file.with_name("none")
    assert [ctl("rm", none, "alice").returncode, ctl("list", none).returncode] == [66, 66]
    assert not none.exists()


def test_a_wrong_command_line_has_status_2(file: Path) -> None:
    """As everywhere; a passcode is no argument."""
    assert ctl("add", file, "bob", "secret").returncode == 2
    assert subprocess.run([*COMMAND, "user"], capture_output=True).returncode == 2
    version = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True)
    assert version.stdout.startswith("stomp-brokerctl ")


def test_changes_at_the_same_time_come_one_after_the_other(file: Path) -> None:
    """None is lost."""
    names = [f"user{number}" for number in range(6)]
    running = [
        subprocess.Popen([*COMMAND, "user", "add", "--users", file, name], stdin=subprocess.PIPE) for name in names
    ]
    for one in running:
        assert one.stdin is not None
        one.stdin.write(b"x\n")
        one.stdin.close()

    assert [one.wait(stretched(60.0)) for one in running] == [0] * 6
    assert set(users(file)) == {"alice", *names}


def test_a_killed_change_leaves_the_old_file_or_the_new_one(file: Path) -> None:
    """Killed at any moment of its writing; what it leaves beside is no hindrance."""
    change = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
        "from forkbroker.ctl.editing import edit; path = Path(sys.argv[2]); print('begun', flush=True)\n"
        "bob = b'bob:' + sys.argv[3].encode()\n"
        "while True: edit(path, lambda lines: lines[:-1] if len(lines) > 4 else [*lines, bob])"
    )
    seen = set()
    for number in range(25):
        process = subprocess.Popen(
            [sys.executable, "-c", change, str(ROOT), str(file), OLD], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        select.select([], [], [], 0.0007 * number)
        process.kill()
        process.wait()
        process.stdout.close()
        seen.add(tuple(users(file)))
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
    file.with_name(".users.new").write_text("half of a li")

    assert seen <= {("alice",), ("alice", "bob")}
    assert ctl("add", file, "carol", stdin="c").returncode == 0
    assert "carol" in users(file)
    assert not file.with_name(".users.new").exists()


class Terminal:
    """The command on a terminal."""

    def __init__(self, file: Path) -> None:
        self.pid, self._fd = pty.fork()
        if not self.pid:
            # whoever runs the tests in the background may ignore it
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.execv(sys.executable, [*COMMAND, "user", "add", "--users", str(file), "bob"])
        self.shown = b""

    def answer(self, prompt: bytes, text: bytes) -> None:
        """Wait for a prompt, and type."""
        end = time.monotonic() + stretched(PATIENCE_S)
        while prompt not in self.shown:
            assert time.monotonic() < end, self.shown
            if select.select([self._fd], [], [], 0.1)[0]:
                self.shown += os.read(self._fd, 1024)
        self.shown = self.shown.partition(prompt)[2]
        os.write(self._fd, text)

    def wait(self) -> int:
        """The exit status; all that was shown is in `shown`."""
        try:
            while part := os.read(self._fd, 1024):
                self.shown += part
        except OSError:
            pass  # Linux: nobody has the other side any more
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_on_a_terminal_the_passcode_is_asked_for_twice_and_not_shown(file: Path) -> None:
    """What is typed shows nowhere."""
    terminal = Terminal(file)
    terminal.answer(b"Passcode for bob: ", b"secret\n")
    terminal.answer(b"Once more: ", b"secret\n")

    assert terminal.wait() == 0
    assert b"secret" not in terminal.shown
    assert parse_hash(users(file)["bob"]).matches("secret")


def test_passcodes_that_differ_change_nothing(file: Path) -> None:
    """As passwd(1) has it."""
    terminal = Terminal(file)
    terminal.answer(b"Passcode for bob: ", b"secret\n")
    terminal.answer(b"Once more: ", b"secrte\n")

    assert terminal.wait() == 65
    assert b"the passcodes differ" in terminal.shown
    assert list(users(file)) == ["alice"]


def test_an_interrupt_at_the_prompt_changes_nothing(file: Path) -> None:
    """Without a traceback."""
    terminal = Terminal(file)
    terminal.answer(b"Passcode for bob: ", b"")
    os.kill(terminal.pid, signal.SIGINT)

    assert terminal.wait() == 69
    assert b"Traceback" not in terminal.shown
    assert list(users(file)) == ["alice"]


def test_the_command_needs_the_standard_library_only() -> None:
    """An administrator may run it where the broker is not installed."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import forkbroker.ctl.main; "
        "print(sorted(name for name in ('posix_ipc', 'setproctitle') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code, str(ROOT)], capture_output=True, text=True)

    assert done.stdout == "[]\n"


def test_a_change_waits_for_the_one_before(file: Path) -> None:
    """And then works on the new file, not on the one whose name is gone."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from forkbroker.ctl.editing import edit\n"
        "def change(lines):\n    print('in', flush=True); sys.stdin.readline(); return [*lines, b'# one']\n"
        "edit(Path(sys.argv[2]), change)"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT), str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdin is not None and first.stdout is not None
    assert first.stdout.readline() == "in\n"
    second = subprocess.Popen([*COMMAND, "user", "rm", "--users", str(file), "alice"])
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0.3)
    first.stdin.write("\n")
    first.stdin.close()

    assert [first.wait(stretched(60.0)), second.wait(stretched(60.0))] == [0, 0]
    first.stdout.close()
    wait_until(lambda: file.read_text() == "# people\n\n# machines\n# one\n", "both changes")
