"""The pidfile: who holds it, who may take it."""

from __future__ import annotations

import os
import signal
import socket
import stat

import pytest

from forkbroker.errors import Exit, StartError
from forkbroker.posix import children
from forkbroker.posix.pidfile import Pidfile


@pytest.fixture
def holder(tmp_path):
    """A process that holds the pidfile until it is killed."""
    near, far = socket.socketpair()

    def hold() -> int:
        Pidfile(tmp_path / "pid")
        far.send(b"!")
        far.recv(1)
        return 0

    pid = children.fork(hold, [far.fileno()])
    far.close()
    near.recv(1)
    yield pid
    os.kill(pid, signal.SIGKILL)
    near.recv(1)
    near.close()
    os.waitpid(pid, 0)


def test_the_file_has_the_number_of_its_process_and_goes_at_the_end(tmp_path) -> None:
    """Everybody may read it, whatever the umask."""
    path = tmp_path / "pid"
    before = os.umask(0o077)
    pidfile = Pidfile(path)
    os.umask(before)
    text, mode = path.read_bytes(), stat.S_IMODE(path.stat().st_mode)

    pidfile.remove()

    assert text == b"%d\n" % os.getpid()
    assert mode == 0o644
    assert not path.exists()


def test_a_living_holder_is_named(holder, tmp_path) -> None:
    """And its file is left as it is."""
    with pytest.raises(StartError, match=rf"running already \(process {holder} holds") as caught:
        Pidfile(tmp_path / "pid")

    assert caught.value.status == Exit.UNAVAILABLE
    assert (tmp_path / "pid").read_text() == f"{holder}\n"


def test_the_file_of_a_killed_broker_is_no_obstacle(tmp_path, in_child) -> None:
    """A longer, older text is replaced altogether."""
    path = tmp_path / "pid"

    def die() -> int:
        Pidfile(path)
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    in_child(die)
    path.write_text("1234567890\nand more\n")

    pidfile = Pidfile(path)
    text = path.read_text()
    pidfile.remove()

    assert text == f"{os.getpid()}\n"


def test_a_child_that_outlives_a_killed_broker_does_not_hold_its_pidfile(tmp_path, wait_end) -> None:
    """The lock belongs to the process that died, although the child has the descriptor."""
    near, far = socket.socketpair()

    def broker() -> int:
        pidfile = Pidfile(tmp_path / "pid")
        children.fork(lambda: len(far.recv(1)), [far.fileno(), pidfile.fd])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    wait_end(children.fork(broker, [far.fileno()]))
    far.close()

    Pidfile(tmp_path / "pid").remove()

    near.send(b"x")
    assert near.recv(1) == b""
    near.close()


def test_children_that_close_what_they_inherit_do_not_lose_the_lock(tmp_path, in_child) -> None:
    """Only the broker's own closing counts."""
    pidfile = Pidfile(tmp_path / "pid")
    in_child(lambda: 0)

    def try_it() -> int:
        try:
            Pidfile(tmp_path / "pid")
        except StartError:
            return 7
        return 0

    assert os.waitstatus_to_exitcode(in_child(try_it)) == 7
    pidfile.remove()


def test_a_file_that_may_not_be_unlinked_is_emptied(tmp_path) -> None:
    """After privileges were dropped, the directory is root's."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)

    def broker() -> int:
        pidfile = Pidfile(tmp_path / "pid")
        os.setresuid(12_345, 12_345, 12_345)
        pidfile.remove()
        return 0

    os.waitpid(children.fork(broker, ()), 0)

    assert (tmp_path / "pid").read_text() == ""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_root_writes_its_number_into_no_file_that_is_a_link_or_somebody_elses(tmp_path) -> None:
    """A user who may write the directory of the pidfile would choose what root empties."""
    (tmp_path / "precious").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "second name").hardlink_to(tmp_path / "precious")
    (tmp_path / "of somebody").write_text("x")
    os.chown(tmp_path / "of somebody", 12_345, 12_345)
    for name, problem in (("link", "is a link"), ("second name", "hard links"), ("of somebody", "user 12345")):
        with pytest.raises(StartError, match=rf"cannot write pidfile .*/{name}: .*{problem}"):
            Pidfile(tmp_path / name)

    assert [(tmp_path / name).read_text() for name in ("precious", "of somebody")] == ["x", "x"]


def test_a_file_that_cannot_be_written_is_a_start_error(tmp_path) -> None:
    """The message names it and says why."""
    with pytest.raises(StartError, match=r"cannot write pidfile .*: No such file") as caught:
        Pidfile(tmp_path / "none" / "pid")

    assert caught.value.status == Exit.CANTCREAT
