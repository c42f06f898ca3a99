"""Plain HTTP in a browser: an EventSource, and what a page sends by fetch."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from support.browser import Browser
from support.deadline import wait_until
from support.javascript import needs_chromium, needs_node
from support.pages import Page
from support.rawclient import connect
from support.webclient import LISTEN, url_of

from forkbroker.testing.broker import RunningBroker

pytestmark = [needs_node, needs_chromium]


@pytest.fixture
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of a browser."""
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield Page(browser)


def watch(page: Page, broker: RunningBroker, path: str) -> None:
    """Open a page of the broker's own, and in it an EventSource, which notes what comes."""
    page.open(url_of(broker, path="/healthz").replace("ws://", "http://"))
    page.run(
        """
        await page.evaluate((path) => new Promise((resolve) => {
          const source = new EventSource(path);
          window.found = [];
          source.onmessage = (event) => found.push(event.data);
          source.addEventListener("base64", (event) => found.push(atob(event.data).length));
          source.onopen = resolve;
        }), given.path);
        """,
        path=path,
    )


def wait_for(page: Page, *found: object) -> None:
    """Wait until the page has got just these."""
    script = "(found) => JSON.stringify(window.found) === JSON.stringify(found)"
    page.run(f"await page.waitForFunction({script}, given.found)", found=found)


def send(page: Page, path: str, body: str) -> int:
    """What a page sends by itself: the status."""
    script = "([path, body]) => fetch(path, {method: 'POST', body}).then((answer) => answer.status)"
    status: int = page.run(f"return await page.evaluate({script}, [given.path, given.body])", path=path, body=body)
    return status


def test_a_page_watches_a_topic(make_broker: Callable[..., RunningBroker], page: Page) -> None:
    """Text as it was, in lines, and what is none; it sends over another connection."""
    broker = make_broker(*LISTEN)
    watch(page, broker, "/topic/prices.*")
    with connect(broker.port) as worker:
        worker.publish("/topic/prices.a", "grüße\nund mehr\n")
        worker.publish("/topic/prices.b", b"\xff\0\1")
        worker.sync()
    assert send(page, "/topic/prices.c", "") == 201

    wait_for(page, "grüße\nund mehr\n", 3, "")


def test_a_page_goes_on_behind_its_last_event(make_broker: Callable[..., RunningBroker], page: Page) -> None:
    """When its connection was lost: nothing is missed, and nothing comes twice."""
    broker = make_broker(*LISTEN)
    watch(page, broker, "/topic/orders?durable=tab")
    for number in range(3):
        assert send(page, "/topic/orders", str(number)) == 201
    wait_for(page, "0", "1", "2")
    wait_until(lambda: any("1 subscription" in title for _, title in broker.children()), "a title that is up to date")
    [pid] = [pid for pid, title in broker.children() if "1 subscription" in title]
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: pid not in [child for child, _ in broker.children()], "its end")
    with connect(broker.port) as worker:
        worker.publish("/topic/orders", "3")
        worker.sync()

    wait_for(page, "0", "1", "2", "3")
