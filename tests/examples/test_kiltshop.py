"""The programs of the kilt shop, without its pages: what they promise, and what is left when they are killed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support.deadline import stretched, wait_until
from support.rawclient import RawClient, connect
from support.shop import PROGRAMS, Shop, ask

FIONA = "6f1c1e0e-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop for all tests of this module."""
    with Shop(tmp_path_factory.mktemp("kiltshop") / "state") as running:
        running.ask("contacts.save", id=FIONA, name="Fiona", mail="fiona@example.org")
        yield running


@pytest.fixture
def client(shop: Shop) -> Iterator[RawClient]:
    """A client of its broker."""
    with connect(shop.port) as connected:
        yield connected


def order_of(client: RawClient, **changes: Any) -> dict[str, Any]:
    """Place an order; what is answered."""
    wanted = {"id": str(uuid4()), "customer": FIONA, "tartan": "Black Watch", "waist": 90, "price": 380}
    return ask(client, "orders.place", **{**wanted, **changes})


def test_a_customer_changes_an_order_until_the_maker_has_started(client: RawClient) -> None:
    """And the maker starts what he has seen, not what the customer has made of it since then."""
    order = order_of(client)
    changed = ask(client, "orders.change", id=order["id"], tartan="Royal Stewart", waist=92, price=395)
    seen = ask(client, "orders.start", id=order["id"], version=order["version"])
    started = ask(client, "orders.start", id=order["id"], version=changed["version"])
    late = ask(client, "orders.change", id=order["id"], tartan="Black Watch", waist=92, price=380)
    cancelled = ask(client, "orders.cancel", id=order["id"])

    assert changed == {**order, "tartan": "Royal Stewart", "waist": 92, "price": 395, "version": 2}
    assert seen == {"error": "The customer has changed the order. Please look at it again."}
    assert started == {**changed, "state": "in progress", "version": 3}
    assert late == cancelled == {"error": "That is not possible: the order is in progress."}
    assert ask(client, "orders.get", id=order["id"]) == started


def test_a_request_that_comes_twice_has_its_effect_once(client: RawClient) -> None:
    """Each of them, and also when the order has gone on since then."""
    order = order_of(client)
    number = order["id"]
    steps = [
        ("orders.place", {name: order[name] for name in ("id", "customer", "tartan", "waist", "price")}),
        ("orders.start", {"id": number, "version": 1}),
        ("orders.complete", {"id": number}),
        ("orders.ship", {"id": number}),
    ]
    states = [[ask(client, name, **body)["state"] for _ in range(2)] for name, body in steps]
    again = [ask(client, name, **body)["state"] for name, body in steps]

    assert states == [["pending"] * 2, ["in progress"] * 2, ["completed"] * 2, ["shipped"] * 2]
    assert again == ["shipped"] * 4
    assert ask(client, "orders.get", id=number)["version"] == 4


def test_an_order_that_is_announced_twice_as_completed_has_one_invoice(shop: Shop, client: RawClient) -> None:
    """And its customer gets one mail for it."""
    order = {"id": str(uuid4()), "customer": FIONA, "price": 380}
    for number in (order["id"], order["id"], "another"):
        client.publish("/topic/completed", json.dumps({**order, "id": number}), persistent="true")
    invoices = "SELECT \"order\" FROM invoices WHERE \"order\" IN ('another', '{}')".format(order["id"])
    wait_until(lambda: len(shop.read("invoices.db", invoices)) >= 2, "the invoice of the other one")
    numbers = shop.read("invoices.db", "SELECT count(*) AS all_of_them, max(number) AS last FROM invoices")
    wait_until(lambda: f"invoice-{numbers[0]['last']}" in shop.mails, "the mail of the other one")

    assert len(shop.read("invoices.db", invoices)) == 2
    assert len([name for name in shop.mails if name.startswith("invoice-")]) == numbers[0]["all_of_them"]


def test_what_cannot_be_sold_is_refused(client: RawClient) -> None:
    """With the reason, and nothing is entered."""
    number = str(uuid4())
    refused = [
        order_of(client, id=number, price=1),
        order_of(client, id=number, tartan="Plain"),
        order_of(client, id=number, waist=4),
    ]

    assert refused[0] == {"error": "The price is 380 € now. Please look at it, and order again."}
    assert {one["error"] for one in refused[1:]} == {
        "We make kilts for waists of 50 to 200 cm, in the tartans of the list."
    }
    assert ask(client, "orders.get", id=number) == {"error": "There is no such order."}


def test_pages_are_told_of_orders_prices_and_contacts(shop: Shop, client: RawClient) -> None:
    """Each change is announced to a topic."""
    for topic in ("/topic/order.*", "/topic/prices", "/topic/contacts"):
        client.subscribe(topic, topic)
    with connect(shop.port) as other:
        order = order_of(other)
        prices = ask(other, "prices.set", tartan="Dress Gordon", price=420)
        contact = ask(other, "contacts.save", id="hamish", name="Hamish", mail="hamish@example.org")

    told = [(frame["destination"], json.loads(frame.body)) for frame in (client.expect("MESSAGE") for _ in range(3))]
    assert told == [(f"/topic/order.{order['id']}", order), ("/topic/prices", prices), ("/topic/contacts", contact)]
    assert prices["Dress Gordon"] == 420
    assert ask(client, "contacts.find", text="HAM") == [contact]


