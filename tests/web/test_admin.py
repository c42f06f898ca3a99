"""The administrator's page in Chromium: each view, as people use it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from broker.test_users import configure
from support.browser import Browser
from support.deadline import wait_until
from support.javascript import needs_chromium, needs_node
from support.pages import Page
from support.rawclient import RawClient, connect
from support.webclient import LISTEN, url_of

from forkbroker.testing.broker import RunningBroker

pytestmark = [needs_node, needs_chromium]

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
"""What would be run if it were taken for HTML."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests."""
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """What a test looks at; no page may have seen an error."""
    page = Page(browser)
    yield page
    assert page.seen == []
    page.close()


@pytest.fixture
def broker(make_broker: Callable[..., RunningBroker]) -> RunningBroker:
    """With an address for pages."""
    return make_broker(*LISTEN)


@pytest.fixture
def client(broker: RunningBroker) -> Iterator[RawClient]:
    with connect(broker.port) as client:
        yield client


def page_of(broker: RunningBroker, view: str = "", prefix: str = "") -> str:
    """The address of a view."""
    return url_of(broker, path=f"{prefix}/admin/{view and '#/' + view}").replace("ws://", "http://")


def reject(client: RawClient, queue: str, *bodies: str, **headers: str) -> None:
    """Make dead letters."""
    client.subscribe(queue, 9, ack="client-individual")
    for body in bodies:
        client.publish(queue, body, **headers)
        client.nack(client.expect("MESSAGE", body), requeue="false", reason=f"no room for {body[:9]}")
    client.request("UNSUBSCRIBE", id=9)


def ask(client: RawClient, verb: str, **args: object) -> list[dict[str, object]]:
    """The rows of a short answer."""
    client.send("SEND", destination=f"/control/{verb}", reply_to="/temp-queue/a", body=json.dumps(args).encode())
    while (message := client.receive()).get("subscription") != "/temp-queue/a":
        pass
    rows: list[dict[str, object]] = json.loads(message.body).get("rows", [])
    return rows


def delay(client: RawClient, queue: str, body: str, delay_s: int, headers: Mapping[str, str] | None = None) -> None:
    """Send a message that comes later."""
    more = {**(headers or {}), "AMQ_SCHEDULED_DELAY": str(1000 * delay_s)}
    client.send("SEND", list(more.items()), body.encode(), destination=queue)


def bodies_of(client: RawClient, queue: str) -> list[object]:
    """What waits in a queue."""
    return [row["body"] for row in ask(client, "show", queue=queue, body=True)]


@pytest.mark.parametrize(
    ("paths", "prefix"), [(["/chat", "/other"], ""), (["/some/prefix/chat"], "/some/prefix"), (["/a/b"], "")]
)
def test_the_page_finds_websockets_at_another_path(
    make_broker: Callable[..., RunningBroker], page: Page, paths: list[str], prefix: str
) -> None:
    """The first one that is named."""
    broker = make_broker(*LISTEN, *(word for path in paths for word in ("--web-path", path)))
    with connect(broker.port) as client:
        reject(client, "/queue/orders", "one")
        page.open(page_of(broker, prefix=prefix))
        page.wait_for_rows("/queue/orders", column=2)


def test_dead_letters_are_shown_sent_back_and_discarded(broker: RunningBroker, client: RawClient, page: Page) -> None:
    """One, those that are selected, and all that match; below a prefix, as behind a proxy."""
    reject(client, "/queue/orders", '{"order": 1}', '{"order": 2}', "three", kind="order")
    reject(client, "/queue/mails", "four")
    page.open(page_of(broker, prefix="/some/prefix"))
    origins = ["/queue/orders"] * 3 + ["/queue/mails"]
    page.wait_for_rows(*origins, column=2)
    page.wait_for("no room for three")
    page.run("await page.locator('td .link').first().click()")
    page.wait_for('"order": 1')
    pane = page.run("return await page.locator('aside').innerText()")
    assert "rejected" in pane and "/queue/orders" in pane and "kind\norder" in pane.replace("\t", "\n")
    page.run("await page.locator('aside').getByRole('button', {name: 'Retry'}).click()")
    page.wait_for_rows(*origins[1:], column=2)
    assert bodies_of(client, "orders") == ['{"order": 1}']

    page.fill("From queue", "orders")
    page.wait_for_rows("/queue/orders", "/queue/orders", column=2)
    page.click("Retry all that match…")
    page.wait_for("Send 2 messages back?")
    page.run("await page.locator('dialog').getByRole('button', {name: 'Retry'}).click()")
    page.wait_for("2 messages sent back.")
    page.fill("From queue", "")
    page.wait_for_rows("/queue/mails", column=2)

    page.run("await page.getByRole('checkbox', {name: 'Select all'}).check()")
    page.click("Discard…")
    page.run("await page.locator('dialog').getByRole('button', {name: 'Discard'}).click()")
    page.wait_for("1 message discarded.")
    page.wait_for("Nothing here.")
    assert sorted(map(str, bodies_of(client, "orders"))) == ["three", '{"order": 1}', '{"order": 2}']


