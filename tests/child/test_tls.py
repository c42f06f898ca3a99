"""TLS under a child: real certificates, and OpenSSL at both ends."""

from __future__ import annotations

import re
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from child.conftest import Play, counting_writes, has_ended, playing
from support.certificates import HAS_OPENSSL, make_certificate
from support.deadline import wait_until
from support.files import make_file

from forkbroker.child.tls import TlsTransport, make_context
from forkbroker.child.transport import TransportError
from forkbroker.errors import StartError
from forkbroker.wire.envelope import pack, pack_pieces
from forkbroker.wire.kinds import Cause, Kind

pytestmark = pytest.mark.skipif(not HAS_OPENSSL, reason="openssl is not installed: no certificates")

CONNECT = b"CONNECT\naccept-version:1.2\nhost:/\n\n\0"
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Certificates of a broker, of a client, and of somebody else."""
    directory = tmp_path_factory.mktemp("certificates")
    return {name: make_certificate(directory, name) for name in ("broker", "client", "stranger")}


Serve = Callable[[ssl.SSLContext], Play]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Make children that speak TLS."""
    with ExitStack() as stack:
        yield lambda context: stack.enter_context(playing(lambda connection: TlsTransport(connection, context)))


def meet(play: Play, trusted: Path, own: tuple[Path, Path] | None = None) -> ssl.SSLSocket:
    """The client's side, which waits for the handshake."""
    context = ssl.create_default_context(cafile=str(trusted))
    if own is not None:
        context.load_cert_chain(*own)
    play.client.setblocking(True)
    play.client.settimeout(PATIENCE_S)
    play.client = client = context.wrap_socket(play.client, server_hostname="broker", do_handshake_on_connect=False)
    client.do_handshake()
    return client


def read_until(client: ssl.SSLSocket, end: bytes) -> bytes:
    heard = b""
    while end not in heard:
        octets = client.recv(65_536)
        assert octets, f"the end came before {end!r}: {heard[-200:]!r}"
        heard += octets
    return heard


