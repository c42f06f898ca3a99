"""The administrator's page of a running broker: who gets it."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from broker.test_users import line
from support.webclient import LISTEN, url_of

from forkbroker.testing.broker import PATIENCE_S, RunningBroker


def get(broker: RunningBroker, path: str, **headers: str) -> tuple[int, bytes]:
    """The status and the body of a GET."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url_of(broker, path=path).replace("ws://", "http://"), headers=given)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_browsers_on_this_machine_get_the_page(make_broker: Callable[..., RunningBroker]) -> None:
    """Those behind a proxy do not, without more; a redirect leads from the name without a slash."""
    broker = make_broker(*LISTEN)

    status, body = get(broker, "/any/prefix/admin")
    assert status == 200 and b"<title>forkbroker</title>" in body
    assert get(broker, "/admin/about.json") == (200, b'{"login": "none"}')
    assert get(broker, "/admin/", X_Forwarded_For="10.0.0.1")[0] == 403


def test_a_connection_that_has_its_answer_ends_without_a_warning(make_broker: Callable[..., RunningBroker]) -> None:
    """A browser keeps six of them."""
    broker = make_broker(*LISTEN, "--log-level", "debug")
    host, port = url_of(broker, path="").removeprefix("ws://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
        client.sendall(b"GET /admin/about.json HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while octets := client.recv(65_536):
            answer += octets

    assert answer.endswith(b'{"login": "none"}')
    broker.wait_for_log("debug .*disconnected, client has its answer")
    assert not [line for line in broker.log if " warning " in line and "client" in line]


def test_a_reload_opens_the_page_and_closes_it(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """For clients that come from then on; whether to log in is told anew."""
    file, users = tmp_path / "forkbroker.toml", tmp_path / "users"
    file.write_text('web-admin = "none"\n')
    broker = make_broker(*LISTEN, "--config", str(file))
    assert get(broker, "/admin/main.js")[0] == 404

    users.write_text(line("alice", "secret"))
    users.chmod(0o600)
    file.write_text(f'web-admin = "all"\nusers = "{users}"\n')
    broker.kill(signal.SIGHUP)
    broker.wait_for_log("reload: done")
    status, body = get(broker, "/admin/about.json", Via="1.1 proxy")
    assert status == 200 and json.loads(body) == {"login": "required"}
