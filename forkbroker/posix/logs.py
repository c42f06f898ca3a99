"""The log: one line an event, to the standard error stream, a file or syslog.

    2026-11-20T22:01:02.345 info  client 7 127.0.0.1:40112: connected

Every process writes through its own copy of the descriptor, a line with one system call: that keeps lines whole without
a process or a thread that collects them. A line that cannot be written (disk full, no syslog daemon) is dropped: a
broker does not stop for its log. What clients send may stand in a line, so control characters are escaped.

A forked child must keep `Log.descriptors`, or its lines go nowhere, or worse, into whatever has got the number since.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from forkbroker.errors import Exit, StartError

LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}
"""Level names as the option has them: act now, look, the life of broker and clients, for us."""

SYSLOG_SOCKETS = (Path("/dev/log"), Path("/var/run/log"))
"""Where syslog daemons listen, on Linux and on the BSDs."""

_STDERR = 2
_FILE_MODE = 0o640
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}

_FACILITY_DAEMON = 3 << 3
_SEVERITIES = {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
_DATAGRAM_OCTETS = 8000


def format_text(record: logging.LogRecord) -> str:
    """An event's text on one line; a traceback, which only a fault of ours has, follows on lines of its own."""
    try:
        text = record.getMessage().translate(_ESCAPES)
    except (TypeError, ValueError):
        # A format that does not fit its arguments: ours to fix, but no reason to lose the event, or the process.
        text = f"{record.msg} {record.args!r}".translate(_ESCAPES)
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return text


def format_line(record: logging.LogRecord) -> str:
    """Local time, level and text."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
    return f"{stamp}.{int(record.msecs):03d} {record.levelname.lower():<5} {format_text(record)}"


class Log(logging.Handler):
    """Where this process's log goes, from `start` to `close`."""

    @property
    @abstractmethod
    def descriptors(self) -> Sequence[int]:
        """What a child must keep open to log."""

    def start(self, level: str) -> None:
        """Take all events of `level` (a key of LEVELS) and above. One log at a time."""
        logging.getLogger().addHandler(self)
        logging.getLogger().setLevel(LEVELS[level])

    def reopen(self) -> None:
        """Go on in a new file after the old one was moved away. Nothing to do for logs that are no files."""

    def give_to(self, uid: int, gid: int) -> None:
        """Let the user whom the broker becomes write it after the next reopening."""

    def close(self) -> None:
        """Take no more events."""
        logging.getLogger().removeHandler(self)
        super().close()


class StderrLog(Log):
    """The standard error stream, for brokers in the foreground."""

    @property
    def descriptors(self) -> Sequence[int]:
        """None: every child has the standard streams."""
        return ()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        with suppress(OSError):
            os.write(_STDERR, f"{format_line(record)}\n".encode(errors="replace"))


class FileLog(Log):
    """A file that is appended to, and followed when it is renamed: by every process, before it writes its next line."""

    def __init__(self, path: Path) -> None:
        """Open `path`, or create it, readable for the group.

        Raises:
            StartError: it cannot be opened.
        """
        super().__init__()
        self._path = path.absolute()
        try:
            self._fd = self._open()
        except OSError as error:
            raise StartError(f"cannot write log file {path}: {error.strerror}", Exit.CANTCREAT) from error

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)

    @property
    def descriptors(self) -> Sequence[int]:
        """The file's; the number stays the same over reopening."""
        return (self._fd,)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, in the file that stands under the path now."""
        with suppress(OSError):
            if self._was_moved():
                self.reopen()
            os.write(self._fd, f"{format_line(record)}\n".encode(errors="replace"))

    def _was_moved(self) -> bool:
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._fd))
        except FileNotFoundError:
            return True

    def reopen(self) -> None:
        """Open the path again; when that fails, the old file is written on."""
        with suppress(OSError):
            fd = self._open()
            os.dup2(fd, self._fd, inheritable=False)
            os.close(fd)

    def give_to(self, uid: int, gid: int) -> None:
        """Change the file's owner. Its directory is the administrator's matter."""
        os.fchown(self._fd, uid, gid)

    def close(self) -> None:
        """Take no more events, and close the file. `logging` closes again at exit, when the number may be another's."""
        super().close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class SyslogLog(Log):
    """The local syslog daemon, facility daemon; it adds the time itself."""

    def __init__(self, paths: Sequence[Path] = SYSLOG_SOCKETS) -> None:
        """Connect to the first of `paths` on which a daemon listens.

        Raises:
            StartError: none listens.
        """
        super().__init__()
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

    def emit(self, record: logging.LogRecord) -> None:
        """Send a datagram; after a restart of the daemon, over a new socket."""
        priority = _FACILITY_DAEMON | _SEVERITIES.get(record.levelno, 6)
        line = f"<{priority}>stomp-broker[{record.process}]: {format_text(record)}".encode(errors="replace")
        if not self._send(line[:_DATAGRAM_OCTETS]):
            if self._socket is not None:
                self._socket.close()
            self._socket = self._connect()
            self._send(line[:_DATAGRAM_OCTETS])

    def _send(self, line: bytes) -> bool:
        """False when the socket has nobody at its other end."""
        if self._socket is None:
            return False
        try:
            self._socket.send(line)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Take no more events, and close the socket."""
        super().close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
