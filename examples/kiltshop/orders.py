"""The service for orders and prices.

A request stays in its queue until all that follows from it is in the broker. If this program or the broker is killed
before that, the request comes again: the book does not change a second time, but everybody is told again.
"""

import functools
from collections.abc import Callable

import book
from link import Message
from service import Answer, RefusedError, serve


def atomic(verb: Callable[..., Answer]) -> Callable[..., Answer]:
    """Make a verb happen as a whole or not at all, also if this program runs twice."""

    @functools.wraps(verb)
    def perform(**arguments: str | int) -> Answer:
        with book.db:
            book.db.execute("BEGIN IMMEDIATE")
            return verb(**arguments)

    return perform


def tell(order: book.Order, *more: Message) -> Answer:
    """Answer with an order, and announce it to the pages that show it."""
    return order, [Message(f"/topic/order.{order['id']}", order), *more]


def mail(order: book.Order, event: str, subject: str) -> Message:
    """A job for the mailer. The broker drops a second one with the same dedup-id."""
    text = f"{order['tartan']}, waist {order['waist']} cm, {order['price']} €"
    job = {"id": f"{order['id']}.{event}", "to": order["customer"], "subject": subject, "text": text}
    return Message("/queue/mails", job, {"dedup-id": job["id"]})


def place(id: str, customer: str, tartan: str, waist: int, price: int) -> Answer:
    order = book.enter(id, customer, tartan, waist, price)
    return tell(order, mail(order, "placed", "We have your order"))


def alter(id: str, tartan: str, waist: int, price: int) -> Answer:
    return tell(book.alter(id, tartan, waist, price))


def cancel(id: str) -> Answer:
    return tell(book.move(id, "pending", state="cancelled"))


def start(id: str, version: int) -> Answer:
    """The maker starts what is on his page: that version of the order, and no other one."""
    order = book.find(id)
    if order["state"] == "pending" and order["version"] != version:
        raise RefusedError("The customer has changed the order. Please look at it again.")
    return tell(book.move(id, "pending", state="in progress"))


def complete(id: str) -> Answer:
    order = book.move(id, "in progress", state="completed")
    return tell(order, Message("/topic/completed", order), mail(order, "completed", "Your kilt is ready"))


def ship(id: str) -> Answer:
    order = book.move(id, "completed", state="shipped")
    return tell(order, mail(order, "shipped", "Your kilt is on its way"))


def get(id: str) -> Answer:
    return book.find(id), []


def list_some(states: str) -> Answer:
    return book.find_all(*states.split(",")), []


def list_prices() -> Answer:
    return book.prices(), []


def set_price(tartan: str, price: int) -> Answer:
    book.set_price(tartan, price)
    return book.prices(), [Message("/topic/prices", book.prices())]


serve(
    {
        "orders.place": atomic(place),
        "orders.change": atomic(alter),
        "orders.cancel": atomic(cancel),
        "orders.start": atomic(start),
        "orders.complete": atomic(complete),
        "orders.ship": atomic(ship),
        "orders.get": get,
        "orders.list": list_some,
        "prices.set": atomic(set_price),
        "prices.list": list_prices,
    }
)
