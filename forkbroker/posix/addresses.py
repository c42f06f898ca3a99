"""Where the broker listens: addresses as administrators write them, and the sockets behind them.

    127.0.0.1:61613   [::1]:61613   localhost:61613   unix:/run/stomp-broker/socket

`localhost` is both loopback addresses and asks no name service. Port 0 lets the system choose, the same number for
every address of the name.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from forkbroker.errors import ConfigurationError, Exit, StartError

_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))

_RIGHT = "write HOST:PORT, [IPV6]:PORT or unix:/PATH, as in 127.0.0.1:61613"

_PATH_OCTETS = 103
"""The longest path of a Unix socket that every system takes (sun_path of 104 octets, the last one a zero)."""

_UNIX_MODE = 0o666
"""Everybody may connect, as to a loopback port; who should not is kept out by the socket's directory."""

_PORT_ATTEMPTS = 16

_FORM = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]+)")


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A host and port, or the path of a Unix socket (then there is no host)."""

    host: str = ""
    """A name or an address, without brackets."""
    port: int = 0
    path: str = ""
    """Absolute, so that it outlives a change of directory."""

    @property
    def is_local(self) -> bool:
        """Only this host can reach it. Names other than localhost are not believed: what they mean may change."""
        return bool(self.path) or self.host == "localhost" or is_loopback(self.host)

    def describe(self) -> str:
        """The address in the form in which it is given."""
        return f"unix:{self.path}" if self.path else _join(self.host, self.port)


def parse_address(text: str) -> ListenAddress:
    """Read an address.

    Raises:
        ConfigurationError: it is none.
    """
    if text.startswith("unix:"):
        return _parse_path(text)
    match = _FORM.fullmatch(text)
    if match is None:
        raise ConfigurationError(text, "not an address to listen on", _RIGHT)
    if int(match["port"]) > 65_535:
        raise ConfigurationError(text, f"there is no port {match['port']}", "ports go from 0 (any) to 65535")
    if not (match["six"] or match["host"]):
        raise ConfigurationError(
            text, "no host", f"write localhost:{match['port']}, or 0.0.0.0:{match['port']} for all"
        )
    if match["six"] and not _is_ipv6(match["six"]):
        raise ConfigurationError(text, "brackets are for IPv6 addresses", _RIGHT)
    return ListenAddress(host=(match["six"] or match["host"]).lower(), port=int(match["port"]))


def _parse_path(text: str) -> ListenAddress:
    given = text.removeprefix("unix:")
    try:
        path = str(Path(given).absolute())
    except OSError as error:
        raise ConfigurationError(
            text, f"this directory has no name: {error.strerror}", "give an absolute path"
        ) from None
    if not given or "\0" in given:
        raise ConfigurationError(text, "no path", "write unix:/run/stomp-broker/socket, for one")
    if len(os.fsencode(path)) > _PATH_OCTETS:
        raise ConfigurationError(text, f"a path above {_PATH_OCTETS} bytes", "systems don't take more for a socket")
    return ListenAddress(path=path)


def _is_ipv6(text: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(text).version == 6
    return False


def is_loopback(host: str) -> bool:
    """Whether `host` is an address, of either family or one in the other's clothes, that only this host can have."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def source_of(host: str) -> str:
    """What limits for one address count a client of `host` as; empty for this machine's (loopback, a Unix socket).

    An IPv4 address is counted as itself. Of IPv6 the first 64 bits count: a network of that size is the least that a
    customer gets, so the other 64 cost nothing. Link-local addresses are one network for all neighbours, and count
    whole.
    """
    if not host or is_loopback(host):
        return ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, ipaddress.IPv6Address) or address.is_link_local:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def open_listener(address: ListenAddress, backlog: int) -> list[socket.socket]:
    """Listen on `address`: non-blocking sockets, one for each address of the name. The caller closes them.

    Raises:
        StartError: the address is in use, not this host's, or not permitted.
    """
    if address.path:
        return [_open_unix(address, backlog)]
    for _attempt in range(_PORT_ATTEMPTS):
        try:
            return _open_all(address, backlog)
        except StartError as error:
            # The system chose a port for the first family that somebody has in the second: let it choose again.
            taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
            if address.port != 0 or not taken:
                raise
    raise StartError(f"{address.describe()}: found no port that is free in both address families", Exit.UNAVAILABLE)


def _open_all(address: ListenAddress, backlog: int) -> list[socket.socket]:
    """A listener for each address of the name, all on one port."""
    listeners: list[socket.socket] = []
    port = address.port
    try:
        for family, host in _look_up(address):
            try:
                listeners.append(_open_tcp(family, host, port, backlog))
            except OSError as error:
                # A host without IPv6, or with nothing but it, still has one loopback address.
                if address.host == "localhost" and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                raise StartError(*_explain(_join(host, port), error)) from error
            port = listeners[-1].getsockname()[1]
    except StartError:
        for listener in listeners:
            listener.close()
        raise
    if not listeners:
        raise StartError(f"{address.describe()}: this host has no loopback address", Exit.UNAVAILABLE)
    return listeners


def _look_up(address: ListenAddress) -> list[tuple[int, str]]:
    """Families and addresses of a host; a name service is asked for names other than localhost."""
    if address.host == "localhost":
        return list(_LOOPBACK)
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartError(f"{address.describe()}: cannot find the host: {error.strerror}", Exit.CONFIG) from error
    known = (socket.AF_INET, socket.AF_INET6)
    return list(dict.fromkeys((int(family), str(name[0])) for family, _, _, _, name in found if family in known))


def _open_tcp(family: int, host: str, port: int, backlog: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Each family has its own socket: one that serves both would shut the other's out, and show 127.0.0.1 as
            # ::ffff:127.0.0.1.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _open_unix(address: ListenAddress, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(address)
        listener.bind(address.path)
        # Before listen, as nobody can connect until then.
        Path(address.path).chmod(_UNIX_MODE)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StartError(*_explain(address.describe(), error)) from error
    except StartError:
        listener.close()
        raise
    return listener


def _remove_stale(address: ListenAddress) -> None:
    """Unlink a socket on which nobody accepts any more. Anything else that stands there is left alone."""
    path = Path(address.path)
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartError(f"{address.describe()}: the file exists and is not a socket; move it away", Exit.CANTCREAT)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            path.unlink()
        except BlockingIOError:
            pass  # Its backlog is full: it lives, and bind will say so.


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


def close_and_unlink(listener: socket.socket) -> None:
    """Close a listener that `open_listener` gave, and remove its path if it has one and may still be changed."""
    path = listener.getsockname() if listener.family == socket.AF_UNIX else ""
    listener.close()
    if path:
        with suppress(OSError):
            Path(path).unlink()


def describe_listener(listener: socket.socket) -> str:
    """Where a socket listens, with the port that the system chose: "127.0.0.1:40001", "unix:/path"."""
    name = listener.getsockname()
    return f"unix:{os.fsdecode(name)}" if listener.family == socket.AF_UNIX else _join(name[0], name[1])


def reaches_beyond(listener: socket.socket) -> bool:
    """Whether other hosts may reach a socket: for those that a service manager passed, whose address we never read."""
    return listener.family != socket.AF_UNIX and not is_loopback(listener.getsockname()[0])


def describe_peer(client: socket.socket) -> str:
    """Who is at the other end: "127.0.0.1:40112", "[::1]:40112", "unix"; "gone" when it has left already."""
    if client.family == socket.AF_UNIX:
        return "unix"
    try:
        name = client.getpeername()
    except OSError:
        return "gone"
    return _join(name[0], name[1])


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
