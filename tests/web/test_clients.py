"""Libraries that speak STOMP over WebSocket, each as its users use it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
import stomp
import stompman
from stompman.connection_ws import WebSocketConnection
from support.deadline import stretched
from support.javascript import CHROMIUM, DIRECTORY, NODE, install_modules, needs_chromium, needs_node
from support.rawclient import connect
from support.webclient import LISTEN, url_of

from forkbroker.testing.broker import PATIENCE_S, RunningBroker

ROOT = Path(__file__).parents[2]
BODY = 'grüße\n"quoted"'


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    """One for all; pages that are opened as files may connect."""
    with RunningBroker(*LISTEN, "--web-origin", "null") as broker:
        yield broker
        broker.stop()
        assert broker.survivors == []
        assert not [line for line in broker.log if "Traceback" in line]


@pytest.fixture(scope="module")
def modules() -> Path:
    """The packages of npm."""
    return install_modules()


def run(script: str, *arguments: str | Path) -> list[object]:
    """What a script in node prints."""
    assert NODE is not None
    command = [NODE, str(DIRECTORY / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=stretched(60))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@needs_node
def test_stompjs(broker: RunningBroker, modules: Path) -> None:
    """The library of most pages: text both ways, and an acknowledgement."""
    assert run("clients.js", modules, "stompjs", url_of(broker)) == [{"version": "1.2", "body": BODY}]
    broker.wait_for_log("disconnected, client sent DISCONNECT, .* 1 in, 1 out")


@needs_node
def test_stompjs_takes_each_frame_of_a_batch(broker: RunningBroker, modules: Path) -> None:
    """And a body that is no text."""
    assert run("clients.js", modules, "stompjs_batch", url_of(broker)) == [{"count": 1001, "octets": [0, 255, 10]}]


@needs_node
def test_webstomp(broker: RunningBroker, modules: Path) -> None:
    """An older library, whose sub-protocols are offered all at once."""
    assert run("clients.js", modules, "webstomp", url_of(broker)) == [{"version": "1.2", "body": BODY}]


@needs_node
def test_rx_stomp_comes_back(make_broker: Callable[..., RunningBroker], modules: Path) -> None:
    """When the broker ends, and another one is there on the same address."""
    first = make_broker(*LISTEN)
    url = url_of(first)
    assert NODE is not None
    command = [NODE, str(DIRECTORY / "clients.js"), str(modules), "rx_stomp", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            assert json.loads(client.stdout.readline()) == {"connected": True}
            assert first.stop() == 0
            make_broker("--listen", url.removesuffix("/ws"))
            assert json.loads(client.stdout.readline()) == {"times": 2, "body": BODY}
            assert client.wait(stretched(PATIENCE_S)) == 0
        finally:
            client.kill()


@needs_node
@needs_chromium
@pytest.mark.parametrize("is_of_readme", [False, True])
def test_the_example_page_in_chromium(broker: RunningBroker, modules: Path, tmp_path: Path, is_of_readme: bool) -> None:
    """It sends a job, a worker over TCP answers, and the answer is shown as text; with either stompjs."""
    [ours] = re.findall(r"^    cp (\S+) examples/stomp.umd.min.js$", (ROOT / "README.md").read_text(), re.MULTILINE)
    stompjs = ROOT / ours if is_of_readme else modules / "node_modules/@stomp/stompjs/bundles/stomp.umd.min.js"
    shutil.copy(ROOT / "examples/page.html", tmp_path)
    shutil.copy(stompjs, tmp_path / "stomp.umd.min.js")
    assert CHROMIUM is not None
    assert NODE is not None
    page = f"file://{tmp_path}/page.html?broker={url_of(broker)}"
    command = [NODE, str(DIRECTORY / "pages.js"), str(modules), CHROMIUM, str(tmp_path / "profile"), page]
    with (
        connect(broker.port) as worker,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as browser,
    ):
        try:
            worker.subscribe("/queue/jobs")
            job = worker.receive(60)
            worker.publish(job["reply-to"], b"done: " + job.body)
            shown, complaint = browser.communicate(timeout=stretched(60))
            assert shown == '"done: a kilt for <b>Jamie</b>"\n', complaint
        finally:
            browser.kill()


def test_stompman(broker: RunningBroker) -> None:
    """A library for asyncio, with its transport for WebSocket."""
    host, port = url_of(broker, path="").removeprefix("ws://").split(":")

    async def meet() -> str:
        got: asyncio.Queue[str] = asyncio.Queue()
        server = stompman.ConnectionParameters(host=host, port=int(port), login="a", passcode="b", ws_uri_path="/ws")
        async with stompman.Client(servers=[server], connection_class=WebSocketConnection) as client:

            async def keep(frame: stompman.MessageFrame) -> None:
                await got.put(frame.body.decode())

            subscription = await client.subscribe("/queue/stompman", keep, on_suppressed_exception=print)
            await client.send(BODY.encode(), "/queue/stompman")
            body = await asyncio.wait_for(got.get(), stretched(PATIENCE_S))
            await subscription.unsubscribe()
            return body

    assert asyncio.run(meet()) == BODY


def test_stomp_py(broker: RunningBroker) -> None:
    """The usual library in Python, by its connection for WebSocket."""
    host, port = url_of(broker, path="").removeprefix("ws://").split(":")
    bodies: SimpleQueue[str] = SimpleQueue()

    class Listener(stomp.ConnectionListener):
        def on_message(self, frame: stomp.utils.Frame) -> None:
            bodies.put(frame.body)

    client = stomp.WSStompConnection([(host, int(port))], ws_path="/stomp", heartbeats=(10_000, 10_000))
    client.set_listener("", Listener())
    client.connect("alice", "secret", wait=True)
    client.subscribe("/queue/stomp.py", id=1)
    client.send("/queue/stomp.py", BODY)
    assert bodies.get(timeout=stretched(PATIENCE_S)) == BODY
    client.disconnect()
