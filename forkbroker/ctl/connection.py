"""A small STOMP client: blocking, one connection, enough to ask the broker and to send and read messages.

It is built on the broker's own parser, which reads frames of either side.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from forkbroker.errors import ConfigurationError, Exit, ForkbrokerError
from forkbroker.posix.addresses import ListenAddress, parse_address
from forkbroker.stomp.encoder import encode_frame
from forkbroker.stomp.frame import Buffer, FrameRun
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.parser import Parser
from forkbroker.stomp.versions import V12

SOCKET = "/run/forkbroker/socket"
"""Where a broker listens that the package has installed, if its configuration names a Unix socket."""
DEFAULT = "stomp://localhost:61613"
"""Where it listens without a configuration."""

_REPLIES = "/temp-queue/stomp-brokerctl"
_READ = 1_048_576
_ANY_SIZE = Limits(max_command=1024, max_header_line=1 << 20, max_headers=100_000, max_body=1 << 40)
"""The broker is believed."""

STATUSES = {
    "bad-request": Exit.DATAERR,
    "unknown-verb": Exit.UNAVAILABLE,
    "denied": Exit.NOPERM,
    "not-found": Exit.NOINPUT,
    "conflict": Exit.UNAVAILABLE,
    "unavailable": Exit.UNAVAILABLE,
}
"""Of answers that are errors."""


class CtlError(ForkbrokerError):
    """What was asked for could not be done."""

    def __init__(self, text: str, status: Exit = Exit.UNAVAILABLE, *, word: str = "") -> None:
        """`word`: of an answer that is an error."""
        super().__init__(text)
        self.status = status
        self.word = word


@dataclass(frozen=True, slots=True)
class Target:
    """Which broker, and as whom."""

    url: str
    login: str = ""
    passcode: str = ""
    timeout_s: float = 30.0
    """How long the broker may say nothing."""
    ca_file: Path | None = None
    """Certificates of the authorities that are believed; None: those of the system."""
    certificate: Path | None = None
    """The client's own, with its key."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of the broker."""

    command: str
    headers: Mapping[str, str]
    body: Buffer