def test_letters_that_are_selected_stay_so_when_another_one_comes(
    broker: RunningBroker, client: RawClient, page: Page
) -> None:
    """The view looks again by itself, and does not undo what its user has done meanwhile."""
    reject(client, "/queue/orders", "one", "two")
    page.open(page_of(broker))
    page.wait_for_rows(*["/queue/orders"] * 2, column=2)
    page.run("await page.getByRole('checkbox', {name: 'Select', exact: false}).nth(1).check()")
    page.wait_for("1 selected")
    reject(client, "/queue/mails", "three")
    page.wait_for_rows("/queue/orders", "/queue/orders", "/queue/mails", column=2)

    page.wait_for("1 selected")
    assert page.run("return await page.locator('td.check input:checked').count()") == 1


def test_a_body_is_shown_as_text_json_or_octets(broker: RunningBroker, client: RawClient, page: Page) -> None:
    """Whatever it is; what is no UTF-8 is octets."""
    client.publish("/queue/bodies", '[1, {"a": "b"}]')
    client.publish("/queue/bodies", b"\xff\x00binary")
    client.publish("/queue/bodies", "plain grüße")
    page.open(page_of(broker, "queues//queue/bodies"))
    page.click("Look inside")

    def shown(number: int) -> str:
        page.run("await page.locator('td .link').nth(given.number).click()", number=number)
        text: str = page.run("return await page.locator('pre').innerText()")
        return text

    assert shown(0) == '[\n  1,\n  {\n    "a": "b"\n  }\n]'
    page.click("text")
    assert page.run("return await page.locator('pre').innerText()") == '[1, {"a": "b"}]'
    assert shown(1) == "000000  ff 00 62 69 6e 61 72 79                          ..binary"
    assert shown(2) == "plain grüße"


def test_queues_are_sorted_filtered_and_paged_by_the_broker(
    broker: RunningBroker, client: RawClient, page: Page
) -> None:
    """Of many hundreds the page has fifty."""
    for number in range(300):
        client.publish(f"/queue/many.{number:03}", "x")
    client.publish("/queue/deep", "1")
    client.publish("/queue/deep", "2")
    client.subscribe("/queue/empty", 1)
    client.sync()
    page.open(page_of(broker, "queues"))
    first = ["/queue/deep", *(f"/queue/many.{number:03}" for number in range(49))]
    page.wait_for_rows(*first)
    page.wait_for("50 of 302")
    page.click("Next")
    page.wait_for_rows(*(f"/queue/many.{number:03}" for number in range(49, 99)))

    page.fill("Name, or a pattern with * and ?", "e")
    page.wait_for_rows("/queue/deep", "/queue/empty")
    page.click("Waiting")
    page.wait_for_rows("/queue/empty", "/queue/deep")
    assert page.run("return await page.locator('[aria-sort]').getAttribute('aria-sort')") == "ascending"
    page.run("await page.getByLabel('Filter').selectOption('stuck')")
    page.wait_for_rows("/queue/deep")


