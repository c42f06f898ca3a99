"""A day in the kilt shop, in a browser: customers, the maker, the sales person, shipping; and kills in between."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import Browser
from support.javascript import needs_chromium, needs_node
from support.shop import Shop

ORDER = """
    await page.fill('[name=name]', given.name);
    await page.fill('[name=mail]', given.mail);
    await page.selectOption('[name=tartan]', given.tartan);
    await page.fill('[name=waist]', given.waist);
    await page.click('#order');
"""
CARD = """
    const card = page.locator('#orders .card').filter({hasText: `waist ${given.waist} cm`});
"""
AWAIT_STATE = f"{CARD} await card.locator('.state').getByText(given.state, {{exact: true}}).waitFor();"
MOVE = """
    const cards = (id) => page.locator(`#${id} .card`).filter({hasText: `waist ${given.waist} cm`});
    await cards(given.since).getByRole('button').click();
"""
FIONA = {"name": "Fiona", "mail": "fiona@example.org"}
HAMISH = {"name": "Hamish", "mail": "hamish@example.org"}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop that opens for a day."""
    with Shop(tmp_path / "state") as running:
        yield running


@pytest.fixture
def browser(tmp_path: Path, shop: Shop) -> Iterator[Browser]:
    """A browser with the pages of everybody. For Hamish the shop has another name, so he is another customer."""
    with Browser(tmp_path / "profile") as running:
        for page, file in (("Fiona", "shop"), ("Hamish", "shop"), ("maker", "maker"), ("sales", "sales")):
            visit(running, page, shop, file, host="localhost" if page == "Hamish" else "127.0.0.1")
        yield running


def visit(browser: Browser, page: str, shop: Shop, file: str, *, host: str = "127.0.0.1") -> None:
    """Open a page of the shop, and wait until it is connected."""
    port = shop.places["KILTSHOP_PAGES"].rpartition(":")[2]
    browser.run(page, "await page.goto(given.url);", url=f"http://{host}:{port}/{file}.html")
    await_text(browser, page, "#link", "live")


def await_text(browser: Browser, page: str, place: str, text: str) -> None:
    """Wait until a page shows a text."""
    browser.run(
        page, "await page.locator(given.place).getByText(given.text).first().waitFor();", place=place, text=text
    )


