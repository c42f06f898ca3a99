"""The header with which a proxy says for whom it has connected (PROXY protocol of HAProxy, versions 1 and 2).

It comes before everything else, also before TLS, and only proxies that the configuration names send it; from these it
has to come, as else a client of theirs could send one. Version 1 is a line, at most 107 octets with its CR LF:

    PROXY TCP4 192.0.2.9 198.51.100.7 40112 61613 CR LF          PROXY UNKNOWN ... CR LF

Version 2, big-endian:

    0   12 octets, SIGNATURE      12  u8  version (high 4 bits, 2) and command: 0 LOCAL, 1 PROXY
    13  u8  family (high 4 bits: 1 IPv4, 2 IPv6, 3 Unix) and protocol (1: stream)
    14  u16 length of what follows: source, destination (4, 16 or 108 octets each), two ports (u16), other fields

LOCAL and UNKNOWN are the proxy's own connections, to see whether the broker is there: these have the proxy's address.

`ProxiedTransport` reads the header, and is then as the transport that it makes. It reads not one octet more, as what
follows may be the other transport's.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from forkbroker.child.child import HABITS, ClientChild, Shared
from forkbroker.child.lobby import Bell, serve_in_full
from forkbroker.child.spare import Spare
from forkbroker.child.transport import Transport, TransportError
from forkbroker.posix import collector
from forkbroker.session.setup import Habits
from forkbroker.wire.envelope import Buffer
from forkbroker.wire.kinds import Cause
from forkbroker.wire.memory_file import MemoryFile

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIRST = struct.Struct(">12sBBH")
_PROXY_LINE = b"PROXY "
_LONGEST_LINE = 107
_LONGEST = 4_096
"""Octets of a header of version 2 behind its first 16: the addresses, and what else a proxy may add."""
_STREAMS = {0x11: (ipaddress.IPv4Address, 4), 0x21: (ipaddress.IPv6Address, 16)}
_FAMILIES = {b"TCP4": ipaddress.IPv4Address, b"TCP6": ipaddress.IPv6Address}


class ProxyError(ValueError):
    """It is no such header; the text is for the log."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a proxy has said."""

    length: int
    """Octets of the header."""
    host: str = ""
    """The address of the client; empty: the connection is the proxy's own."""
    port: int = 0


def parse(octets: bytes) -> Header | None:
    """Read a header; None: it is not complete.

    Raises:
        ProxyError: it is none, or one that cannot be used.
    """
    if octets[:12] == SIGNATURE[: len(octets)]:
        return _parse_binary(octets) if len(octets) >= _FIRST.size else None
    if octets[:6] == _PROXY_LINE[: len(octets)]:
        return _parse_line(octets)
    raise ProxyError("no PROXY header")


