"""The log: one line an event, to the standard error stream, a file or syslog.

Every process writes through its own copy of the descriptor, a line with one system call: that keeps lines whole without
a process or a thread that collects them. A line that cannot be written now (disk full, no syslog daemon, a pipe that
nobody reads, a stopped terminal) is dropped, and counted: a broker neither stops nor waits for its log. Once a line can
be written again, one before it says how many are missing. `forkbroker.posix.log_formats` makes the lines.

A forked child must keep `Log.descriptors`, or its lines go nowhere, or worse, into whatever has got the number since.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from forkbroker.errors import Exit, StartError
from forkbroker.posix import log_formats
from forkbroker.posix.files import explain, open_own
from forkbroker.posix.log_formats import Format
from forkbroker.posix.outlets import Outlet

LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}
"""Level names as the option has them: act now, look, the life of broker and clients, for us."""

SYSLOG_SOCKETS = (Path("/dev/log"), Path("/var/run/log"))
"""Where syslog daemons listen, on Linux and on the BSDs."""

_STDERR = 2
_FILE_MODE = 0o640
_OPEN = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_FACILITY_DAEMON = 3 << 3
_DATAGRAM_OCTETS = 8000


logger = logging.getLogger("forkbroker")


def _report(dropped: int) -> logging.LogRecord:
    return logging.LogRecord(
        "forkbroker",
        logging.WARNING,
        __file__,
        0,
        "log: %s dropped, they could not be written",
        (_lines(dropped),),
        None,
    )


def _lines(number: int) -> str:
    return f"{number:,} line{'' if number == 1 else 's'}"


class Log(logging.Handler):
    """Where this process's log goes, from `start` to `close`."""

    def __init__(self, form: Format) -> None:
        """`form` makes the lines."""
        super().__init__()
        self._form = form
        self._dropped = 0
        self._counted_by = os.getpid()
        self._is_torn = False
        """The last line was written in part: the next one must not continue it."""

    @property
    @abstractmethod
    def descriptors(self) -> Sequence[int]:
        """What a child must keep open to log."""

    def start(self, level: str) -> None:
        """Take all events of `level` (a key of LEVELS) and above. One log at a time."""
        logging.getLogger().addHandler(self)
        set_level(level)

    def reopen(self) -> None:
        """Go on in a new file after the old one was moved away. Nothing to do for logs that are no files."""

    def catch_up(self) -> None:
        """Let go of an old file, without a word, after another process has gone on in a new one."""

    def look_after(self) -> None:
        """Do what is due without an event. For the parent process, about once a second."""
        self.tell_dropped()

    def give_to(self, uid: int, gid: int) -> None:
        """Let the user whom the broker becomes write it after the next reopening."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it."""
        self.tell_dropped()
        if self._dropped or not self._put(record):
            self._dropped += 1

    def tell_dropped(self) -> None:
        """Write how many lines were dropped, if there are some and the log can be written again."""
        if self._counted_by != os.getpid():  # a process that was forked answers for its own lines only
            self._counted_by, self._dropped = os.getpid(), 0
        if self._dropped and self._put(_report(self._dropped)):
            self._dropped = 0

    @abstractmethod
    def _put(self, record: logging.LogRecord) -> bool:
        """Write a line without waiting; tell whether it is written."""

    def _put_line(self, record: logging.LogRecord, write: Callable[[bytes], int]) -> bool:
        line = f"{self._form(record)}\n".encode(errors="replace")
        data = b"\n" + line if self._is_torn else line
        try:
            self._is_torn = write(data) < len(data)
        except OSError:
            return False
        return not self._is_torn

    def close(self) -> None:
        """Take no more events."""
        logging.getLogger().removeHandler(self)
        super().close()


class StderrLog(Log):
    """The standard error stream, for brokers in the foreground."""

    def __init__(self, form: Format = log_formats.text, *, reopens: bool = True) -> None:
        """`reopens`: see Outlet; without it for a process that will give its standard streams up."""
        super().__init__(form)
        self._outlet = Outlet(_STDERR, reopens=reopens)

    @property
    def descriptors(self) -> Sequence[int]:
        """What the stream was opened as again; every child has the stream itself."""
        return self._outlet.descriptors

    def _put(self, record: logging.LogRecord) -> bool:
        return self._put_line(record, self._outlet.write)

    def close(self) -> None:
        """Take no more events."""
        super().close()
        self._outlet.close()


