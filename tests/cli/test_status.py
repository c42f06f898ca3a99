"""Whether a broker runs: the lock is asked, not the number."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkbroker.cli.status import Status, find_status
from forkbroker.posix import children
from forkbroker.posix.pidfile import Pidfile

ROOT = Path(__file__).parents[2]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[int]:
    """A process that holds the pidfile."""
    near, far = socket.socketpair()

    def hold() -> int:
        Pidfile(tmp_path / "pid")
        far.send(b"!")
        return len(far.recv(1))

    pid = children.fork(hold, [far.fileno()])
    far.close()
    near.recv(1)
    yield pid
    near.close()
    os.waitpid(pid, 0)


def test_a_running_broker_is_known_by_its_lock(holder: int, tmp_path: Path) -> None:
    """Whatever number is in the file."""
    (tmp_path / "pid").write_text("1\n")

    assert find_status(tmp_path / "pid") == (Status.RUNNING, f"stomp-broker is running, process {holder}")


def test_the_question_does_not_take_the_lock_from_its_holder(holder: int, tmp_path: Path) -> None:
    """Not even if the holder asks; and it may be asked again and again."""
    for _ in range(3):
        assert find_status(tmp_path / "pid")[0] is Status.RUNNING


def test_the_number_of_a_stranger_is_no_broker(tmp_path: Path) -> None:
    """A killed broker has left it, and the system has given it away again: to this test."""
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")

    assert find_status(tmp_path / "pid") == (
        Status.DEAD,
        f"stomp-broker is dead, and its pidfile {tmp_path / 'pid'} is left",
    )


def test_without_a_pidfile_or_with_an_empty_one_nothing_runs(tmp_path: Path) -> None:
    """Empty: the broker could not remove it at its end."""
    assert find_status(tmp_path / "pid") == (Status.NOT_RUNNING, "stomp-broker is not running")
    (tmp_path / "pid").touch()
    assert find_status(tmp_path / "pid") == (Status.NOT_RUNNING, "stomp-broker is not running")


def test_what_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    """A file in the place of the directory, for one."""
    (tmp_path / "file").touch()

    assert find_status(tmp_path / "file" / "pid") == (
        Status.UNKNOWN,
        f"cannot read {tmp_path / 'file' / 'pid'}: Not a directory",
    )


def test_the_command_prints_it_and_ends_with_the_status_of_the_lsb(holder: int, tmp_path: Path) -> None:
    """One line, whose last word is the number."""

    def ask() -> tuple[int, str]:
        command = [sys.executable, "-m", "forkbroker", "--pidfile", str(tmp_path / "pid"), "--status"]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return ended.returncode, ended.stdout

    assert ask() == (0, f"stomp-broker is running, process {holder}\n")
    os.kill(holder, signal.SIGKILL)
    os.waitid(os.P_PID, holder, os.WEXITED | os.WNOWAIT)
    assert ask()[0] == Status.DEAD


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_any_user_can_ask(holder: int, tmp_path: Path) -> None:
    """Without the right to signal the broker."""
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)

    def ask() -> int:
        os.setresuid(12_345, 12_345, 12_345)
        return 0 if find_status(tmp_path / "pid") == (0, f"stomp-broker is running, process {holder}") else 1

    assert os.waitpid(children.fork(ask, ()), 0)[1] == 0