@needs_node
@needs_chromium
@pytest.mark.timeout(240)
def test_every_order_of_a_day_ends_right(shop: Shop, browser: Browser) -> None:
    """Kills of the broker and of programs, and a mail server that does not take the first mail, change nothing."""
    # the morning: orders, and what becomes of them before the maker has started
    for waist, tartan in (("80", "Black Watch"), ("81", "Black Watch"), ("82", "Dress Gordon")):
        browser.run("Fiona", ORDER, **FIONA, tartan=tartan, waist=waist)
        browser.run("Fiona", AWAIT_STATE, waist=waist, state="pending")
    browser.run("Hamish", ORDER, **HAMISH, tartan="Royal Stewart", waist="90")
    browser.run("Hamish", AWAIT_STATE, waist="90", state="pending")
    await_text(browser, "sales", "#contacts", "hamish@example.org")
    browser.run(
        "Fiona",
        f"""{CARD}
        await page.selectOption('[name=tartan]', 'Royal Stewart');
        await page.fill('[name=waist]', '85');
        await card.getByText('Change as above').click();
        """,
        waist="81",
    )
    browser.run("Fiona", AWAIT_STATE, waist="85", state="pending")
    browser.run("Fiona", f"{CARD} await card.getByText('Cancel').click();", waist="82")
    browser.run("Fiona", AWAIT_STATE, waist="82", state="cancelled")

    shop.ask("prices.set", tartan="Dress Gordon", price=425)
    await_text(browser, "Hamish", "#prices", "425")

    # the maker starts; the broker and those who work are killed when he has completed the first one
    for waist in ("80", "85", "90"):
        browser.run("maker", MOVE, since="pending", waist=waist)
    browser.run("Fiona", AWAIT_STATE, waist="80", state="in progress")
    assert browser.run("Fiona", f"{CARD} return card.getByRole('button').count();", waist="80") == 0
    browser.run("maker", MOVE, since="in-progress", waist="80")
    shop.kill("broker", "orders", "mailer")
    # an order of a page that has no broker now, and a kill of whoever takes it
    browser.run("Hamish", ORDER, **HAMISH, tartan="Black Watch", waist="91")
    browser.run("maker", MOVE, since="in-progress", waist="90")
    shop.kill("orders", "billing")
    browser.run("Fiona", AWAIT_STATE, waist="80", state="completed")
    browser.run("Hamish", AWAIT_STATE, waist="90", state="completed")
    browser.run("Hamish", AWAIT_STATE, waist="91", state="pending")

    # the afternoon: shipping comes, hears what it has missed, and what is completed now
    ready = shop.call(sys.executable, "shipping.py", "ready")
    assert sorted(ready.splitlines()) == ["ready: Black Watch, waist 80 cm", "ready: Royal Stewart, waist 90 cm"]
    shop.run("shipping.py")
    browser.run("Fiona", AWAIT_STATE, waist="80", state="shipped")
    browser.run("maker", MOVE, since="in-progress", waist="85")
    browser.run("Fiona", AWAIT_STATE, waist="85", state="shipped")
    browser.run("Hamish", AWAIT_STATE, waist="90", state="shipped")

    # the evening: the books
    found = {row["waist"]: row for row in shop.read("orders.db", "SELECT * FROM orders")}
    assert {waist: (row["tartan"], row["price"], row["state"]) for waist, row in found.items()} == {
        80: ("Black Watch", 380, "shipped"),
        82: ("Dress Gordon", 410, "cancelled"),
        85: ("Royal Stewart", 395, "shipped"),
        90: ("Royal Stewart", 395, "shipped"),
        91: ("Black Watch", 380, "pending"),
    }
    invoices = shop.read("invoices.db", 'SELECT number, "order" FROM invoices ORDER BY number')
    assert sorted(row["order"] for row in invoices) == sorted(found[waist]["id"] for waist in (80, 85, 90))
    events = {80: "placed completed shipped", 82: "placed", 85: "placed completed shipped", 91: "placed"}
    events[90] = events[80]
    shop.wait_for_mails(
        *(f"{found[waist]['id']}.{event}" for waist, names in events.items() for event in names.split()),
        *(f"invoice-{row['number']}" for row in invoices),
    )
    assert "451" in shop.printed


@needs_node
@needs_chromium
@pytest.mark.timeout(240)
def test_a_customer_comes_back_and_has_two_tabs(shop: Shop, browser: Browser) -> None:
    """The browser keeps the orders; what somebody types is text; a price that has changed is told of."""
    name = "<script>document.title = 'run'</script>"
    browser.run("Fiona", ORDER, name=name, mail="fiona@example.org", tartan="Black Watch", waist="80")
    visit(browser, "tab", shop, "shop")
    browser.run("tab", ORDER, name=name, mail="fiona@example.org", tartan="Black Watch", waist="81")
    for page in ("Fiona", "tab"):
        for waist in ("80", "81"):
            browser.run(page, AWAIT_STATE, waist=waist, state="pending")
    await_text(browser, "sales", "#contacts", name)
    assert browser.run("sales", "return page.title();") == "Contacts of the kilt shop"

    # as if the announcement of the new price had not come yet
    shop.ask("prices.set", tartan="Black Watch", price=400)
    await_text(browser, "Fiona", "#prices", "400")
    browser.run("Fiona", "await page.evaluate(() => { prices['Black Watch'] = 380; });")
    browser.run("Fiona", ORDER, name=name, mail="fiona@example.org", tartan="Black Watch", waist="82")
    await_text(browser, "Fiona", "#said", "The price is 400 € now.")
    visit(browser, "Fiona", shop, "shop")
    for waist in ("80", "81"):
        browser.run("Fiona", AWAIT_STATE, waist=waist, state="pending")
    assert browser.run("Fiona", "return page.locator('#orders .card').count();") == 2