def _parse_line(octets: bytes) -> Header | None:
    end = octets.find(b"\r\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(octets) >= _LONGEST_LINE:
            raise ProxyError(f"a PROXY line above {_LONGEST_LINE} bytes")
        return None
    words = octets[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return Header(end + 2)
    family = _FAMILIES.get(words[1])
    if family is None or len(words) != 6:
        raise ProxyError("a PROXY line of another form")
    try:
        # without the name of an interface, which an IPv6 address may have
        source, _ = (family(word.decode("ascii").replace("%", "?")) for word in words[2:4])
        port, _ = (_read_port(word) for word in words[4:])
    except ValueError:
        raise ProxyError("a PROXY line without addresses and ports") from None
    return Header(end + 2, str(source), port)


def _read_port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or int(word) > 65_535:
        raise ValueError(word)
    return int(word)


def _parse_binary(octets: bytes) -> Header | None:
    _, version, family, length = _FIRST.unpack_from(octets)
    if version not in (0x20, 0x21):
        raise ProxyError(f"a PROXY header of version and command {version:#04x}")
    if length > _LONGEST:
        raise ProxyError(f"a PROXY header of {length:,} bytes, at most {_LONGEST:,} are permitted")
    whole = _FIRST.size + length
    if len(octets) < whole:
        return None
    if version == 0x20 or family == 0:
        return Header(whole)
    if family not in _STREAMS:
        raise ProxyError(f"a PROXY header for family and protocol {family:#04x}")
    make, size = _STREAMS[family]
    if length < 2 * size + 4:
        raise ProxyError(f"a PROXY header of {length} bytes has no room for its addresses")
    source = make(octets[_FIRST.size : _FIRST.size + size])
    return Header(whole, str(source), int.from_bytes(octets[_FIRST.size + 2 * size :][:2]))


class ProxiedTransport:
    """The stream begins behind the header."""

    in_hand = 0

    def __init__(
        self,
        connection: socket.socket,
        make: Callable[[socket.socket], Transport],
        found: Callable[[Header], None],
    ) -> None:
        """`make` makes the transport of what follows the header; `found` gets the header."""
        connection.setblocking(False)
        self.socket = connection
        self._make = make
        self.found = found
        self._head = b""
        self._inner: Transport | None = None

    @property
    def has_more(self) -> bool:
        """As the transport behind the header."""
        return self._inner is not None and self._inner.has_more

    @property
    def wants_readable(self) -> bool:
        """The header has to be read."""
        return self._inner is None or self._inner.wants_readable

    @property
    def wants_writable(self) -> bool:
        """Before the header is there, nothing is written."""
        return self._inner is not None and self._inner.wants_writable

    def read_into(self, place: memoryview) -> int:
        """Read octets of the stream; of the header first.

        Raises:
            BlockingIOError: nothing of the stream has come.
            TransportError: the header is wrong.
            OSError: the connection is broken.
        """
        if self._inner is None and not self._read_head():
            return 0
        assert self._inner is not None
        return self._inner.read_into(place)

    def _read_head(self) -> bool:
        """Read what is there of the header, and not more; False: the connection has ended."""
        while True:
            octets = self.socket.recv(_FIRST.size + _LONGEST, socket.MSG_PEEK)
            if not octets:
                return False
            try:
                header = parse(self._head + octets)
            except ProxyError as error:
                raise TransportError(0, f"PROXY protocol: {error}") from None
            count = len(octets) if header is None else header.length - len(self._head)
            self._head += self.socket.recv(count)
            if header is not None:
                self._inner = self._make(self.socket)
                self.found(header)
                return True

    def write(self, buffers: Iterable[Buffer]) -> int:
        """As the transport behind the header. Before that, octets are dropped, and count as written.

        Raises:
            BlockingIOError: nothing can be written now.
            OSError: the connection is broken.
        """
        if self._inner is None:
            # it is the end, and nobody knows yet whether that is to be encrypted
            return sum(map(len, buffers))
        try:
            return self._inner.write(buffers)
        finally:
            self.in_hand = self._inner.in_hand

    def write_file(self, file: MemoryFile, offset: int, octets: int) -> int:
        """As the transport behind the header. Raises as `write`."""
        if self._inner is None:
            return octets
        try:
            return self._inner.write_file(file, offset, octets)
        finally:
            self.in_hand = self._inner.in_hand

    def find_certificate_name(self, kind: str) -> str:
        """As the transport behind the header."""
        return "" if self._inner is None else self._inner.find_certificate_name(kind)

    @property
    def bearer(self) -> str:
        """As the transport behind the header."""
        return "" if self._inner is None else self._inner.bearer

    def shut_down(self, cause: Cause) -> None:
        """Tell the client that nothing more comes."""
        if self._inner is not None:
            self._inner.shut_down(cause)
            return
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)


def serve(
    spare: Spare,
    address: str,
    peer: int,
    shared: Shared,
    bell: Bell,
    make: Callable[[socket.socket], Transport],
    habits: Habits = HABITS,
    begin: Callable[[ClientChild], None] = lambda _: None,
) -> int:
    """Serve the client of a spare, whom a proxy has brought, until it is gone; returns the exit status of the process.

    `address` is the proxy's; `make` makes the transport of what follows the header. `begin` is called with the child.
    """
    bell.has_rung = False
    collector.begin()
    transport = ProxiedTransport(spare.take_client(), make, lambda _header: None)
    child = ClientChild(spare.end, transport, address, shared, peer, habits=habits)
    begin(child)

    def learn(header: Header) -> None:
        if header.host:
            child.learn_address(header.host, header.port)

    transport.found = learn
    return serve_in_full(child, bell)
