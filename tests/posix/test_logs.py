"""Logs: lines, files that are renamed, syslog daemons that come and go."""

from __future__ import annotations

import logging
import os
import re
import select
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forkbroker.errors import Exit, StartError
from forkbroker.posix import children
from forkbroker.posix.logs import FileLog, StderrLog, SyslogLog, is_journal

log = logging.getLogger("forkbroker.test")


@pytest.fixture(autouse=True)
def restore_level():
    """The root logger's level is as before after each test."""
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


@pytest.fixture
def started():
    """Start logs that are closed after the test."""
    logs = []

    def run(one, level="debug"):
        logs.append(one)
        one.start(level)
        return one

    yield run
    for one in logs:
        one.close()


def _texts(path: Path) -> list[str]:
    """The lines of a log without their times."""
    return [line[24:] for line in path.read_text().splitlines()]


@contextmanager
def _reader(path: Path) -> Iterator[Callable[[], list[str]]]:
    """Read a FIFO: what is in it, line for line, without the times."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read() -> list[str]:
        data = b""
        while select.select([fd], [], [], 0)[0] and (piece := os.read(fd, 1 << 20)):
            data += piece
        return [line[24:] for line in data.decode().splitlines()]

    yield read
    os.close(fd)


def test_a_line_has_time_level_and_text(started, capfd) -> None:
    """On the standard error stream, in columns."""
    started(StderrLog())
    log.info("client %d: connected", 7)
    log.error("store: %s", "gone")

    first, second = capfd.readouterr().err.splitlines()

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} info  client 7: connected", first)
    assert second[24:] == "error store: gone"


def test_events_below_the_level_are_not_written(started, capfd) -> None:
    """Warning means warnings and errors."""
    started(StderrLog(), "warning")
    log.info("no")
    log.warning("yes")

    assert [line[24:] for line in capfd.readouterr().err.splitlines()] == ["warning yes"]


def test_what_a_client_sent_cannot_forge_a_line(started, capfd, monkeypatch) -> None:
    """Whatever would not show is escaped: control characters, marks of direction, separators, half characters."""
    # pytest would catch it as well, and can't send half a character to the process that collects the results
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    started(StderrLog())
    log.info("login %s", "eve\n2026 error \x1b[2J\x9b \udcff \u202e \u2028 é")

    (line,) = capfd.readouterr().err.splitlines()

    assert line[24:] == r"info  login eve\x0a2026 error \x1b[2J\x9b \udcff \u202e \u2028 é"


def test_root_writes_into_no_file_that_is_a_link_or_somebody_elses(started, tmp_path) -> None:
    """A user who may write the directory of the log would choose what root writes to, or gives away."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    (tmp_path / "precious").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "second name").hardlink_to(tmp_path / "precious")
    (tmp_path / "of somebody").write_text("x")
    os.chown(tmp_path / "of somebody", 12_345, 12_345)
    for name, problem in (("link", "is a link"), ("second name", "hard links"), ("of somebody", "user 12345")):
        with pytest.raises(StartError, match=rf"cannot write log file .*/{name}: .*{problem}"):
            FileLog(tmp_path / name)

    started(FileLog(tmp_path / "of somebody", owners=[12_345])).give_to(23_456, 23_456)
    null = FileLog(Path(os.devnull))
    null.give_to(12_345, 12_345)
    null.close()

    assert (tmp_path / "of somebody").stat().st_uid == 23_456
    assert Path(os.devnull).stat().st_uid == 0


