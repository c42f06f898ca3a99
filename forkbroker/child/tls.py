"""TLS between the client and its child process (RFC 8446, RFC 5246), by the standard library's OpenSSL.

Octets are encrypted and decrypted in memory (`ssl.SSLObject`), so that it stays the transport's business what is read
from the socket and written to it. Two things follow from records, of up to 16 KiB, that are taken apart here:

- What is decrypted and not asked for yet is announced by no poll: `has_more` says that it is there.
- A part of the stream is encrypted once, and then has to be written to its last octet. Until that is done it is not
  counted as written, and the same octets are the first of the next `write` again; `in_hand` says how many there are, as
  the caller may drop nothing of them.

A client that closes without a closing record ends its stream all the same: STOMP frames say themselves where they end.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from forkbroker.child import proxied
from forkbroker.child.child import ClientChild, Shared
from forkbroker.child.lobby import Bell, serve_in_full
from forkbroker.child.spare import Spare
from forkbroker.child.transport import TransportError, take
from forkbroker.errors import Exit, StartError
from forkbroker.posix import collector
from forkbroker.wire.envelope import Buffer
from forkbroker.wire.kinds import Cause
from forkbroker.wire.memory_file import MemoryFile

_ALTERNATIVES = {"dns": "DNS", "email": "email", "uri": "URI"}
"""What Python calls these in a certificate's subjectAltName."""
_READ_SIZE = 65_536
_WRITE_SIZE = 65_536
"""Octets of the stream that are encrypted at once: four records."""


class TlsTransport:
    """The stream is what the records of a TLS connection have in them; the client has to begin the handshake."""

    bearer = ""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        """Take over `connection`, a stream socket, which does not block any more; `context` is a server's."""
        connection.setblocking(False)
        self.socket = connection
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_side=True)
        self._unsent = memoryview(b"")
        self._has_begun = False
        self.in_hand = 0
        self.has_more = False
        self.wants_readable = True
        self.wants_writable = False

    def read_into(self, place: memoryview) -> int:
        """Read what is there into the place; 0 means the end of the stream.

        Raises:
            BlockingIOError: nothing of the stream has come.
            TransportError: the client does not speak TLS, or breaks its rules.
            OSError: the connection is broken.
        """
        filled = 0
        self.has_more = False
        try:
            while filled < len(place):
                try:
                    octets = self._read(place[filled:])
                except ssl.SSLWantReadError:
                    if not self._fetch():
                        return filled
                    continue
                except ssl.SSLZeroReturnError:
                    octets = 0
                if not octets:
                    # The closing record, as the library tells of it before our own and after. The socket may stay open:
                    # what comes before the end is told first, and no poll would announce the end.
                    self.has_more = filled > 0
                    return filled
                filled += octets
        except BlockingIOError:
            if not filled:
                raise
        except ssl.SSLError as error:
            raise TransportError(error.errno, f"TLS: {_describe(error)}") from None
        finally:
            self._send()
        self.has_more = bool(self._tls.pending() or self._received.pending)
        return filled

    def _read(self, place: memoryview) -> int:
        if not self._has_begun:
            self._tls.do_handshake()
            self._has_begun = True
        return self._tls.read(len(place), place)  # type: ignore[return-value]

    def _fetch(self) -> bool:
        """Take in what the socket has; False at its end. What is read meanwhile may need an answer first."""
        self._send()
        octets = self.socket.recv(_READ_SIZE)
        if not octets:
            return False
        self._received.write(octets)
        return True

    def write(self, buffers: Iterable[Buffer]) -> int:
        """Write what the kernel takes; return how many octets of the stream it has taken with all of their records.

        Before the handshake is done the octets are dropped, and count as taken.

        Raises:
            BlockingIOError: it has not taken all of a part: call again with the same octets.
            OSError: the connection is broken.
        """
        if not self._has_begun:
            self._send()
            # what STOMP has to say before the handshake is the end, for which there is no key
            return sum(map(len, buffers))
        if not self.in_hand and not self._unsent:
            part = take(buffers, _WRITE_SIZE)
            if part:
                self.in_hand = self._tls.write(part)
        self._send()
        if self._unsent:
            raise BlockingIOError
        written, self.in_hand = self.in_hand, 0
        return written

    def write_file(self, file: MemoryFile, offset: int, octets: int) -> int:
        """As `write`: what is to be encrypted has to be read first.

        Raises:
            BlockingIOError: the kernel has not taken all of a part: call again with the same octets.
            OSError: the connection is broken.
        """
        return self.write([] if self._unsent else [file.read(offset, min(octets, _WRITE_SIZE))])

    def _send(self) -> None:
        """Give the kernel what it takes of the records that are made; the rest is `wants_writable`."""
        if self._to_send.pending:
            self._unsent = memoryview(bytes(self._unsent) + self._to_send.read())
        with suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        self.wants_writable = bool(self._unsent)

    def find_certificate_name(self, kind: str) -> str:
        """As `forkbroker.child.transport.Transport` says. Two common names are none: nobody knows which one counts."""
        # Any: the shape of this dictionary is documented, and typed as no more than that
        certificate: dict[str, Any] = self._tls.getpeercert() or {}
        if kind == "cn":
            parts = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
            return parts[0] if len(parts) == 1 else ""
        wanted = _ALTERNATIVES.get(kind)
        return next((value for key, value in certificate.get("subjectAltName", ()) if key == wanted), "")

    def shut_down(self, _cause: Cause) -> None:
        """Send a closing record, as far as there is room for it, and shut down the sending side of the socket."""
        with suppress(OSError):
            if self._has_begun:
                with suppress(ssl.SSLError):
                    self._tls.unwrap()
                self._send()
            self.socket.shutdown(socket.SHUT_WR)


