"""nginx and Caddy before the broker, with the files of etc/ but for names, ports and certificates."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from support.certificates import HAS_OPENSSL, make_certificate
from support.deadline import wait_until
from support.rawclient import connect
from support.tabs import Tab
from support.webclient import LISTEN, url_of

from forkbroker.testing.broker import PATIENCE_S, RunningBroker

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
CADDY = shutil.which("caddy")
TABS = 200
HOST = "127.0.0.2"
"""Where pages are: no proxy, as these have another address."""
MAIN = """
daemon off; {user} worker_processes 1; pid {here}/pid; error_log {here}/log notice;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_body_temp_path {here}/a; proxy_temp_path {here}/b; fastcgi_temp_path {here}/c;
    uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;
    include {here}/forkbroker.conf;
}}
"""

Open = Callable[[], Tab]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def adapt(name: str, changes: dict[str, str]) -> str:
    """A file of etc/, with what is a test's own."""
    text = (ROOT / "etc" / name).read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


@contextmanager
def running(command: list[str], port: int, log: Path, environment: dict[str, str] | None = None) -> Iterator[int]:
    """A proxy that listens; its process, which is ended with all that it has forked."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, env=os.environ | (environment or {})
        )

    def listens() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
        return False

    try:
        wait_until(listens, f"a listener of {command[0]}")
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def broker(make_broker: Callable[..., RunningBroker]) -> RunningBroker:
    """As the files want it."""
    return make_broker(*LISTEN, "--web-proxy", "127.0.0.1", "--max-clients-per-address", "0")


@pytest.fixture
def open_tab() -> Iterator[Callable[..., Tab]]:
    """Open a page, which says that it is somebody else; all of them are closed at the end."""
    with ExitStack() as stack:

        def run(port: int, context: ssl.SSLContext | None = None) -> Tab:
            link = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S, source_address=(HOST, 0))
            if context is not None:
                link = context.wrap_socket(link, server_hostname="broker")
            stack.callback(link.close)
            s = "" if context is None else "s"
            host = f"broker:{port}"
            return Tab(
                link,
                f"ws{s}://{host}/broker/ws",
                origin=f"http{s}://{host}",
                headers={"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"},
            )

        yield run


@pytest.mark.skipif(NGINX is None, reason="install nginx")
@pytest.mark.skipif(not HAS_OPENSSL, reason="openssl is not installed: no certificates")
def test_two_hundred_tabs_and_a_reload_of_nginx(
    broker: RunningBroker, open_tab: Callable[..., Tab], tmp_path: Path
) -> None:
    """Those that are open stay with the old worker of nginx; when it ends they connect again, and miss nothing then."""
    port, backend = free_port(), url_of(broker, path="").removeprefix("ws://")
    certificate, key = make_certificate(tmp_path, "broker")
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "server 127.0.0.1:15674": f"server {backend}",
        "/etc/ssl/certs/broker.example.org.pem": str(certificate),
        "/etc/ssl/private/broker.example.org.key": str(key),
    }
    (tmp_path / "forkbroker.conf").write_text(adapt("nginx/forkbroker.conf", changes))
    main = tmp_path / "nginx.conf"
    main.write_text(MAIN.format(here=tmp_path, user="user root;" if os.geteuid() == 0 else ""))
    context = ssl.create_default_context(cafile=str(certificate))
    log = tmp_path / "log"
    assert NGINX is not None
    with running([NGINX, "-c", str(main), "-e", str(log)], port, log) as pid, connect(broker.port) as publisher:
        tabs = [open_tab(port, context) for _ in range(TABS)]
        for tab in tabs:
            tab.login("/topic/news")
        publisher.publish("/topic/news", "before")
        assert {tab.take()[-8:] for tab in tabs} == {"\nbefore\0"}
        broker.wait_for_log(rf"client \d+ {HOST}: connected")

        old = re.findall(r"start worker process (\d+)", log.read_text())
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: "gracefully shutting down" in log.read_text(), "the reload")
        late = open_tab(port, context)
        late.login("/topic/news")
        publisher.publish("/topic/news", "after")
        assert {tab.take()[-7:] for tab in [*tabs, late]} == {"\nafter\0"}

        os.kill(int(old[0]), signal.SIGTERM)
        for tab in tabs:
            tab.await_end()
        again = [open_tab(port, context) for _ in range(TABS)]
        for tab in again:
            tab.login("/topic/news")
        publisher.publish("/topic/news", "again")
        assert {tab.take()[-7:] for tab in [*again, late]} == {"\nagain\0"}
    broker.wait_for_children(0)


@pytest.mark.skipif(CADDY is None, reason="install caddy")
def test_caddy_passes_on_what_pages_say(broker: RunningBroker, open_tab: Callable[..., Tab], tmp_path: Path) -> None:
    """The log has the page's address; one of another origin is refused."""
    port, backend = free_port(), url_of(broker, path="").removeprefix("ws://")
    changes = {
        "\nbroker.example.org {": f"\nhttp://broker:{port} {{\n\tbind 127.0.0.1",
        "/broker/* 127.0.0.1:15674": f"/broker/* {backend}",
    }
    file = tmp_path / "Caddyfile"
    file.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + adapt("caddy/Caddyfile", changes))
    places = {name: str(tmp_path) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    assert CADDY is not None
    command = [CADDY, "run", "--config", str(file), "--adapter", "caddyfile"]
    with running(command, port, tmp_path / "log", places), connect(broker.port) as publisher:
        tab = open_tab(port)
        tab.login("/topic/news")
        publisher.publish("/topic/news", "x" * 300_000)
        assert tab.take().endswith("x\0")
        broker.wait_for_log(rf"client \d+ {HOST}: connected")
        tab.close()
    broker.wait_for_children(0)