class FileLog(Log):
    """A file that is appended to, and followed when it is renamed: by every process, before it writes its next line."""

    def __init__(self, path: Path, form: Format = log_formats.text, owners: Collection[int] = ()) -> None:
        """Open `path`, or create it, readable for the group.

        `owners`: users whose files root takes over, besides its own.

        Raises:
            StartError: it cannot be opened.
        """
        super().__init__(form)
        self._path = path.absolute()
        self._owners = owners
        self._cannot_follow = False
        """The path leads to another file, which cannot be opened; that was said."""
        try:
            self._fd = self._open()
        except OSError as error:
            raise StartError(f"cannot write log file {path}: {explain(error)}", Exit.CANTCREAT) from error

    def _open(self) -> int:
        """Open without waiting. A FIFO can be opened for writing only while it is open for reading, by us if need be:
        then lines are dropped until a reader comes."""
        try:
            return open_own(self._path, _OPEN, _FILE_MODE, self._owners)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        reader = open_own(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, 0, self._owners)
        try:
            return open_own(self._path, _OPEN, _FILE_MODE, self._owners)
        finally:
            os.close(reader)

    @property
    def descriptors(self) -> Sequence[int]:
        """The file's; the number stays the same over reopening."""
        return (self._fd,)

    def _put(self, record: logging.LogRecord) -> bool:
        """Write a line, in the file that stands under the path now."""
        self.catch_up()
        return self._put_line(record, lambda data: os.write(self._fd, data))

    def catch_up(self) -> None:
        """Go on in the file that stands under the path now."""
        with suppress(OSError):
            if self._was_moved():
                self._follow()

    def _was_moved(self) -> bool:
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._fd))
        except FileNotFoundError:
            return True

    def _follow(self) -> None:
        """Open the path again. Raises OSError; the old file is written on then."""
        fd = self._open()
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)

    def reopen(self) -> None:
        """Open the path again, and say so; if that fails, say in the old file why it is written on."""
        self._cannot_follow = False
        if self._try_to_follow():
            logger.info("log: opened again")

    def look_after(self) -> None:
        """Follow the file if it was moved, also without an event; say once that it can't be followed."""
        super().look_after()
        with suppress(OSError):
            if not self._was_moved():
                self._cannot_follow = False
            elif self._try_to_follow():
                logger.info("log: opened again, the file was moved")

    def _try_to_follow(self) -> bool:
        try:
            self._follow()
        except OSError as error:
            if not self._cannot_follow:
                self._cannot_follow = True
                logger.warning("log: cannot open %s, the old file is written on: %s", self._path, explain(error))
            return False
        return True

    def give_to(self, uid: int, gid: int) -> None:
        """Change the owner of a file, but not of a device. Its directory is the administrator's matter."""
        if stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.fchown(self._fd, uid, gid)

    def close(self) -> None:
        """Take no more events, and close the file. `logging` closes again at exit, when the number may be another's."""
        super().close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class SyslogLog(Log):
    """The local syslog daemon, facility daemon; it adds the time itself."""

    def __init__(self, paths: Sequence[Path] = SYSLOG_SOCKETS, form: Format = log_formats.bare_text) -> None:
        """Connect to the first of `paths` on which a daemon listens.

        Raises:
            StartError: none listens.
        """
        super().__init__(form)
        self._paths = paths
        self._socket = self._connect()
        if self._socket is None:
            places = " or ".join(map(str, paths))
            raise StartError(
                f"no syslog daemon listens at {places}; start one, or log to a file with --log-file", Exit.UNAVAILABLE
            )

    def _connect(self) -> socket.socket | None:
        """Non-blocking: a daemon that hangs must not make the broker hang with it."""
        for path in self._paths:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            link.setblocking(False)
            try:
                link.connect(str(path))
            except OSError:
                link.close()
            else:
                return link
        return None

    @property
    def descriptors(self) -> Sequence[int]:
        """The socket's; it changes when the daemon was restarted."""
        return () if self._socket is None else (self._socket.fileno(),)

    def _put(self, record: logging.LogRecord) -> bool:
        """Send a datagram; after a restart of the daemon, over a new socket."""
        priority = _FACILITY_DAEMON | log_formats.severity(record)
        line = f"<{priority}>stomp-broker[{record.process}]: {self._form(record)}".encode(errors="replace")
        try:
            if self._send(line[:_DATAGRAM_OCTETS]):
                return True
            if self._socket is not None:
                self._socket.close()
            self._socket = self._connect()
            return self._send(line[:_DATAGRAM_OCTETS])
        except BlockingIOError:
            return False

    def _send(self, line: bytes) -> bool:
        """Send; False when the socket has nobody at its other end.

        Raises:
            BlockingIOError: the daemon reads nothing.
        """
        if self._socket is None:
            return False
        try:
            self._socket.send(line)
        except BlockingIOError:
            raise
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Take no more events, and close the socket."""
        super().close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def set_level(level: str) -> None:
    """Log events of `level` (a key of LEVELS) and above, whichever log there is."""
    logging.getLogger().setLevel(LEVELS[level])


def is_journal(fd: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether a descriptor is connected to systemd's journal, as systemd.exec(5) says of JOURNAL_STREAM."""
    found = os.fstat(fd)
    return environment.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"