def test_a_queue_is_held_filled_looked_into_and_purged(broker: RunningBroker, client: RawClient, page: Page) -> None:
    """With the buttons of its own page; its figures come by themselves."""
    client.publish("/queue/shop", "first")
    client.sync()
    page.open(page_of(broker, "queues"))
    page.click("/queue/shop", role="link")
    page.click("Hold…")
    page.fill("Seconds", "600")
    page.run("await page.locator('dialog').getByRole('button', {name: 'Hold'}).click()")
    page.run("await page.getByRole('button', {name: 'Release'}).waitFor()")
    (row,) = ask(client, "queues", pattern="shop")
    assert row["held"] is True
    page.click("Release")
    page.run("await page.getByRole('button', {name: 'Hold'}).waitFor()")

    page.click("Send a message…")
    page.fill("Headers, a name:value on each line", "kind: test\ncolour:red")
    page.fill("Body", " a body, as it is ")
    page.run("await page.locator('dialog').getByRole('button', {name: 'Send'}).click()")
    page.wait_for("Sent to /queue/shop.")
    assert bodies_of(client, "shop") == ["first", " a body, as it is "]
    page.click("Look inside")
    page.fill("Header, as name:value", "kind:test")
    page.run("await page.waitForFunction(() => document.querySelector('tbody').rows.length === 1)")
    page.run("await page.locator('td.preview').getByText('colour: red').waitFor()")

    page.run("await page.getByRole('checkbox', {name: 'Select all'}).check()")
    page.click("Move…")
    page.fill("To the end of queue", "/queue/other")
    page.run("await page.locator('dialog').getByRole('button', {name: 'Move'}).click()")
    page.wait_for("1 message moved.")
    assert bodies_of(client, "other") == [" a body, as it is "]

    page.click("Purge…")
    page.run("await page.locator('dialog').getByRole('button', {name: 'Purge'}).click()")
    page.wait_for("1 message discarded.")
    assert ask(client, "queues", pattern="shop", filter="waiting") == []


def test_the_figures_of_a_queue_are_live(broker: RunningBroker, client: RawClient, page: Page) -> None:
    """The page subscribes to them, and to nothing else."""
    client.publish("/queue/live", "1")
    client.sync()
    page.open(page_of(broker, "queues//queue/live"))
    page.run("await page.locator('.tiles dd').first().filter({hasText: /^1$/}).waitFor()")
    names = wait_until(lambda: [row["name"] for row in ask(client, "topics")], "the page's subscription")
    assert names == ["/topic/$SYS/queues/queue/live"]

    client.publish("/queue/live", "2")
    page.run("await page.locator('.tiles dd').first().filter({hasText: /^2$/}).waitFor()")
    page.run("await page.waitForFunction(() => document.querySelectorAll('polyline[points]').length === 4)")


def test_a_hidden_tab_asks_for_nothing(broker: RunningBroker, client: RawClient, page: Page) -> None:
    """And goes on when it is shown again."""
    page.open(page_of(broker, "health"))
    page.wait_for("All is well.")
    wait_until(lambda: ask(client, "topics"), "the page's subscription")
    turn = """
        await page.evaluate((hidden) => {
          Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }, given.hidden);
        """
    page.run(turn, hidden=True)
    wait_until(lambda: not ask(client, "topics"), "the end of the page's subscription")
    page.run(turn, hidden=False)
    wait_until(lambda: ask(client, "topics"), "the page's subscription, again")


def test_clients_are_shown_and_disconnected(broker: RunningBroker, client: RawClient, page: Page) -> None:
    """With their subscriptions; whoever is disconnected is told the reason."""
    with connect(broker.port, headers={"login": "mallory"}) as mallory:
        mallory.subscribe("/queue/jobs", 1, ack="client")
        page.open(page_of(broker, "clients"))
        page.fill("Login or address", "mallory")
        page.wait_for_rows("mallory", column=1)
        page.run("await page.locator('td .link').click()")
        page.run("await page.locator('aside').getByRole('link', {name: '/queue/jobs'}).waitFor()")
        page.run("await page.locator('aside').getByRole('button', {name: 'Disconnect'}).click()")
        page.fill("Reason, which the client is told", "too many cooks")
        page.run("await page.locator('dialog').getByRole('button', {name: 'Disconnect'}).click()")
        mallory.expect_error("too many cooks")
    page.wait_for("Nothing here.")


def test_the_messages_of_a_topic_are_shown_as_they_come(broker: RunningBroker, client: RawClient, page: Page) -> None:
    """Until that is stopped."""
    client.subscribe("/topic/news.sport", 1)
    page.open(page_of(broker, "topics"))
    page.click("/topic/news.sport", role="link")
    page.run("await page.getByText('listening').waitFor()")
    wait_until(lambda: ask(client, "topics")[0]["subscribers"] == 2, "the page's subscription")
    client.publish("/topic/news.sport", "caber tossed", place="Braemar")
    page.run("await page.locator('.tail').getByText('caber tossed').waitFor()")
    page.run("await page.locator('.tail .link').click()")
    page.run("await page.locator('aside').getByText('Braemar').waitFor()")

    page.click("Stop")
    wait_until(lambda: ask(client, "topics")[0]["subscribers"] == 1, "the end of the page's subscription")


