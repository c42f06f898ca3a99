"""Where the broker listens: addresses as administrators write them. The sockets are in `forkbroker.posix.listening`.

    127.0.0.1:61613   [::1]:61613   localhost:61613   tls://0.0.0.0:61614   unix:/run/stomp-broker/socket
    ws://127.0.0.1:15674   wss://0.0.0.0:15673

`localhost` is both loopback addresses and asks no name service. Port 0 lets the system choose, the same number for
every address of the name.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from forkbroker.errors import ConfigurationError

_RIGHT = "write HOST:PORT, [IPV6]:PORT, tls://HOST:PORT, ws://HOST:PORT, wss://HOST:PORT or unix:/PATH"
_SCHEMES = {"tls://": (True, False), "ws://": (False, True), "wss://": (True, True), "": (False, False)}
"""What an address begins with, and whether clients speak TLS there, and HTTP."""
_OF_FLAGS = {flags: scheme for scheme, flags in _SCHEMES.items()}

_USUAL_LOOPBACK = ("127.0.0.1", "::1")
"""Nearly all that there are: nothing has to be computed for their clients."""
_PATH_OCTETS = 103
"""The longest path of a Unix socket that every system takes (sun_path of 104 octets, the last one a zero)."""

_FORM = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]+)")


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A host and port, or the path of a Unix socket (then there is no host)."""

    host: str = ""
    """A name or an address, without brackets."""
    port: int = 0
    path: str = ""
    """Absolute, so that it outlives a change of directory."""
    is_tls: bool = False
    """Clients speak TLS there."""
    is_web: bool = False
    """Clients speak HTTP there: what is a WebSocket then begins as a request."""

    @property
    def is_local(self) -> bool:
        """Only this host can reach it. Names other than localhost are not believed: what they mean may change."""
        return bool(self.path) or self.host == "localhost" or is_loopback(self.host)

    def describe(self) -> str:
        """The address in the form in which it is given."""
        return f"unix:{self.path}" if self.path else self.scheme + join(self.host, self.port)

    @property
    def scheme(self) -> str:
        """What the address begins with: `tls://`, `ws://`, `wss://`, or nothing."""
        return _OF_FLAGS[self.is_tls, self.is_web]


def parse_address(text: str) -> ListenAddress:
    """Read an address.

    Raises:
        ConfigurationError: it is none.
    """
    if text.startswith("unix:"):
        return _parse_path(text)
    scheme = next(scheme for scheme in _SCHEMES if text.startswith(scheme))
    is_tls, is_web = _SCHEMES[scheme]
    match = _FORM.fullmatch(text.removeprefix(scheme))
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
    host, port = (match["six"] or match["host"]).lower(), int(match["port"])
    return ListenAddress(host=host, port=port, is_tls=is_tls, is_web=is_web)


def parse_http_address(text: str) -> ListenAddress:
    """Read the address of a listener for HTTP: a host and a port.

    Raises:
        ConfigurationError: it is none.
    """
    if _FORM.fullmatch(text) is None:
        raise ConfigurationError(text, "not an address for HTTP", "write HOST:PORT, for example localhost:9613")
    return parse_address(text)


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
    if host in _USUAL_LOOPBACK:
        return True
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


class SchemeListener(socket.socket):
    """A socket whose clients speak TLS or HTTP, as the scheme of its address says."""

    is_tls = False
    is_web = False


def describe_listener(listener: socket.socket) -> str:
    """Where a socket listens, with the port that the system chose: "127.0.0.1:40001", "ws://…", "unix:/path"."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    scheme = _OF_FLAGS[listener.is_tls, listener.is_web] if isinstance(listener, SchemeListener) else ""
    return scheme + join(name[0], name[1])


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
    return join(name[0], name[1])


def is_on_this_machine(client: socket.socket) -> bool:
    """Whether the other end of a connection is on this host; one that has left already is not."""
    try:
        name = client.getpeername()
    except OSError:
        return False
    # that of a Unix socket is none; what the object says of its family may be wrong (`Spare`)
    return not isinstance(name, tuple) or is_loopback(name[0])


def name_client(host: str, port: int) -> str:
    """A client for people; with port 0, which no client has, the port is not known."""
    return join(host, port) if port else host


def join(host: str, port: int) -> str:
    """`127.0.0.1:61613`, `[::1]:61613`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