def serve(
    spare: Spare,
    address: str,
    peer: int,
    shared: Shared,
    bell: Bell,
    *,
    context: ssl.SSLContext,
    is_proxied: bool = False,
) -> int:
    """Serve the client of a spare until it is gone; returns the exit status of the process.

    `is_proxied`: a proxy says first whose connection it is.

    There is no lobby: what a connection of TLS needs is many times what a session needs.
    """
    if is_proxied:
        make = partial(TlsTransport, context=context)
        return proxied.serve(spare, address, peer, shared, bell, make)
    bell.has_rung = False
    collector.begin()
    child = ClientChild(spare.end, TlsTransport(spare.take_client(), context), address, shared, peer)
    return serve_in_full(child, bell)


def make_context(certificate: Path, key: Path | None, client_ca: Path | None, *, demands: bool) -> ssl.SSLContext:
    """Return what all TLS connections of a broker share: TLS 1.2 and 1.3 with the library's choice of ciphers.

    `certificate`: a PEM file with the broker's certificate and those that lead to its root; `key`: its private key,
    if that is not in the same file. `client_ca`: certificates of those who sign clients' certificates; without it
    clients are asked for none. `demands`: a client without one is refused.

    Raises:
        StartError: a file can't be read, or is not what it should be.
    """
    for path in filter(None, (certificate, key, client_ca)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise StartError(f"TLS: cannot read {path}: {error.strerror}", Exit.CONFIG) from None
    try:
        return _make_context(certificate, key, client_ca, demands=demands)
    except (ssl.SSLError, OSError) as error:
        files = " and ".join(str(path) for path in (certificate, key, client_ca) if path is not None)
        reason = _describe(error) if isinstance(error, ssl.SSLError) else error.strerror
        raise StartError(f"TLS: {reason}; look at {files}", Exit.CONFIG) from None


def _make_context(certificate: Path, key: Path | None, client_ca: Path | None, *, demands: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key, _refuse_to_ask)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if demands else ssl.CERT_OPTIONAL
    return context


def _refuse_to_ask() -> bytes:
    """Nobody sits at a daemon to tell it the passphrase of a key. An empty one opens no key."""
    return b""


def _describe(error: ssl.SSLError) -> str:
    """What went wrong, in the words of OpenSSL without its places in the code."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is refused: {error.verify_message}"
    return (error.reason or str(error)).lower().replace("_", " ")
