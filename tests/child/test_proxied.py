"""The PROXY protocol: headers of both versions, whole and in pieces, and what is none."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
from child.conftest import counting_writes, has_ended
from hypothesis import example, given
from hypothesis import strategies as st
from support.deadline import wait_until

from forkbroker.child.proxied import SIGNATURE, Header, ProxiedTransport, ProxyError, parse
from forkbroker.child.transport import PlainTransport, TransportError
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Cause, Kind

PORTS = st.integers(0, 65_535)


def line(source: str, target: str, port: int, family: str) -> bytes:
    return f"PROXY {family} {source} {target} {port} 61613\r\n".encode()


def binary(source: bytes, port: int, *, command: int = 0x21, family: int = 0x11, more: bytes = b"") -> bytes:
    rest = source + bytes(len(source)) + struct.pack(">HH", port, 61613) + more
    return SIGNATURE + struct.pack(">BBH", command, family, len(rest)) + rest


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, str, int]:
    """A header, and what it says."""
    port = draw(PORTS)
    six = draw(st.booleans())
    address = draw(st.ip_addresses(v=6 if six else 4))
    if draw(st.booleans()):
        return line(str(address), str(address), port, "TCP6" if six else "TCP4"), str(address), port
    more = draw(st.binary(max_size=200))
    return binary(address.packed, port, family=0x21 if six else 0x11, more=more), str(address), port


@given(headers(), st.binary(max_size=50))
def test_a_header_says_where_the_client_is(found: tuple[bytes, str, int], rest: bytes) -> None:
    """Each beginning of it is only not complete."""
    octets, host, port = found

    assert parse(octets + rest) == Header(len(octets), host, port)
    assert [parse(octets[:length]) for length in range(len(octets))] == [None] * len(octets)


@given(st.binary(max_size=150))
@example(b"PROXY ")
@example(SIGNATURE)
@example(SIGNATURE + b"\x21\x11\x00\x00")
@example(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n")
@example(b"CONNECT\naccept-version:1.2\n\n\0")
def test_whatever_comes_is_a_header_or_none_or_not_complete(octets: bytes) -> None:
    """Nothing else is raised, and nothing waits for ever."""
    for data in (octets, SIGNATURE + octets, b"PROXY " + octets, b"PROXY TCP4 " + octets):
        try:
            header = parse(data)
        except ProxyError:
            continue
        assert header is None or header.length <= len(data)
        if header is not None and header.host:
            ipaddress.ip_address(header.host)


@pytest.mark.parametrize(
    "octets",
    [
        b"C",
        b"GET / HTTP/1.1",
        b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
        b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 \xff.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::1 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY " + b"x" * 101,
        binary(bytes(4), 1, command=0x31),
        binary(bytes(4), 1, command=0x22),
        binary(bytes(4), 1, family=0x12),
        binary(bytes(4), 1, family=0x21),
        binary(bytes(108), 1, family=0x31),
        binary(bytes(4), 1, more=bytes(5000))[:20],
    ],
)
def test_what_is_no_header_is_refused_at_once(octets: bytes) -> None:
    """A client that came past the proxy's header would say itself where it is."""
    with pytest.raises(ProxyError):
        parse(octets)


@pytest.mark.parametrize(
    "octets", [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", binary(bytes(4), 1, command=0x20),
               binary(b"", 0, family=0)],
)  # fmt: skip
def test_connections_of_the_proxy_itself_have_its_address(octets: bytes) -> None:
    """It looks whether the broker is there."""
    assert parse(octets + b"rest") == Header(len(octets))


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("header", [line("192.0.2.9", "192.0.2.1", 7, "TCP4"), binary(bytes([192, 0, 2, 9]), 7)])
def test_the_transport_gives_what_is_behind_the_header(header: bytes, size: int) -> None:
    """However it comes in pieces; and writes nothing before it is known what is spoken."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found: list[Header] = []
        transport = ProxiedTransport(ours, PlainTransport, found.append)
        place, got = memoryview(bytearray(100)), b""
        assert transport.write([b"x", b"yz"]) == 3
        data = header + b"hello"
        for start in range(0, len(data), size):
            theirs.sendall(data[start : start + size])
            try:
                got += bytes(place[: transport.read_into(place)])
            except BlockingIOError:
                continue
        while len(got) < 5:
            got += bytes(place[: transport.read_into(place)])
        assert got == b"hello"
        assert [(one.host, one.port) for one in found] == [("192.0.2.9", 7)]
        assert transport.write([b"answer"]) == 6
        assert theirs.recv(10) == b"answer"
        assert (transport.in_hand, transport.has_more, transport.wants_writable) == (0, False, False)
        transport.shut_down(Cause.ASKED)
        assert theirs.recv(10) == b""
        theirs.close()
        assert transport.read_into(place) == 0


def test_a_client_without_a_header_is_told_of_in_the_log_alone() -> None:
    """And one that leaves before it is whole has ended its stream."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport = ProxiedTransport(ours, PlainTransport, print)
        theirs.sendall(b"CONNECT\n")
        with pytest.raises(TransportError, match="PROXY protocol: no PROXY header"):
            transport.read_into(memoryview(bytearray(10)))
    ours, theirs = socket.socketpair()
    with ours:
        transport = ProxiedTransport(ours, PlainTransport, print)
        theirs.sendall(b"PROXY TCP4 ")
        theirs.close()
        assert transport.read_into(memoryview(bytearray(10))) == 0
        transport.shut_down(Cause.ASKED)
        assert transport.find_certificate_name("cn") == ""


def test_the_end_of_a_client_without_a_header_waits_for_nothing() -> None:
    """It can't be told why, and its process does not try again and again until its time is over."""
    with counting_writes(lambda connection: ProxiedTransport(connection, PlainTransport, print)) as (play, writes):
        play.client.sendall(b"PROXY TCP4 ")
        play.tells(pack(Kind.CLOSE, token=Cause.FULL, block=b"others wait"))
        (leaving,) = play.told()

        assert leaving.block == b"others wait"
        assert writes() == 1
        wait_until(lambda: has_ended(play.client), "the end for the client")