def test_a_client_connects_and_sends(files, serve: Serve) -> None:
    """With what is best in TLS today; a frame after the other."""
    play = serve(make_context(*files["broker"], None, demands=False))
    client = meet(play, files["broker"][0])
    client.sendall(CONNECT)

    assert client.version() == "TLSv1.3"
    assert read_until(client, b"\0").startswith(b"CONNECTED\n")
    client.sendall(b"SEND\ndestination:/queue/a\n\nhello\0")
    assert play.told(Kind.SEND)[-1].pieces() == [b"hello"]


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_what_comes_in_one_piece_is_read_to_its_end(files, serve: Serve, size: int) -> None:
    """Records that were read from the socket and not asked for yet are announced by no poll."""
    play = serve(make_context(*files["broker"], None, demands=False))
    client = meet(play, files["broker"][0])
    body = bytes(range(250)) * (size // 250)
    client.sendall(CONNECT + b"SEND\ndestination:/queue/a\ncontent-length:%d\n\n" % len(body) + body + b"\0")

    assert bytes(play.told(Kind.SEND)[-1].pieces()[0]) == body


def test_what_a_client_does_not_read_for_a_while_keeps_its_order(files, serve: Serve) -> None:
    """More than the kernel has room for: parts of records wait, and are written when there is."""
    play = serve(make_context(*files["broker"], None, demands=False))
    client = meet(play, files["broker"][0])
    client.sendall(CONNECT + b"SUBSCRIBE\nid:1\ndestination:/topic/a\n\n\0")
    play.told(Kind.SUBSCRIBE)
    play.tells(pack(Kind.FENCED, number=1))
    for batch in range(100):
        flags, payload = pack_pieces([b"%06d" % (100 * batch + number) * 50 for number in range(100)])
        block = b"-s-%d\ndestination:/topic/a\n\n" % batch
        play.tells(pack(Kind.SEND, flags=flags, count=100, destination=b"/topic/a", block=block, payload=payload))
    heard = read_until(client, b"009999\0")

    assert re.findall(rb"\n\n(\d{6})", heard) == [b"%06d" % number for number in range(10_000)]


def test_a_goodbye_has_a_closing_record(files, serve: Serve) -> None:
    """The client can tell the end of the stream from a cut connection."""
    play = serve(make_context(*files["broker"], None, demands=False))
    context = ssl.create_default_context(cafile=str(files["broker"][0]))
    play.client.settimeout(PATIENCE_S)
    play.client = client = context.wrap_socket(play.client, server_hostname="broker", suppress_ragged_eofs=False)
    client.sendall(CONNECT + b"NONSENSE\n\n\0")

    heard = b""
    while octets := client.recv(65_536):
        heard += octets
    assert b"ERROR\n" in heard


@pytest.mark.parametrize("octets", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_the_end_of_half_a_handshake_waits_for_nothing(files, octets: bytes) -> None:
    """It can't be told why, and its process does not try again and again until its time is over."""
    context = make_context(*files["broker"], None, demands=False)
    with counting_writes(lambda connection: TlsTransport(connection, context)) as (play, writes):
        play.client.sendall(octets)
        play.tells(pack(Kind.CLOSE, token=Cause.FULL, block=b"others wait"))
        (leaving,) = play.told()

        assert leaving.block == b"others wait"
        assert writes() == 1
        wait_until(lambda: has_ended(play.client), "the end for the client")


@pytest.mark.parametrize("own", [None, "stranger"])
def test_a_client_without_the_certificate_that_is_demanded_is_refused(files, serve: Serve, own: str | None) -> None:
    """The log says why; the parent hears of no login."""
    play = serve(make_context(*files["broker"], files["client"][0], demands=True))
    with suppress(OSError):
        client = meet(play, files["broker"][0], None if own is None else files[own])
        client.sendall(CONNECT)
        client.recv(1)

    (leaving,) = play.told()
    assert leaving.kind is Kind.LEAVING
    assert b"TLS: " in leaving.block
    assert b"certificate" in leaving.block


def test_a_client_with_its_certificate_gets_in(files, serve: Serve) -> None:
    """Signed by whom the broker trusts."""
    play = serve(make_context(*files["broker"], files["client"][0], demands=True))
    client = meet(play, files["broker"][0], files["client"])
    client.sendall(CONNECT)

    assert read_until(client, b"\0").startswith(b"CONNECTED\n")


@pytest.mark.parametrize("words", [CONNECT, b"GET / HTTP/1.1\r\n\r\n", bytes(300)])
def test_who_speaks_no_tls_is_disconnected(serve: Serve, files, words: bytes) -> None:
    """One line for the log that says so."""
    play = serve(make_context(*files["broker"], None, demands=False))
    play.client.sendall(words)

    (leaving,) = play.told()
    assert leaving.block.startswith(b"connection lost, TLS: ")


def test_an_octet_at_a_time_is_a_handshake_as_well(files) -> None:
    """Nothing is read twice, and nothing is lost between two reads of half a record."""
    context = make_context(*files["broker"], None, demands=False)
    ours, theirs = socket.socketpair()
    transport = TlsTransport(theirs, context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=str(files["broker"][0])).wrap_bio(
        incoming, outgoing, server_hostname="broker"
    )
    place, got = memoryview(bytearray(100)), b""
    ours.setblocking(False)
    with ours, theirs:
        while got != b"hello":
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
                client.write(b"hello")
            for octet in outgoing.read():
                ours.sendall(bytes([octet]))
                with suppress(BlockingIOError):
                    got += bytes(place[: transport.read_into(place)])
            with suppress(BlockingIOError):
                incoming.write(ours.recv(65_536))


def test_what_is_begun_is_counted_when_all_of_it_is_written(files) -> None:
    """Until then it is in hand, and nothing else is taken."""
    context = make_context(*files["broker"], None, demands=False)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport = TlsTransport(theirs, context)
        client = _shake_hands(transport, ours, files["broker"][0])
        written = 0
        with pytest.raises(BlockingIOError):
            while True:
                written += transport.write([bytes(50_000), bytes(50_000)])
        in_hand = transport.in_hand
        assert in_hand > 0
        assert transport.wants_writable
        read = 0
        while read < written + in_hand:
            read += len(_receive(client, ours))
            if not transport.wants_writable:
                continue
            with suppress(BlockingIOError):
                assert transport.write([b"not looked at"]) == in_hand
        assert (transport.in_hand, transport.wants_writable, read) == (0, False, written + in_hand)


class _Client:
    """A client of TLS without a loop."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="broker")


def _shake_hands(transport: TlsTransport, ours: socket.socket, trusted: Path) -> _Client:
    client = _Client(ssl.create_default_context(cafile=str(trusted)))
    ours.setblocking(False)
    for _ in range(4):
        with suppress(ssl.SSLWantReadError):
            client.tls.do_handshake()
        ours.sendall(client.outgoing.read())
        with suppress(BlockingIOError):
            transport.read_into(memoryview(bytearray(10)))
        with suppress(BlockingIOError):
            client.incoming.write(ours.recv(65_536))
    return client


def _receive(client: _Client, ours: socket.socket) -> bytes:
    with suppress(BlockingIOError):
        client.incoming.write(ours.recv(1 << 20))
    parts = []
    with suppress(ssl.SSLWantReadError):
        while True:
            parts.append(client.tls.read(65_536))
    return b"".join(parts)


def test_a_key_with_a_passphrase_is_an_error_and_no_question(tmp_path: Path) -> None:
    """A daemon has no terminal."""
    certificate, key = make_certificate(tmp_path, "locked")
    locked = tmp_path / "locked.enc"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:secret"],
        check=True, capture_output=True,
    )  # fmt: skip

    with pytest.raises(StartError, match=rf"^TLS: .*; look at {certificate} and {locked}$"):
        make_context(certificate, locked, None, demands=False)


def test_garbage_after_the_handshake_breaks_the_connection(files) -> None:
    """It is the client's fault, and is told as such."""
    context = make_context(*files["broker"], None, demands=False)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport = TlsTransport(theirs, context)
        _shake_hands(transport, ours, files["broker"][0])
        ours.sendall(bytes(100))
        with pytest.raises(TransportError, match="TLS: "):
            transport.read_into(memoryview(bytearray(10)))


@pytest.mark.parametrize("last", [b"bye", b""])
def test_a_closing_record_is_the_end_of_the_stream(files, last: bytes) -> None:
    """What came before it is read first. The socket may stay open, so nothing else would tell of the end."""
    context = make_context(*files["broker"], None, demands=False)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    place = memoryview(bytearray(100))
    with ours, theirs:
        transport = TlsTransport(theirs, context)
        client = _shake_hands(transport, ours, files["broker"][0])
        if last:
            client.tls.write(last)
        with suppress(ssl.SSLWantReadError):
            client.tls.unwrap()
        ours.sendall(client.outgoing.read())
        if last:
            assert transport.read_into(place) == len(last)
            assert transport.has_more
        assert transport.read_into(place) == 0
        assert not transport.has_more


def test_a_file_that_is_not_there_is_named(files, tmp_path: Path) -> None:
    """So is one that has something else in it."""
    certificate, _ = files["broker"]
    with pytest.raises(StartError, match=rf"^TLS: cannot read {tmp_path}/x: No such file"):
        make_context(certificate, tmp_path / "x", None, demands=False)

    (tmp_path / "y").write_text("no certificate\n")
    with pytest.raises(StartError, match=rf"^TLS: .*; look at {tmp_path}/y$"):
        make_context(tmp_path / "y", None, None, demands=False)


def test_a_file_is_written_like_other_octets(files) -> None:
    """A part at a time, each of them to its end, whatever the socket takes; what comes behind comes behind."""
    context = make_context(*files["broker"], None, demands=False)
    trusted = ssl.create_default_context(cafile=str(files["broker"][0]))
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.settimeout(PATIENCE_S)
    transport = TlsTransport(ours, context)
    whole = b"".join(b"%06d" % number for number in range(60_000))
    file = make_file(whole)
    heard = bytearray()

    def listen() -> None:
        with trusted.wrap_socket(theirs, server_hostname="broker", suppress_ragged_eofs=True) as client:
            client.sendall(b"begin")
            while octets := client.recv(1 << 16):
                heard.extend(octets)

    listener = threading.Thread(target=listen)
    listener.start()
    poll = select.poll()
    poll.register(ours, select.POLLIN | select.POLLOUT)
    written, place, asked = 0, memoryview(bytearray(1024)), 0
    while written < len(whole) + 3:
        poll.poll(PATIENCE_S * 1000)
        with suppress(BlockingIOError):
            asked += transport.read_into(place)
        with suppress(BlockingIOError):
            if not asked:
                continue
            if written < len(whole):
                written += transport.write_file(file, written, len(whole) - written)
            else:
                written += transport.write([b"end"[written - len(whole) :]])
    ours.setblocking(True)
    transport.shut_down(Cause.ASKED)
    ours.close()
    listener.join(PATIENCE_S)

    assert bytes(heard) == whole + b"end"