def find_url(given: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Where the broker is if nobody has said it."""
    url = given or environment.get("FORKBROKER_URL")
    return url or (f"unix:{SOCKET}" if Path(SOCKET).exists() else DEFAULT)


class Connection:
    """A connection to a broker, from CONNECTED on."""

    def __init__(self, target: Target) -> None:
        """Connect and log in.

        Raises:
            CtlError: there is no broker, or it does not let us in.
        """
        self._target = target
        self._socket = _open(target)
        self._parser = Parser(_ANY_SIZE)
        self._frames: list[Frame] = []
        self._numbers = count(1)
        self.matched: int | None = None
        """Rows that the last listing would have had without `offset` and `limit`; None: it had neither."""
        try:
            self._log_in()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Without a word: nothing of what was asked is open any more."""
        self._socket.close()

    def _log_in(self) -> None:
        headers = [("accept-version", "1.2"), ("host", "/")]
        if self._target.login or self._target.passcode:
            headers += [("login", self._target.login), ("passcode", self._target.passcode)]
        self._write(encode_frame(V12, "CONNECT", headers))
        frame = self._next_frame()
        if frame.command != "CONNECTED":
            raise CtlError(f"{self._target.url}: this is no STOMP broker, it answers {frame.command[:40]!r}")

    # -- requests

    def ask(self, verb: str, args: Mapping[str, Any], *, for_ever: bool = False) -> Iterator[dict[str, Any]]:
        """Ask the broker; the rows of the answer as they come, or its result as the only one.

        `for_ever`: it may take any time.

        Raises:
            CtlError: the answer is an error, or there is none.
        """
        number = f"{verb}-{next(self._numbers)}"
        headers = [
            ("destination", f"/control/{verb}"),
            ("reply-to", _REPLIES),
            ("correlation-id", number),
            ("content-type", "application/json"),
        ]
        body = json.dumps({name: value for name, value in args.items() if value is not None}).encode()
        self.matched = None
        self._write(encode_frame(V12, "SEND", headers, body))
        while True:
            frame = self._next_frame(for_ever=for_ever)
            if frame.command != "MESSAGE" or frame.headers.get("correlation-id") != number:
                continue
            answer = json.loads(bytes(frame.body))
            if not answer["ok"]:
                word = answer["error"]
                raise CtlError(answer["text"], STATUSES.get(word, Exit.UNAVAILABLE), word=word)
            if "result" in answer:
                yield answer["result"]
                return
            yield from answer["rows"]
            if not answer["more"]:
                self.matched = answer.get("matched")
                return

    def ask_one(self, verb: str, args: Mapping[str, Any], *, for_ever: bool = False) -> dict[str, Any]:
        """As `ask`: the result."""
        return next(self.ask(verb, args, for_ever=for_ever))

    # -- messages

    def send(self, headers: Iterable[tuple[str, str]], body: Buffer, *, is_last: bool = True) -> None:
        """Send a message; the last one with a receipt, which is waited for."""
        fields = list(headers)
        number = f"send-{next(self._numbers)}"
        if is_last:
            fields.append(("receipt", number))
        self._write(encode_frame(V12, "SEND", fields, body))
        while is_last:
            frame = self._next_frame()
            is_last = frame.command != "RECEIPT" or frame.headers.get("receipt-id") != number

    def subscribe(self, headers: Iterable[tuple[str, str]]) -> None:
        """Begin a subscription."""
        self._write(encode_frame(V12, "SUBSCRIBE", headers))

    def messages(self) -> Iterator[Frame]:
        """The MESSAGEs that come, without an end."""
        while True:
            frame = self._next_frame(for_ever=True)
            if frame.command == "MESSAGE":
                yield frame

    # -- octets

    def _write(self, octets: bytes) -> None:
        try:
            self._socket.sendall(octets)
        except OSError as error:
            # the reason may be there to be read
            with suppress(OSError):
                while True:
                    self._next_frame()
            raise CtlError(f"{self._target.url}: {_reason_of(error)}") from None

    def _next_frame(self, *, for_ever: bool = False) -> Frame:
        """The next frame; an ERROR is raised."""
        give_up = time.monotonic() + self._target.timeout_s
        while not self._frames:
            self._socket.settimeout(None if for_ever else max(0.001, give_up - time.monotonic()))
            try:
                octets = self._socket.recv(_READ)
            except TimeoutError:
                raise CtlError(f"{self._target.url}: no answer within {self._target.timeout_s:g} s") from None
            except OSError as error:
                raise CtlError(f"{self._target.url}: {_reason_of(error)}") from None
            if not octets:
                raise CtlError(f"{self._target.url}: the broker has closed the connection")
            self._take(self._parser.receive(octets))
        frame = self._frames.pop(0)
        if frame.command == "ERROR":
            is_login = frame.headers.get("message") == "login failed"
            status = Exit.NOPERM if is_login else Exit.UNAVAILABLE
            hint = "; see --login and --passcode-file" if is_login and not self._target.passcode else ""
            raise CtlError(_describe_error(self._target.url, frame) + hint, status)
        return frame

    def _take(self, runs: list[FrameRun]) -> None:
        for run in runs:
            self._frames += [Frame(run.head.command, run.head.headers, body) for body in run.bodies]
        if self._frames and self._parser.version is None:
            self._parser.negotiated(V12)
            self._take(self._parser.receive(b""))
        if self._parser.error is not None:
            raise CtlError(f"{self._target.url}: this is no STOMP broker: {self._parser.error.message}")


def _open(target: Target) -> socket.socket:
    address = parse_url(target.url)
    try:
        if address.path:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                link.settimeout(target.timeout_s)
                link.connect(address.path)
            except BaseException:
                link.close()
                raise
            return link
        link = socket.create_connection((address.host, address.port), target.timeout_s)
        if not address.is_tls:
            return link
        try:
            return _make_context(target).wrap_socket(link, server_hostname=address.host)
        except BaseException:
            link.close()
            raise
    except ssl.SSLError as error:
        raise CtlError(f"{target.url}: TLS: {_describe_tls_error(error)}") from None
    except OSError as error:
        raise CtlError(f"{target.url}: {_reason_of(error)}") from None
    except ValueError:  # UnicodeError, for one; that of a certificate is an OSError as well
        raise CtlError(f"{target.url}: {address.host!r} is not the name of a host", Exit.USAGE) from None


def parse_url(url: str) -> ListenAddress:
    """Where a URL leads: as `--listen` of the broker has it, with or without `stomp://`.

    Raises:
        CtlError: nowhere.
    """
    text = url.removeprefix("stomp://")
    if "://" not in text.removeprefix("tls://") and not text.startswith("unix:") and text.count(":") == 0:
        text += ":61613"
    right = "write stomp://HOST:PORT, tls://HOST:PORT or unix:/PATH"
    try:
        address = parse_address(text)
    except ConfigurationError as error:
        problem = error.problem.replace("an address to listen on", "the address of a broker")
        raise CtlError(f"{url}: {problem}; {right}", Exit.USAGE) from None
    if address.is_web:
        raise CtlError(f"{url}: this command does not speak WebSocket; {right}", Exit.USAGE)
    return address


def _make_context(target: Target) -> ssl.SSLContext:
    """Raises CtlError: a file cannot be used."""
    file = target.ca_file
    try:
        context = ssl.create_default_context(cafile=file)
        file = target.certificate
        if file is not None:
            context.load_cert_chain(file)
    except ssl.SSLError:
        what = "certificate" if file == target.ca_file else "certificate with its key"
        raise CtlError(f"{file}: has no {what} in PEM", Exit.DATAERR) from None
    except OSError as error:
        raise CtlError(f"{file}: {_reason_of(error)}", Exit.NOINPUT) from None
    return context


def _describe_tls_error(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of the broker is not trusted: {error.verify_message}; see --ca-file"
    if error.reason == "WRONG_VERSION_NUMBER":
        return "there is no TLS at this address; write stomp:// for a connection without"
    return str(error.reason or error)


def _reason_of(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    return error.strerror or str(error)


def _describe_error(url: str, frame: Frame) -> str:
    message = frame.headers.get("message", "an error without a message")
    detail = bytes(frame.body).decode(errors="replace").strip()
    return f"{url}: {message}" if detail in ("", message) else f"{url}: {message}: {detail}"
