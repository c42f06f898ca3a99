"""The sockets behind the addresses on which the broker listens, and the files of Unix sockets.

A Unix socket has a file, which outlives a killed process. Whether anything is behind it is asked with a datagram
socket: the kernel refuses the connection if the file is all that is left, and the type if there is a socket, also one
that is bound and does not listen yet. Between the question and the own bind no other broker looks at the directory.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from forkbroker.errors import Exit, StartError
from forkbroker.posix.addresses import ListenAddress, SchemeListener, join

_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))

_PORT_ATTEMPTS = 16

_PATIENCE_S = 2.0
"""How long another broker may take to bind a socket in the same directory: it takes microseconds."""
_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class SocketRights:
    """Who may connect to a Unix socket: whoever may write its file."""

    mode: int = 0o660
    uid: int = -1
    """Owner of the file; -1: whoever makes it."""
    gid: int = -1
    """Group of the file; -1: that of whoever makes it, or of the directory."""


class UnixListener(socket.socket):
    """A Unix socket with a file that was made for it."""

    file: tuple[int, int] = (0, 0)
    """Device and inode: another one under the same name is somebody else's."""

    def unlink(self) -> None:
        """Remove the file if it is still this socket's, and its directory may be changed."""
        path = Path(os.fsdecode(self.getsockname()))
        with suppress(OSError):
            if _identify(path.lstat()) == self.file:
                path.unlink()


def open_listener(
    address: ListenAddress,
    backlog: int,
    rights: SocketRights | None = None,
    *,
    found: Sequence[tuple[int, str]] = (),
    patience_s: float = _PATIENCE_S,
) -> list[socket.socket]:
    """Listen on `address`: non-blocking sockets, one for each address of the name. The caller closes them.

    `found`: families and addresses of the host, if they were looked up before. `patience_s`: how long to wait, at
    most, for another broker that opens a socket in the same directory.

    Raises:
        StartError: the address is in use, not this host's, or not permitted.
    """
    if address.path:
        return [_open_unix(address, backlog, rights or SocketRights(), patience_s)]
    for _attempt in range(_PORT_ATTEMPTS):
        try:
            return _open_all(address, found or look_up(address), backlog)
        except StartError as error:
            # The system chose a port for the first family that somebody has in the second: let it choose again.
            taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
            if address.port != 0 or not taken:
                raise
    raise StartError(f"{address.describe()}: found no port that is free in both address families", Exit.UNAVAILABLE)


def close_listener(listener: socket.socket) -> None:
    """Close a listener, and remove its file if `open_listener` has made one."""
    if isinstance(listener, UnixListener):
        listener.unlink()
    listener.close()


# -- TCP


def _open_all(address: ListenAddress, found: Sequence[tuple[int, str]], backlog: int) -> list[socket.socket]:
    """A listener for each address of the name, all on one port."""
    listeners: list[socket.socket] = []
    port = address.port
    try:
        for family, host in found:
            try:
                listeners.append(_open_tcp(family, host, port, backlog, address))
            except OSError as error:
                # A host without IPv6, or with nothing but it, still has one loopback address.
                if address.host == "localhost" and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                raise StartError(*_explain(join(host, port), error)) from error
            port = listeners[-1].getsockname()[1]
    except StartError:
        for listener in listeners:
            listener.close()
        raise
    if not listeners:
        raise StartError(f"{address.describe()}: this host has no loopback address", Exit.UNAVAILABLE)
    return listeners


def look_up(address: ListenAddress) -> list[tuple[int, str]]:
    """Families and addresses of a host; a name service is asked for names other than localhost, which may take long.

    Raises:
        StartError: there is no such host.
    """
    if address.host == "localhost":
        return list(_LOOPBACK)
    # a str has the interpreter load what it knows of all the world's letters, for all processes that are forked later
    host = address.host.encode() if address.host.isascii() else address.host
    try:
        found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartError(f"{address.describe()}: cannot find the host: {error.strerror}", Exit.CONFIG) from error
    known = (socket.AF_INET, socket.AF_INET6)
    return list(dict.fromkeys((int(family), str(name[0])) for family, _, _, _, name in found if family in known))


