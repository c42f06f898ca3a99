"""The contacts of the sales person: who the customers are, and how to reach them.

It answers questions, and announces each change on /topic/contacts. The file contacts.db belongs to this program.
"""

import sqlite3
from typing import Any

from link import Message
from places import DIRECTORY
from service import Answer, RefusedError, serve

db = sqlite3.connect(DIRECTORY / "contacts.db")
db.row_factory = sqlite3.Row
db.executescript("""
    CREATE TABLE IF NOT EXISTS contacts (id PRIMARY KEY, name, mail);
    INSERT OR IGNORE INTO contacts VALUES ('office', 'The office', 'office@kiltshop.example');
""")


def save(id: str, name: str, mail: str) -> Answer:
    """Add a contact, or change it."""
    contact = {"id": id, "name": name.strip(), "mail": mail.strip()}
    if not contact["name"] or not mail.isascii() or not mail.isprintable() or mail.strip("@").count("@") != 1:
        raise RefusedError("A contact has a name, and a mail address as in fiona@example.org.")
    with db:
        db.execute("INSERT OR REPLACE INTO contacts VALUES (:id, :name, :mail)", contact)
    return contact, [Message("/topic/contacts", contact)]


def get(id: str) -> Answer:
    """Return one contact."""
    for contact in select("id = ?", id):
        return contact, []
    raise RefusedError("There is no such contact.")


def find(text: str) -> Answer:
    """Return the contacts whose name or address has this text."""
    return select("instr(lower(name || ' ' || mail), lower(?))", text), []


def select(condition: str, value: str) -> list[dict[str, Any]]:
    return [dict(row) for row in db.execute(f"SELECT * FROM contacts WHERE {condition} ORDER BY name", (value,))]


serve({"contacts.save": save, "contacts.get": get, "contacts.find": find})