def test_a_log_that_cannot_be_followed_says_so_once_in_the_old_file(tmp_path, in_child) -> None:
    """The directory is root's, and the broker is not root any more; the next file that it may open is used."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    path, old = tmp_path / "log", tmp_path / "log.1"
    turn, done = os.pipe()

    def broker() -> int:
        one = FileLog(path)
        one.give_to(12_345, 12_345)
        one.start("info")
        os.setresuid(12_345, 12_345, 12_345)
        os.write(done, b"x")
        while path.exists():
            select.select([], [], [], 0.002)
        one.look_after()
        one.look_after()
        log.info("in the old file")
        one.reopen()
        one.look_after()
        return 0

    pid = children.fork(broker, (turn, done))
    os.read(turn, 1)
    path.rename(old)
    os.waitpid(pid, 0)
    os.close(turn)
    os.close(done)

    told = f"warning log: cannot open {path}, the old file is written on: Permission denied"
    assert _texts(old) == [told, "info  in the old file", told]


def test_another_process_catches_up_without_a_word(started, tmp_path) -> None:
    """As long as there is no other file, the old one is kept."""
    path = tmp_path / "log"
    one = started(FileLog(path))
    path.rename(tmp_path / "log.1")
    path.symlink_to(tmp_path / "missing" / "log")
    one.catch_up()
    before = os.fstat(one.descriptors[0]).st_ino
    path.unlink()
    one.catch_up()

    assert before == (tmp_path / "log.1").stat().st_ino
    assert os.fstat(one.descriptors[0]).st_ino == path.stat().st_ino
    assert _texts(path) == _texts(tmp_path / "log.1") == []


def test_a_file_that_is_opened_again_says_so(started, tmp_path) -> None:
    """When it is asked for, and when the file was moved."""
    path = tmp_path / "log"
    one = started(FileLog(path))
    one.reopen()
    path.rename(tmp_path / "log.1")
    one.look_after()
    one.look_after()

    assert _texts(tmp_path / "log.1") == ["info  log: opened again"]
    assert _texts(path) == ["info  log: opened again, the file was moved"]


def test_the_journal_is_known_by_its_stream() -> None:
    """The variable alone may have been inherited by somebody whose stream is another one."""
    reading, writing = os.pipe()
    found = os.fstat(writing)
    stream = f"{found.st_dev}:{found.st_ino}"

    assert is_journal(writing, {"JOURNAL_STREAM": stream})
    assert not is_journal(2, {"JOURNAL_STREAM": stream})
    assert not is_journal(writing, {})
    os.close(reading)
    os.close(writing)


def test_a_file_is_appended_to_and_hidden_from_others(started, tmp_path) -> None:
    """What stood in it stays."""
    path = tmp_path / "log"
    path.write_text("before\n")
    started(FileLog(path))
    log.info("after")
    started(FileLog(tmp_path / "new"))

    assert [line[24:] or line for line in path.read_text().splitlines()] == ["before", "info  after"]
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) & 0o027 == 0


def test_a_renamed_file_is_followed_and_the_descriptor_keeps_its_number(started, tmp_path) -> None:
    """The next line goes into a new file under the old name."""
    path = tmp_path / "log"
    one = started(FileLog(path))
    before = one.descriptors
    log.info("first")
    path.rename(tmp_path / "log.1")
    log.info("second")

    assert (tmp_path / "log.1").read_text()[24:] == "info  first\n"
    assert path.read_text()[24:] == "info  second\n"
    assert before == one.descriptors


def test_a_child_follows_a_renamed_file_by_itself(started, tmp_path) -> None:
    """It was forked before, and nobody told it."""
    path = tmp_path / "log"
    one = started(FileLog(path))
    near, far = socket.socketpair()

    def child() -> int:
        far.recv(1)
        log.info("from the child")
        return 0

    pid = children.fork(child, [far.fileno(), *one.descriptors])
    path.rename(tmp_path / "log.1")
    one.reopen()
    near.send(b"x")
    os.waitpid(pid, 0)
    near.close()
    far.close()

    assert (tmp_path / "log.1").read_text() == ""
    assert _texts(path) == ["info  log: opened again", "info  from the child"]


def test_a_file_that_cannot_be_opened_again_is_written_on(started, tmp_path) -> None:
    """The directory is gone; the line is in the old file all the same."""
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs" / "log"
    started(FileLog(path))
    kept = tmp_path / "kept"
    path.rename(kept)
    path.parent.rmdir()
    log.info("still here")

    assert kept.read_text()[24:] == "info  still here\n"


def test_a_full_disk_stops_nobody_and_the_lines_are_counted(started, tmp_path) -> None:
    """A line that cannot be written is dropped; the next one that can be comes behind their number."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    path = tmp_path / "log"
    if os.getuid() == 0:  # who follows no link
        os.mknod(path, stat.S_IFCHR | 0o600, Path("/dev/full").stat().st_rdev)
    else:
        path.symlink_to("/dev/full")
    one = started(FileLog(path))
    log.error("lost")
    path.unlink()
    log.error("written")

    assert _texts(path) == ["warning log: 1 line dropped, they could not be written", "error written"]
    one.tell_dropped()
    assert len(_texts(path)) == 2


def test_a_fifo_without_a_reader_is_a_log_already(started, tmp_path) -> None:
    """Opening it does not wait; lines are dropped until it is read, and after a reader has left."""
    path = tmp_path / "log"
    os.mkfifo(path)
    started(FileLog(path))
    log.info("lost")
    with _reader(path) as read:
        log.info("read")
        first = read()
    log.info("lost as well")
    log.info("and this")
    with _reader(path) as read:
        log.info("read again")
        second = read()

    assert first == ["warning log: 1 line dropped, they could not be written", "info  read"]
    assert second == ["warning log: 2 lines dropped, they could not be written", "info  read again"]


