"""Billing: an invoice for each completed order, and the report of a day for the office.

It is told of completed orders by a durable subscription: what is completed while it is away, it hears later. The file
invoices.db belongs to this program.
"""

import json
import sqlite3
from datetime import date
from typing import Any

from link import Link, Message
from places import DIRECTORY
from service import run

db = sqlite3.connect(DIRECTORY / "invoices.db")
db.execute("""
    CREATE TABLE IF NOT EXISTS invoices (number INTEGER PRIMARY KEY, "order" UNIQUE, customer, amount, day)
""")


def begin(link: Link) -> None:
    link.subscribe("/topic/completed", durable="billing")
    link.subscribe("/queue/billing.report")


def handle(link: Link, frame: Any) -> None:
    make = invoice if frame.headers["destination"] == "/topic/completed" else report
    link.finish(frame, make(json.loads(frame.body)))


def invoice(order: dict[str, Any]) -> Message:
    """An order has one invoice, no matter how often it is announced as completed."""
    with db:
        db.execute(
            'INSERT OR IGNORE INTO invoices ("order", customer, amount, day) VALUES (?, ?, ?, ?)',
            (order["id"], order["customer"], order["price"], f"{date.today()}"),
        )
    number, amount = db.execute('SELECT number, amount FROM invoices WHERE "order" = ?', (order["id"],)).fetchone()
    print(f"invoice {number}: {amount} €", flush=True)
    return mail(f"invoice-{number}", order["customer"], f"Invoice {number}", f"Please pay {amount} €.")


def report(request: dict[str, Any]) -> Message:
    """The invoices of a day, which is today if the request names none."""
    day = date.fromisoformat(request.get("day") or f"{date.today()}")
    count, total = db.execute("SELECT count(*), total(amount) FROM invoices WHERE day = ?", (f"{day}",)).fetchone()
    text = f"{count} invoices, {total:.0f} € in all."
    return mail(f"report-{day}", "office", f"Report of {day}", text)


def mail(id: str, to: str, subject: str, text: str) -> Message:
    """A job for the mailer. The broker drops a second one with the same dedup-id."""
    return Message("/queue/mails", {"id": id, "to": to, "subject": subject, "text": text}, {"dedup-id": id})


run(begin, handle)
