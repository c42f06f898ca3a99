"""A broker that is played by the test: what it says is given, on a real Unix socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from forkbroker.stomp.limits import Limits
from forkbroker.stomp.parser import Parser
from forkbroker.stomp.versions import V12

CONNECTED = b"CONNECTED\nversion:1.2\n\n\0"

Answer = Callable[[str, Mapping[str, str], bytes], bytes]
"""Makes of a frame (command, headers, body) what is said then; nothing: the connection is closed."""


@contextmanager
def played(path: Path, answer: Answer) -> Iterator[str]:
    """Answer the frames of one client after the other; the URL."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, answer), daemon=True)
        thread.start()
        try:
            yield f"unix:{path}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, answer: Answer) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            with client, suppress(ConnectionError):
                _talk(client, answer)


def _talk(client: socket.socket, answer: Answer) -> None:
    parser = Parser(Limits())
    while octets := client.recv(65_536):
        runs = parser.receive(octets)
        if parser.version is None:
            parser.negotiated(V12)
            runs += parser.receive(b"")
        for run in runs:
            for body in run.bodies:
                said = answer(run.head.command, run.head.headers, bytes(body))
                if not said:
                    return
                client.sendall(said)


def answering(found: Mapping[str, Any], asked: list[tuple[str, Any]]) -> Answer:
    """Let everybody in, and answer each verb with this result, or these rows; `asked` gets what came."""

    def answer(command: str, headers: Mapping[str, str], body: bytes) -> bytes:
        if command == "CONNECT":
            return CONNECTED
        verb = headers["destination"].removeprefix("/control/")
        asked.append((verb, json.loads(body)))
        result = found[verb]
        plain = {"rows": result, "more": False} if isinstance(result, list) else {"result": result}
        return message(headers["correlation-id"], {"ok": True, **plain})

    return answer


def message(correlation_id: str, found: Mapping[str, Any]) -> bytes:
    """An answer to this request."""
    octets = json.dumps(found).encode()
    return b"MESSAGE\ncorrelation-id:%b\ncontent-length:%d\n\n%b\0" % (correlation_id.encode(), len(octets), octets)
