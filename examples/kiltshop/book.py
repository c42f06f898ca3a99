"""The book of the shop: its orders and its prices, in the file orders.db, which only orders.py uses.

    pending → in progress → completed → shipped          pending → cancelled

Each function may be called again for the same thing: what was done before is done, and nothing changes.
"""

import sqlite3
from typing import Any
from uuid import UUID

from places import DIRECTORY
from service import RefusedError

Order = dict[str, Any]

LATER = {"in progress": ("completed", "shipped"), "completed": ("shipped",)}
"""What may have become of an order since it came into a state."""

db = sqlite3.connect(DIRECTORY / "orders.db", isolation_level=None)
db.row_factory = sqlite3.Row
db.executescript("""
    CREATE TABLE IF NOT EXISTS prices (tartan PRIMARY KEY, price);
    CREATE TABLE IF NOT EXISTS orders (id PRIMARY KEY, customer, tartan, waist, price, state, version);
    INSERT OR IGNORE INTO prices VALUES ('Black Watch', 380), ('Dress Gordon', 410), ('Royal Stewart', 395);
""")


def find(id: str) -> Order:
    """Return an order."""
    for row in db.execute("SELECT * FROM orders WHERE id = ?", (id,)):
        return dict(row)
    raise RefusedError("There is no such order.")


def find_all(*states: str) -> list[Order]:
    """Return the orders in these states, the oldest first."""
    return [order for order in map(dict, db.execute("SELECT * FROM orders ORDER BY rowid")) if order["state"] in states]


def prices() -> dict[str, int]:
    """Return the tartans, and what a kilt of each costs, in euros."""
    return dict(map(tuple, db.execute("SELECT * FROM prices ORDER BY tartan")))


def set_price(tartan: str, price: int) -> None:
    """Sell kilts of this tartan at this price from now on."""
    if not 0 < price < 10_000:
        raise RefusedError("A price is a number of euros below 10,000.")
    db.execute("INSERT OR REPLACE INTO prices VALUES (?, ?)", (tartan, price))


def enter(id: str, customer: str, tartan: str, waist: int, price: int) -> Order:
    """Enter an order, unless it is there; return what is there."""
    try:
        return find(id)
    except RefusedError:
        check(tartan, waist, price)
    db.execute(
        "INSERT INTO orders VALUES (?, ?, ?, ?, ?, 'pending', 1)", (str(UUID(id)), customer, tartan, waist, price)
    )
    return find(id)


def alter(id: str, tartan: str, waist: int, price: int) -> Order:
    """Change what is ordered, while it is pending."""
    wanted = {"tartan": tartan, "waist": waist, "price": price}
    if find(id) != find(id) | wanted:
        check(**wanted)
    return move(id, "pending", **wanted)


def move(id: str, since: str, **changes: Any) -> Order:
    """Change an order that is in the state `since`, and return it."""
    order = find(id)
    if order == order | changes or order["state"] in LATER.get(changes.get("state", ""), ()):
        return order
    if order["state"] != since:
        raise RefusedError(f"That is not possible: the order is {order['state']}.")
    order |= changes | {"version": order["version"] + 1}
    names = ("tartan", "waist", "price", "state", "version")
    db.execute(f"UPDATE orders SET {', '.join(f'{name} = :{name}' for name in names)} WHERE id = :id", order)
    return order


def check(tartan: str, waist: int, price: int) -> None:
    """Refuse what the shop does not sell."""
    if tartan not in prices() or not 50 <= waist <= 200:
        raise RefusedError("We make kilts for waists of 50 to 200 cm, in the tartans of the list.")
    if price != prices()[tartan]:
        raise RefusedError(f"The price is {prices()[tartan]} € now. Please look at it, and order again.")