def test_a_flood_of_messages_stops_being_followed(broker: RunningBroker, client: RawClient, page: Page) -> None:
    """Before it fills the browser's memory; no more than two hundred lines are kept."""
    page.open(page_of(broker, "topics//topic/flood"))
    wait_until(lambda: ask(client, "topics"), "the page's subscription")
    flood = b"".join(client.encode("SEND", destination="/topic/flood", body=b"%d" % n) for n in range(2000))

    def has_stopped() -> bool:
        client.send_raw(flood)
        return bool(page.run("return await page.getByText('more than 500 messages in a second').count()"))

    wait_until(has_stopped, "the page to have enough of it")
    page.run("await page.getByRole('button', {name: 'Follow'}).waitFor()")
    assert page.run("return await page.locator('.tail li').count()") <= 200


def test_scheduled_messages_are_run_and_cancelled(broker: RunningBroker, client: RawClient, page: Page) -> None:
    """The next one first."""
    delay(client, "/queue/late", "late", 7200)
    delay(client, "/queue/early", "early", 3600)
    client.sync()
    page.open(page_of(broker, "schedule"))
    page.wait_for_rows("/queue/early", "/queue/late")
    page.run("await page.locator('td input').first().check()")
    page.click("Run now")
    page.wait_for_rows("/queue/late")
    wait_until(lambda: bodies_of(client, "early") == ["early"], "the message that was to come later")

    page.run("await page.locator('td input').first().check()")
    page.click("Cancel…")
    page.run("await page.locator('dialog').getByRole('button', {name: 'Drop'}).click()")
    page.wait_for("Nothing here.")
    assert ask(client, "schedule") == []


def test_the_health_of_store_and_processes_is_shown(broker: RunningBroker, client: RawClient, page: Page) -> None:
    """And where events are."""
    page.open(page_of(broker, "health"))
    page.wait_for("All is well.")
    page.run("await page.locator('td').getByText('store', {exact: true}).waitFor()")
    page.wait_for(f"process {broker.pid}")
    page.click("Events", role="link")
    wait_until(lambda: [row["name"] for row in ask(client, "topics")] == ["/topic/$SYS/events/>"], "the subscription")
    with connect(broker.port, headers={"login": "somebody"}):
        page.run("await page.locator('.tail').getByText('somebody').first().waitFor()")


USERS = """
[permissions.user.looker]
monitor = ["/control/>", "/topic/$SYS/>"]
browse = "/queue/open"

[permissions.user.admin]
monitor = "/>"
browse = "/>"
manage = "/>"
write = "/>"
read = "/>"
create = "/>"
"""