def test_a_full_fifo_holds_nobody_up(started, tmp_path) -> None:
    """What has room is read later; the rest is counted, and told once there is room, without another line."""
    path = tmp_path / "log"
    os.mkfifo(path)
    with _reader(path) as read:
        one = started(FileLog(path))
        for _ in range(2000):
            log.info("x" * 100)
        kept = read()
        one.tell_dropped()
        told = read()

    assert 0 < len(kept) < 2000
    assert told == [f"warning log: {2000 - len(kept):,} lines dropped, they could not be written"]


def test_a_line_that_was_written_in_part_is_not_continued(started, tmp_path) -> None:
    """A long line fills the rest of a pipe: it counts as dropped, and the next one begins on a line of its own."""
    path = tmp_path / "log"
    os.mkfifo(path)
    with _reader(path) as read:
        started(FileLog(path))
        log.info("x" * 100_000)
        torn = read()
        log.info("whole")
        told = read()

    assert torn == ["info  " + "x" * len(torn[0][6:])]
    assert told == ["", "warning log: 1 line dropped, they could not be written", "info  whole"]


def test_a_child_answers_for_its_own_lines_only(started, tmp_path) -> None:
    """What its parent has dropped is the parent's to tell."""
    path = tmp_path / "log"
    os.mkfifo(path)
    one = started(FileLog(path))
    log.info("lost")

    def child() -> int:
        log.info("from the child")
        return 0

    with _reader(path) as read:
        os.waitpid(children.fork(child, one.descriptors), 0)
        lines = read()

    assert lines == ["info  from the child"]


def test_a_file_that_cannot_be_created_is_a_start_error(tmp_path) -> None:
    """The message names it."""
    with pytest.raises(StartError, match=r"cannot write log file .*/none/log: No such file") as caught:
        FileLog(tmp_path / "none" / "log")

    assert caught.value.status == Exit.CANTCREAT


def test_a_file_can_be_given_to_the_user_whom_the_broker_becomes(started, tmp_path) -> None:
    """Otherwise it could not be opened again."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    one = started(FileLog(tmp_path / "log"))

    one.give_to(12_345, 23_456)

    assert ((tmp_path / "log").stat().st_uid, (tmp_path / "log").stat().st_gid) == (12_345, 23_456)


def _daemon(path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.settimeout(10)
    listener.bind(str(path))
    return listener


def test_syslog_gets_facility_severity_and_process(started, tmp_path) -> None:
    """30 is daemon.info, 27 daemon.err; the second of two places is the one with a daemon."""
    daemon = _daemon(tmp_path / "syslog")
    started(SyslogLog([tmp_path / "none", tmp_path / "syslog"]))
    log.info("one")
    log.error("two")
    lines = [daemon.recv(1000).decode() for _ in range(2)]
    daemon.close()

    assert lines == [f"<30>stomp-broker[{os.getpid()}]: one", f"<27>stomp-broker[{os.getpid()}]: two"]


def test_a_syslog_daemon_that_was_restarted_gets_the_next_line(started, tmp_path) -> None:
    """While there is none, lines are dropped."""
    path = tmp_path / "syslog"
    daemon = _daemon(path)
    one = started(SyslogLog([path]))
    daemon.close()
    path.unlink()
    log.info("lost")
    log.info("lost as well")
    while_gone = one.descriptors
    daemon = _daemon(path)
    log.info("back")
    lines = [daemon.recv(1000) for _ in range(2)]
    daemon.close()

    assert while_gone == ()
    assert lines[0].endswith(b"]: log: 2 lines dropped, they could not be written")
    assert lines[1].endswith(b"]: back")
    assert len(one.descriptors) == 1


def test_a_syslog_daemon_that_hangs_holds_nobody_up(started, tmp_path) -> None:
    """Its socket is full; lines are dropped."""
    daemon = _daemon(tmp_path / "syslog")
    started(SyslogLog([tmp_path / "syslog"]))
    for _ in range(2000):
        log.info("x" * 1000)
    while daemon.recv(2000):
        if not select.select([daemon], [], [], 0)[0]:
            break
    log.info("back")
    report = daemon.recv(1000)
    daemon.close()

    assert re.search(rb"]: log: [\d,]+ lines dropped", report)


def test_no_syslog_daemon_is_a_start_error_that_says_what_to_do(tmp_path) -> None:
    """With the places at which it was looked for."""
    with pytest.raises(StartError, match=r"no syslog daemon listens at .*/none; .*--log-file") as caught:
        SyslogLog([tmp_path / "none"])

    assert caught.value.status == Exit.UNAVAILABLE


def test_a_closed_log_closes_nothing_a_second_time(tmp_path) -> None:
    """The interpreter closes all handlers at its end, when the number may be somebody else's."""
    one = FileLog(tmp_path / "log")
    (fd,) = one.descriptors
    one.close()
    again = os.open(os.devnull, os.O_RDONLY)

    one.close()

    assert again == fd
    os.close(again)
    assert sys.stderr is not None