def _open_tcp(family: int, host: str, port: int, backlog: int, address: ListenAddress) -> socket.socket:
    listener = SchemeListener(family, socket.SOCK_STREAM)
    listener.is_tls, listener.is_web = address.is_tls, address.is_web
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Each family has its own socket: one that serves both would shut the other's out, and show 127.0.0.1 as
            # ::ffff:127.0.0.1.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        set_options(listener)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def set_options(listener: socket.socket) -> None:
    """Let what comes by TCP not wait for company when something is written, and notice at last if a client is gone.

    What is accepted has these options of its listener, on all systems (Stevens, UNIX Network Programming, 7.4): so no
    process of a client has to set them.
    """
    if listener.family != socket.AF_UNIX:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


# -- Unix sockets


def _open_unix(address: ListenAddress, backlog: int, rights: SocketRights, patience_s: float) -> UnixListener:
    listener = UnixListener(socket.AF_UNIX, socket.SOCK_STREAM)
    path = Path(address.path)
    try:
        with _alone_in(path.parent, patience_s):
            _remove_stale(address)
            _bind(listener, path, rights.mode)
            listener.file = _identify(path.lstat())
        _give(path, listener.file, rights)
        # After all that, as nobody can connect until then.
        listener.listen(backlog)
        listener.setblocking(False)
    except (OSError, StartError) as error:
        close_listener(listener)
        if isinstance(error, StartError):
            raise
        raise StartError(*_explain(address.describe(), error)) from error
    return listener


@contextmanager
def _alone_in(directory: Path, patience_s: float) -> Iterator[None]:
    """Keep other brokers from looking for sockets in `directory`, as far as its file system has locks.

    Raises:
        OSError: there is no such directory, or another broker has it for too long.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # it may be written all the same
        yield
        return
    try:
        give_up = time.monotonic() + patience_s
        while _is_locked(fd):
            if time.monotonic() >= give_up:
                raise OSError(errno.EAGAIN, "another broker opens a socket in this directory, and does not get on")
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(fd)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # a file system without locks
    return False


def _remove_stale(address: ListenAddress) -> None:
    """Unlink a file that is left of a socket. Anything else that stands there is left alone."""
    path = Path(address.path)
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartError(f"{address.describe()}: the file exists and is not a socket; move it away", Exit.CANTCREAT)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            path.unlink()
        except OSError:
            pass  # EPROTOTYPE: there is a stream socket; whatever it is, bind says what is wrong


def _bind(listener: socket.socket, path: Path, mode: int) -> None:
    """Bind, with the mode from the first moment on."""
    before = os.umask(0o777 & ~mode)
    try:
        listener.bind(os.fspath(path))
    finally:
        os.umask(before)


def _give(path: Path, file: tuple[int, int], rights: SocketRights) -> None:
    """Change owner and group of the file that was made, and of no other one that has taken its name since."""
    if (rights.uid, rights.gid) == (-1, -1):
        return
    path_only = getattr(os, "O_PATH", None)
    if path_only is None or not Path("/proc/self/fd").is_dir():
        os.chown(path, rights.uid, rights.gid, follow_symlinks=False)
        return
    fd = os.open(path, path_only | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _identify(os.fstat(fd)) != file:
            raise FileExistsError(errno.EEXIST, "the file of the socket was replaced")
        os.chown(f"/proc/self/fd/{fd}", rights.uid, rights.gid)
    finally:
        os.close(fd)


def _identify(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _explain(where: str, error: OSError) -> tuple[str, Exit]:
    """A message and a status for a listener that cannot be opened."""
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where}: address in use; stop the program that listens there, or choose another", Exit.UNAVAILABLE
        case errno.EADDRNOTAVAIL:
            return f"{where}: not an address of this host", Exit.UNAVAILABLE
        case errno.EACCES | errno.EPERM:
            return f"{where}: no permission; ports below 1024, and other users' directories, need root", Exit.NOPERM
        case _:
            return f"{where}: cannot listen: {error.strerror or error}", Exit.OSERR
