"""Producers and consumers that write down what they do, and come again when their connection is lost.

All of them are driven by one loop (`faults.storm`): none waits for an answer. What they do comes from one source of
randomness, so that a seed tells it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

from faults.book import Book, Sent, Stage, Taken, Transaction
from faults.scene import Client
from support.rawclient import Frame

QUEUES = ("/queue/work", "/queue/done", "/topic/news")
WORK, DONE, NEWS = QUEUES
MAX_DELAY_MS = 400
"""How late a message that is to come later is, at most."""
DURABLE = {"durable": "true", "auto-delete": "false", "id": "news"}
"""On SUBSCRIBE to `NEWS`."""

SMALL = (0, 0, 0, 200, 2000)
LARGE = (0, 2_000, 20_000)
"""Octets that bodies are longer than their text, by chance."""


class Party:
    """One client, whichever connection it has just now."""

    def __init__(self, book: Book, chance: random.Random, login: str) -> None:
        self.book = book
        self.chance = chance
        self.login = login
        self.client: Client | None = None
        self.connections = 0
        self.errors: list[str] = []
        """What ERROR frames said."""
        self._receipts = 0
        self._waiting: dict[str, Callable[[], None]] = {}

    @property
    def is_waiting(self) -> bool:
        """Receipts are to come."""
        return bool(self._waiting)

    def connect(self, port: int) -> None:
        """Connect, if the broker can be reached."""
        client = Client(port)
        try:
            client.login(login=self.login)
            self._begin(client)
        except (ConnectionError, AssertionError):
            # it ends just now
            client.close()
            raise ConnectionError from None
        self.client = client
        self.connections += 1

    def read(self) -> None:
        """Write down all that has come; the end of the connection is noticed."""
        if self.client is None:
            return
        for frame in self.client.take():
            self._heed(frame)
        if self.client is not None and self.client.has_ended:
            self.lose()

    def read_to_end(self) -> None:
        """The same, until the connection ends."""
        if self.client is not None:
            for frame in self.client.take_to_end():
                self._heed(frame)
            self.lose()

    def lose(self) -> None:
        """The connection is gone, or is given up."""
        if self.client is not None:
            self.client.close()
        self.client = None
        self._waiting.clear()

    def act(self) -> None:
        """Do what is to be done now."""

    def _begin(self, client: Client) -> None:
        """Say what a new connection begins with."""

    def _heed(self, frame: Frame) -> None:
        if frame.command == "RECEIPT":
            self._waiting.pop(frame["receipt-id"])()
        elif frame.command == "ERROR":
            self.errors.append(f"{frame['message']}: {frame.body.decode().strip()}")
        else:
            self._deliver(frame)

    def _deliver(self, frame: Frame) -> None:
        raise AssertionError(f"{self.login} has no subscription: {frame}")

    def _say(self, command: str, body: bytes = b"", **headers: object) -> None:
        if self.client is not None:
            with suppress(ConnectionError):  # noticed when reading
                self.client.send(command, body=body, **headers)

    def _ask(self, then: Callable[[], None], command: str, body: bytes = b"", **headers: object) -> None:
        """Say something that has a RECEIPT, and do `then` when it comes."""
        self._receipts += 1
        self._waiting[str(self._receipts)] = then
        self._say(command, body, receipt=self._receipts, **headers)

    def _commit(self, transaction: Transaction) -> None:
        def confirm() -> None:
            transaction.stage = Stage.CONFIRMED
            if transaction.taken is not None:
                transaction.taken.is_answered = transaction.taken.is_confirmed = True

        transaction.stage = Stage.ASKED
        self._ask(confirm, "COMMIT", transaction=transaction.name)


class Producer(Party):
    """Sends numbered messages, so many ahead of their receipts."""

    persistent = "true"

    def __init__(
        self, book: Book, chance: random.Random, login: str, destinations: tuple[str, ...] = (WORK,), window: int = 20
    ) -> None:
        super().__init__(book, chance, login)
        self.destinations = destinations
        self.window = window
        self.is_done = False
        """No new messages."""
        self.padding: tuple[int, ...] = SMALL
        self._number = 0

    def act(self) -> None:
        """Fill the window."""
        while self.client is not None and not self.is_done and len(self._waiting) < self.window:
            self._speak()

    def _speak(self) -> None:
        sent = self.book.send(self._next_text(), self.login, is_persistent=self.persistent == "true")
        self._ask(lambda: _confirm(sent), "SEND", self._body(sent), **self._headers())

    def _next_text(self) -> str:
        self._number += 1
        return f"{self.login}-{self._number}"

    def _headers(self) -> dict[str, object]:
        return {"destination": self.chance.choice(self.destinations), "persistent": self.persistent}

    def _body(self, sent: Sent) -> bytes:
        return f"{sent.text} {'.' * self.chance.choice(self.padding)}".encode()


class LightProducer(Producer):
    """What it sends is not to survive."""

    persistent = "false"


class Postponer(Producer):
    """Its messages come later, and not in the order in which they were sent."""

    def _speak(self) -> None:
        text = self._next_text()
        sent = self.book.send(text, text)
        delay = self.chance.randint(1, MAX_DELAY_MS)
        self._ask(lambda: _confirm(sent), "SEND", self._body(sent), **self._headers(), x_delay=delay)


class Repeater(Producer):
    """Sends again what has no receipt yet, when its connection was lost: each message is one all the same."""

    def __init__(self, book: Book, chance: random.Random, login: str, destinations: tuple[str, ...] = (WORK,)) -> None:
        super().__init__(book, chance, login, destinations)
        self._unsure: dict[str, tuple[Sent, dict[str, object], bytes]] = {}

    @property
    def is_waiting(self) -> bool:
        """It does not give up."""
        return bool(self._unsure)

    def act(self) -> None:
        """Begin with what is not sure."""
        if self.client is not None and self._unsure and not self._waiting:
            for sent, headers, body in self._unsure.values():
                sent.again.append(self.book.life)
                self._send(sent, headers, body)
        super().act()

    def _speak(self) -> None:
        sent = self.book.send(self._next_text(), self.login)
        headers = {**self._headers(), "dedup_id": sent.text}
        body = self._body(sent)
        self._unsure[sent.text] = (sent, headers, body)
        self._send(sent, headers, body)

    def _send(self, sent: Sent, headers: dict[str, object], body: bytes) -> None:
        def confirm() -> None:
            _confirm(sent)
            del self._unsure[sent.text]

        self._ask(confirm, "SEND", body, **headers)


class Trader(Producer):
    """Sends in transactions, to several destinations; some it aborts."""

    def _speak(self) -> None:
        transaction = self.book.begin(self._next_text())
        self._say("BEGIN", transaction=transaction.name)
        for number in range(3):
            sent = self.book.send(f"{transaction.name}.{number}", self.login, transaction=transaction)
            destination = self.destinations[number % len(self.destinations)]
            self._say(
                "SEND", self._body(sent), destination=destination, persistent="true", transaction=transaction.name
            )
        if self.chance.random() < 0.1:
            self._say("ABORT", transaction=transaction.name)
        else:
            self._commit(transaction)


class Consumer(Party):
    """Acknowledges with receipts, rejects, or makes another message of what it got, in one transaction."""

    def __init__(
        self,
        book: Book,
        chance: random.Random,
        login: str,
        destination: str = WORK,
        *,
        prefetch: int = 10,
        makes: float = 0.0,
        nacks: float = 0.03,
        is_competing: bool = False,
    ) -> None:
        """`makes`, `nacks`: the probability of each. `is_competing`: others consume from the same queue."""
        super().__init__(book, chance, login)
        self.destination = destination
        self.prefetch = prefetch
        self.makes = makes
        self.nacks = nacks
        self.is_competing = is_competing
        self.zeal = 0.9
        """The probability of each answer; then there is a pause."""
        self._held: list[tuple[str, Taken]] = []

    @property
    def is_waiting(self) -> bool:
        """Something is to be answered, or a receipt is to come."""
        return bool(self._held) or super().is_waiting

    def act(self) -> None:
        """Answer some of what is held, in any order."""
        while self._held and self.client is not None and self.chance.random() < self.zeal:
            self._answer(*self._held.pop(self.chance.randrange(len(self._held))))

    def lose(self) -> None:
        """What was held is another one's."""
        super().lose()
        self._held.clear()

    def _begin(self, client: Client) -> None:
        subscribe_to(client, self.destination, self.prefetch)

    def _deliver(self, frame: Frame) -> None:
        text = frame.body.decode().partition(" ")[0]
        # one that takes from several queues is a consumer of each: only within a queue there is an order
        consumer = f"{self.login}/{self.connections} of {frame['subscription']}"
        taken = self.book.take(
            text,
            consumer,
            is_redelivered=frame.get("redelivered") == "true",
            number=int(frame.get("delivery-count") or 1),
            is_shared=self.is_competing,
        )
        self._held.append((frame["ack"], taken))

    def _answer(self, ack: str, taken: Taken) -> None:
        choice = self.chance.random()
        if choice < self.nacks:
            self._say("NACK", id=ack)
        elif choice < self.nacks + self.makes:
            self._make(ack, taken)
        else:
            taken.is_answered = True
            self._ask(lambda: _confirm(taken), "ACK", id=ack)

    def _make(self, ack: str, taken: Taken) -> None:
        """The work is done: its result and its ACK belong together."""
        transaction = self.book.begin(f"{taken.text}:{self.login}/{self.connections}")
        transaction.taken = taken
        sent = self.book.send(f"done:{transaction.name}:{len(self.book.taken)}", self.login, transaction=transaction)
        self._say("BEGIN", transaction=transaction.name)
        self._say("ACK", id=ack, transaction=transaction.name)
        self._say("SEND", sent.text.encode(), destination=DONE, persistent="true", transaction=transaction.name)
        self._commit(transaction)


def subscribe_to(client: Client, destination: str, prefetch: int) -> None:
    """Consume from one of `QUEUES`: the durable subscription in the case of `NEWS`."""
    headers = DURABLE if destination == NEWS else {"id": destination}
    client.request("SUBSCRIBE", headers, destination=destination, ack="client-individual", prefetch_count=prefetch)


def _confirm(subject: Sent | Taken) -> None:
    subject.is_confirmed = True