@pytest.mark.parametrize(
    ("queue", "body", "reason"),
    [
        ("orders.place", "[1]", "no attribute"),
        ("orders.place", '{"id": 1}', "id is no str"),
        ("orders.place", "{", "JSONDecodeError"),
        ("orders.ship", '{"id": "\\ud800"}', "surrogates"),
        ("mails", '{"id": "x", "to": "nobody"}', "There is no such contact."),
        ("billing.report", '{"day": "yesterday"}', "Invalid isoformat"),
        ("prices.set", '{"tartan": "Black Watch", "price": 0}', "refused, A price is a number of euros"),
    ],
)
def test_what_makes_no_sense_is_a_dead_letter_with_the_reason(
    client: RawClient, queue: str, body: str, reason: str
) -> None:
    """And the program goes on with the next one."""
    client.publish(f"/queue/{queue}", body, persistent="true")
    client.subscribe("/queue/DLQ", ack="client-individual")
    letter = client.expect("MESSAGE", body, original_destination=f"/queue/{queue}", dead_letter_reason="rejected")
    client.ack(letter)

    assert reason in letter["reject-reason"]


def test_an_answer_goes_to_whoever_has_asked_and_to_no_other_queue(client: RawClient) -> None:
    """A customer cannot let the service write to the queue of somebody else."""
    client.subscribe("/queue/else", "else")
    client.publish("/queue/prices.list", "{}", reply_to="/queue/else")
    assert ask(client, "prices.list") == ask(client, "prices.list")

    client.expect_nothing()


@pytest.mark.skipif(shutil.which("curl") is None, reason="install curl")
def test_shells_set_prices_and_ask_for_the_report(shop: Shop, client: RawClient) -> None:
    """Over HTTP. The report of a day is one mail; the broker keeps a request that is to come every night."""
    client.subscribe("/topic/prices")
    shop.call("./price.sh", "Royal Stewart", "400")
    for _ in range(2):
        shop.call("./report.sh")
    shop.call("./report.sh", "55 23 * * *")
    refused = subprocess.run(["./report.sh", "55 23"], cwd=PROGRAMS, env=shop.env, capture_output=True, text=True)

    assert json.loads(client.expect("MESSAGE").body)["Royal Stewart"] == 400
    wait_until(lambda: {name for name in shop.mails if name.startswith("report-")}, "the report")
    assert len({name for name in shop.mails if name.startswith("report-")}) == 1
    client.send("SEND", destination="/control/schedule", reply_to="/temp-queue/answers")
    waiting = json.loads(client.expect("MESSAGE").body)
    assert "'/queue/billing.report'" in str(waiting)
    assert refused.returncode == 22 and "has 2 fields, cron has 5" in refused.stdout


def test_a_port_that_is_in_use_is_named(shop: Shop) -> None:
    """The shop does not open then, and nothing of it runs."""
    ended = subprocess.run(
        [sys.executable, "demo.py"], cwd=PROGRAMS, env=shop.env, capture_output=True, text=True, timeout=stretched(30)
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert (
        ended.stderr == f"127.0.0.1:{shop.port} is in use: end what listens there, or see places.py for another port\n"
    )


def test_every_program_is_short() -> None:
    """So that it can be read in a minute."""
    lengths = {path.name: len(path.read_text().splitlines()) for path in PROGRAMS.iterdir() if path.is_file()}

    assert {name for name, length in lengths.items() if length > 100} == set()
    assert len(lengths) > 10


@pytest.mark.timeout(180)
def test_kills_of_the_broker_and_of_all_programs_leave_each_order_right(tmp_path: Path) -> None:
    """In the middle of everything; shipping is away, and its subscription is kept."""
    orders = [str(uuid4()) for _ in range(8)]
    with Shop(tmp_path / "state") as shop:
        shop.ask("contacts.save", id=FIONA, name="Fiona", mail="fiona@example.org")
        shipping = shop.run("shipping.py")
        shipping.send_signal(signal.SIGINT)
        shipping.wait()
        with connect(shop.port) as client:
            for number in orders:
                place = {"id": number, "customer": FIONA, "tartan": "Black Watch", "waist": 90, "price": 380}
                client.publish("/queue/orders.place", json.dumps(place), persistent="true")
        shop.kill("orders", "broker")
        shop.wait_for_orders(len(orders), "pending")
        with connect(shop.port) as client:
            for number in orders:
                ask(client, "orders.start", id=number, version=1)
            for number in orders:
                client.publish("/queue/orders.complete", json.dumps({"id": number}), persistent="true")
        shop.kill("orders", "billing", "mailer", "contacts", "broker")
        shop.wait_for_orders(len(orders), "completed")
        assert shop.call(sys.executable, "shipping.py", "ready").count("ready: Black Watch, waist 90 cm\n") == len(
            orders
        )
        shop.run("shipping.py")
        shop.wait_for_orders(len(orders), "shipped")

        events = [f"{number}.{event}" for number in orders for event in ("placed", "completed", "shipped")]
        shop.wait_for_mails(*events, *(f"invoice-{number + 1}" for number in range(len(orders))))
        assert {row["version"] for row in shop.read("orders.db", "SELECT version FROM orders")} == {4}
        invoices = shop.read("invoices.db", 'SELECT "order" FROM invoices')
        assert sorted(row["order"] for row in invoices) == sorted(orders)
        with connect(shop.port) as client:
            client.subscribe("/queue/DLQ")
            client.expect_nothing()