@pytest.fixture
def guarded(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> RunningBroker:
    """A broker with users; the page is for everybody who can reach it."""
    file = configure(tmp_path, ["looker", "admin", "nobody"], USERS)
    return make_broker(*LISTEN, "--config", str(file), "--web-admin", "all")


def log_in(page: Page, broker: RunningBroker, login: str, passcode: str, view: str = "") -> None:
    page.open(page_of(broker, view))
    page.fill("Login", login)
    page.fill("Passcode", passcode)
    page.click("Log in")


def test_a_login_is_asked_for_and_may_fail(guarded: RunningBroker, page: Page) -> None:
    """The form comes again, and says so; a right one leads in."""
    log_in(page, guarded, "admin", "wrong")
    page.wait_for("The broker says: login failed.")
    page.fill("Login", "admin")
    page.fill("Passcode", "admin")
    page.click("Log in")
    page.wait_for("connected")

    page.run("await page.getByRole('heading', {name: 'Dead letters'}).waitFor()")
    assert page.run("return await page.locator('#login').innerText()") == "admin"


DEEDS = {"Retry", "Move…", "Discard…", "Hold…", "Purge…", "Send a message…", "Disconnect…", "Run now", "Cancel…"}


def test_who_may_only_look_sees_no_buttons(guarded: RunningBroker, page: Page) -> None:
    """In no view; and what may not even be seen, is told."""
    with connect(guarded.port, headers={"login": "admin", "passcode": "admin"}) as admin:
        for queue in ("open", "closed"):
            admin.publish(f"/queue/{queue}", "x")
        delay(admin, "/queue/open", "later", 3600)
        reject(admin, "/queue/open.rejected", "x")
        log_in(page, guarded, "looker", "looker", "queues")
        page.run("await page.getByRole('link', {name: '/queue/open', exact: true}).waitFor()")
        assert not DEEDS & set(page.buttons())
        for view, row in (("clients", "admin"), ("schedule", "/queue/open")):
            page.run(f"location = await page.evaluate(() => location.hash = '#/{view}')")
            page.run("await page.locator('td', {hasText: given.row}).first().waitFor()", row=row)
            assert not DEEDS & set(page.buttons())
            assert page.run("return await page.locator('td input').count()") == 0

        page.run("await page.evaluate(() => location.hash = '#/queues//queue/open')")
        page.click("Look inside")
        page.run("await page.locator('td .link').first().click()")
        page.run("await page.locator('pre').waitFor()")
        assert not DEEDS & set(page.buttons())
        page.run("await page.evaluate(() => location.hash = '#/queues//queue/closed')")
        page.click("Look inside")
        page.wait_for("show needs the right browse on /queue/closed")


def test_who_may_see_nothing_is_told_so(guarded: RunningBroker, page: Page) -> None:
    """With the right that is needed."""
    log_in(page, guarded, "nobody", "nobody")

    page.wait_for("the right monitor for /control/>")
    assert page.run("return await page.locator('nav a').count()") == 0


def test_nothing_that_a_client_sends_is_run(broker: RunningBroker, page: Page) -> None:
    """In every field of every view, it is text."""
    path = EVIL.replace("/", "%2f")
    with connect(broker.port, headers={"login": EVIL, "client-id": EVIL}) as evil:
        queue, topic = f"/queue/{path}", f"/topic/{path}"
        evil.subscribe(queue, 1, ack="client-individual", **{"prefetch-count": 1})
        evil.subscribe(topic, 2)
        headers = {path: EVIL, "content-type": EVIL, "type": EVIL}
        for body in (EVIL, json.dumps({EVIL: EVIL})):
            evil.send("SEND", list(headers.items()), body.encode(), destination=queue)
            evil.nack(evil.expect("MESSAGE", subscription=1), requeue="false")
        evil.send("SEND", list(headers.items()), EVIL.encode(), destination=queue)
        delay(evil, queue, EVIL, 3600, headers)
        evil.expect("MESSAGE", subscription=1)
        evil.sync()

        page.open(page_of(broker, "dead"))
        for number in range(2):
            page.run("await page.locator('td .link').nth(given.number).click()", number=number)
            page.run("await page.locator('pre', {hasText: 'alert(1)'}).waitFor()")
            assert EVIL in page.run("return await page.locator('aside').innerText()")
            for form in ("text", "hex"):
                page.click(form)
        page.run("await page.evaluate(() => location.hash = '#/queues')")
        page.click(queue, role="link")
        page.run("await page.locator('h1', {hasText: 'alert(1)'}).waitFor()")
        page.run("await page.locator('td', {hasText: 'alert(1)'}).first().waitFor()")
        page.run("await page.evaluate(() => location.hash = '#/clients')")
        page.run("await page.getByRole('row', {name: given.evil}).getByRole('button').click()", evil=EVIL)
        page.run("await page.locator('aside a', {hasText: 'alert(1)'}).first().waitFor()")
        page.run("await page.evaluate(() => location.hash = '#/schedule')")
        page.run("await page.locator('td', {hasText: 'alert(1)'}).first().waitFor()")
        page.run("await page.evaluate(() => location.hash = '#/topics')")
        page.click(topic, role="link")
        page.run("await page.getByText('listening').waitFor()")
        wait_until(lambda: ask(evil, "topics")[0]["subscribers"] == 2, "the page's subscription")
        evil.send("SEND", list(headers.items()), EVIL.encode(), destination=topic)
        page.run("await page.locator('.tail .link').first().click()")
        page.run("await page.locator('aside pre', {hasText: 'alert(1)'}).waitFor()")
        page.run("await page.evaluate(() => location.hash = '#/topics//topic/$SYS/events/~003e')")
        page.run("await page.getByText('listening').waitFor()")
        wait_until(lambda: any("$SYS" in str(row["name"]) for row in ask(evil, "topics")), "the page's subscription")
        with connect(broker.port, headers={"login": EVIL}):
            page.run("await page.locator('.tail .link').first().click()")
        page.run("await page.locator('aside pre', {hasText: 'alert(1)'}).waitFor()")

    strays = "return await page.locator('script:not([src]), img:not(.brand img), iframe, style, object').count()"
    assert page.run(strays) == 0
    assert page.seen == []


def test_the_browser_runs_no_other_script(broker: RunningBroker, page: Page) -> None:
    """Even if a fault of the page let HTML in: the policy forbids it."""
    page.open(page_of(broker))
    page.wait_for("connected")
    tried = page.run(
        """
        return await page.evaluate(() => {
          try {
            document.body.innerHTML = "<img src=x onerror=alert(1)>";
            return "taken";
          } catch (error) {
            return error.name;
          }
        });
        """
    )

    assert tried == "TypeError"
    assert len(page.seen) == 1 and "TrustedHTML" in page.run("return seen.splice(0)")[0]


def test_the_page_is_used_by_keyboard(broker: RunningBroker, client: RawClient, page: Page) -> None:
    """Focus is seen, goes in the order of the page, and comes back; Escape closes."""
    client.publish("/queue/keys", "x")
    client.sync()
    page.open(page_of(broker, "queues//queue/keys"))
    page.run("await page.getByRole('button', {name: 'Purge…'}).focus()")
    page.run("await page.keyboard.press('Enter')")
    page.run("await page.locator('dialog').waitFor()")
    page.run("await page.keyboard.press('Escape')")
    page.run("await page.locator('dialog').waitFor({state: 'detached'})")
    focused = "return await page.evaluate(() => document.activeElement.textContent)"
    assert page.run(focused) == "Purge…"
    page.run("await page.keyboard.press('Tab')")
    assert page.run(focused) == "Send a message…"
    outline = "return await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle)"
    assert page.run(outline) == "solid"

    page.click("Look inside")
    page.run("await page.locator('td .link').focus()")
    page.run("await page.keyboard.press('Enter')")
    page.run("await page.locator('pre').waitFor()")
    page.run("await page.keyboard.press('Escape')")
    page.run("await page.locator('aside').waitFor({state: 'hidden'})")
    assert str(page.run(focused)).startswith("0-")
    assert bodies_of(client, "keys") == ["x"]


VIEWS = ["dead", "queues", "queues//queue/a", "clients", "topics", "schedule", "health"]


def test_each_view_fits_a_phone_and_has_names_for_all_controls(
    broker: RunningBroker, client: RawClient, page: Page
) -> None:
    """Nothing is wider than the screen but what scrolls by itself; also in the dark."""
    client.publish("/queue/a", "x")
    reject(client, "/queue/b", "x")
    delay(client, "/queue/c", "x", 3600)
    client.sync()
    for view in VIEWS:
        page.open(page_of(broker, view))
        page.run("await page.setViewportSize({width: 360, height: 640})")
        page.run("await page.emulateMedia({colorScheme: 'dark'})")
        what = ".tiles dd" if "//" in view else "tbody tr, .empty"
        page.run("await page.locator(given.what).first().waitFor()", what=what)

        evaluate = "return await page.evaluate(() => %s)"
        assert page.run(evaluate % "document.documentElement.scrollWidth") <= 360, view
        colour = page.run(evaluate % "getComputedStyle(document.documentElement).backgroundColor")
        unnamed = page.run(
            """
            return await page.locator("button, a, input, select, textarea, meter").evaluateAll((all) =>
              all
                .filter((one) => !(one.ariaLabel || one.textContent.trim() || one.labels?.length))
                .map((one) => one.outerHTML),
            );
            """
        )
        assert (colour, unnamed) == ("rgb(20, 25, 26)", []), view


def test_the_page_comes_back_with_the_broker(
    make_broker: Callable[..., RunningBroker], page: Page, client: RawClient, broker: RunningBroker
) -> None:
    """And shows what the next one has."""
    client.publish("/queue/before", "x")
    client.sync()
    page.open(page_of(broker, "queues"))
    page.wait_for_rows("/queue/before")
    url = url_of(broker, path="")
    broker.stop()
    page.wait_for("reconnecting")
    other = make_broker("--listen", url)
    with connect(other.port) as again:
        again.publish("/queue/after", "x")
        again.sync()
        page.wait_for_rows("/queue/after")
    page.run("seen.length = 0")  # of the time without a broker
