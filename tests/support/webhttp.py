"""Requests to a broker over plain HTTP: by a client of the standard library, by raw octets, and by curl."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPResponse

import pytest

from forkbroker.testing.broker import PATIENCE_S, RunningBroker
from support.deadline import stretched
from support.webclient import url_of

NEEDS_CURL = pytest.mark.skipif(shutil.which("curl") is None, reason="install curl")


def place_of(broker: RunningBroker) -> tuple[str, int]:
    """Where a broker has its plain HTTP."""
    host, port = url_of(broker, path="").removeprefix("ws://").split(":")
    return host, int(port)


def open_http(broker: RunningBroker) -> HTTPConnection:
    """A connection, for any number of requests; to be closed."""
    return HTTPConnection(*place_of(broker), timeout=stretched(PATIENCE_S))


def ask_http(
    broker: RunningBroker, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes, Mapping[str, str]]:
    """One request on a connection of its own: status, body and headers of the answer, the latter in lower case.

    Names are written with `_` where they have `-`.
    """
    connection = open_http(broker)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return read_answer(connection.getresponse())
    finally:
        connection.close()


def read_answer(answer: HTTPResponse) -> tuple[int, bytes, Mapping[str, str]]:
    """Status, body and headers."""
    headers: dict[str, str] = {}
    for name, value in answer.getheaders():
        known = headers.get(name.lower())
        headers[name.lower()] = value if known is None else f"{known}, {value}"
    return answer.status, answer.read(), headers


def basic(login: str, passcode: str) -> str:
    """A value for Authorization."""
    return f"Basic {b64encode(f'{login}:{passcode}'.encode()).decode()}"


def open_raw(broker: RunningBroker) -> socket.socket:
    """A connection for octets; to be closed."""
    return socket.create_connection(place_of(broker), timeout=stretched(PATIENCE_S))


def exchange(broker: RunningBroker, request: bytes) -> bytes:
    """Send these octets, then nothing more, and read to the end."""
    with open_raw(broker) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """Everything up to the end."""
    answer = b""
    while octets := client.recv(65_536):
        answer += octets
    return answer


def read_until(client: socket.socket, end: bytes, begun: bytes = b"") -> bytes:
    """Everything up to these octets, of which some may have been read."""
    while end not in begun:
        octets = client.recv(65_536)
        assert octets, f"the connection has ended behind {begun!r}"
        begun += octets
    return begun


def statuses(answers: bytes) -> list[int]:
    """Of the answers that stand one after the other."""
    return [int(found) for found in re.findall(rb"^HTTP/1\.1 (\d+) ", answers, re.MULTILINE)]


def curl(broker: RunningBroker, *arguments: str, stdin: bytes = b"") -> str:
    """What curl prints, for arguments in which the broker's address is 127.0.0.1:15674."""
    host, port = place_of(broker)
    command = ["curl", "-sS", *(argument.replace("127.0.0.1:15674", f"{host}:{port}") for argument in arguments)]
    ended = subprocess.run(
        command, input=stdin, capture_output=True, timeout=stretched(60), env={**os.environ, "no_proxy": "*"}
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode()


class Events:
    """An EventSource over a socket: the fields of each event, as they come."""

    def __init__(self, broker: RunningBroker, path: str, *lines: str) -> None:
        """Ask, and read the head of the answer; `lines`: headers of the request."""
        self._client = open_raw(broker)
        head = "\r\n".join((f"GET {path} HTTP/1.1", "Host: x", "Accept: text/event-stream", *lines, "", ""))
        self._client.sendall(head.encode())
        self.head, _, self._rest = read_until(self._client, b"\r\n\r\n").partition(b"\r\n\r\n")

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Each event that has a field; lines of one field are one value."""
        return self

    def __next__(self) -> dict[str, str]:
        while True:
            self._rest = read_until(self._client, b"\n\n", self._rest)
            block, _, self._rest = self._rest.partition(b"\n\n")
            fields: dict[str, list[str]] = {}
            for line in block.decode().split("\n"):
                name, _, value = line.partition(":")
                if name:
                    fields.setdefault(name, []).append(value.removeprefix(" "))
            if fields and "retry" not in fields:
                return {name: "\n".join(values) for name, values in fields.items()}

    def close(self) -> None:
        """Go, without a word."""
        self._client.close()
