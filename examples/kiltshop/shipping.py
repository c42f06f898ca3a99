"""Shipping: packs what the maker has completed. Start it when work begins, and end it with Ctrl-C when it is over.

Its subscription is durable: the broker keeps for it what is completed while it is away. `shipping.py ready` only shows
what is ready, and ends.
"""

import json
import sys
from contextlib import closing
from typing import Any

from link import Link
from service import run


def begin(link: Link) -> None:
    link.subscribe("/topic/completed", durable="shipping")
    # from before the first time that it subscribed
    for order in link.ask("/queue/orders.list", states="completed"):
        pack(link, order)
    print("waiting for what the maker completes", flush=True)


def handle(link: Link, frame: Any) -> None:
    # it may have been shipped meanwhile: what the message says is old, what the book says is true
    order = link.ask("/queue/orders.get", id=json.loads(frame.body)["id"])
    if order.get("state") == "completed":
        pack(link, order)
    link.finish(frame)


def pack(link: Link, order: dict[str, Any]) -> None:
    contact = link.ask("/queue/contacts.get", id=order["customer"])
    print(f"parcel for {contact.get('name', 'nobody')}: {describe(order)}", flush=True)
    link.ask("/queue/orders.ship", id=order["id"])


def describe(order: dict[str, Any]) -> str:
    return f"{order['tartan']}, waist {order['waist']} cm"


if sys.argv[1:] == ["ready"]:
    with closing(Link()) as link:
        for order in link.ask("/queue/orders.list", states="completed"):
            print(f"ready: {describe(order)}")
else:
    run(begin, handle)
