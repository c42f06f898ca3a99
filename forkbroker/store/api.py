"""What a backend of the store is: a class that keeps messages, and blocks while it does.

A backend knows nothing of processes, channels or grouping. `forkbroker.store.process` calls it, from one thread of
one process, and does the rest: it hands over everything that has come since the last commit as one list of changes,
and tells the broker that they are committed when `write` has returned. docs/store-backends.md is the guide for authors,
`forkbroker.testing.stores` the tests that a backend has to pass.

A backend keeps two kinds of messages:

- *Persistent* ones, a `Message` each. When `write` has returned they survive a power cut.
- *Spilled* ones, many in a `Chunk` of octets that nobody looks into. They have left the broker's memory to make room,
  and are worth nothing any more when the broker ends; a new process of the store still has to find them.

Serials are the order of all messages, over all queues; no two messages have the same. They are given by the broker,
from `Opened.serial` on, and rise.

**Every change may come twice.** A store that was killed after its commit and before it could say so is told the same
changes again, in the same order, by whoever starts it anew; what comes again is one group, an unbroken row of changes
up to the very last one. So each change must do no harm when what follows it has been applied before: a message is
written whether there is one with its serial or not; to delete, update or move what is not there is no error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from forkbroker.errors import Exit, ForkbrokerError
from forkbroker.wire.details import DURABLY, Details
from forkbroker.wire.kinds import Matter


class StoreError(ForkbrokerError):
    """The store can't do its work. The text names it, says what was met, and if possible what to do."""

    def __init__(self, message: str, status: int, *, is_final: bool = False) -> None:
        """`status` is what the process ends with (`forkbroker.errors.Exit`); `is_final`: the broker has to end as well.

        Otherwise another process is started after a while.
        """
        super().__init__(message)
        self.status = status
        self.is_final = is_final


class FullError(StoreError):
    """What was to be written has no room, or can't be written for another reason that may pass. What is there can be
    read, and perhaps deleted: the process goes on, and tries again."""


class ChangeError(StoreError):
    """One of the changes can't be written, and never will be, whatever becomes of the disk; others can."""


class SerialTakenError(ChangeError):
    """A message was to be written under the serial of another one, which would have destroyed that one."""

    def __init__(self, serial: int, queue: bytes, there: bytes) -> None:
        """`queue` is that of the message to be written, `there` that of the message that has the serial."""
        shown, other = (name.decode("utf-8", "backslashreplace") for name in (queue, there))
        super().__init__(
            f"serial {serial} of a message for {shown} is the serial of another message, in {other}; nothing was "
            "written. This is an error in the broker: please report it",
            Exit.SOFTWARE,
        )


class Message(NamedTuple):
    """A persistent message. As a change: to be written, in place of itself if it was told before."""

    serial: int
    queue: bytes
    message_id: bytes
    """`NUMBER-SESSION-BATCH`: the last two name the batch in which it came, the first its place there."""
    headers: bytes
    """Lines as in STOMP 1.2, escaped, each with its line feed; no empty line."""
    body: bytes | bytearray | memoryview
    """Whoever keeps it longer than the call that it came with, keeps a copy."""
    deliveries: int = 0
    details: Details = DURABLY
    """What else is known of it. `dedup_id` and `dedup_until` are no part of it: see `Remember`. With `due` it is in the
    schedule: it belongs to its queue, but isn't counted or read with it."""


class Chunk(NamedTuple):
    """Spilled messages that follow each other. As a change: to be kept, in place of itself if it was told before."""

    serial: int
    """Of the first message."""
    queue: bytes
    priority: int
    messages: int
    """How many they are."""
    raw: bytes | bytearray | memoryview


class Delete(NamedTuple):
    """Forget the persistent messages with these serials."""

    first: int
    last: int


class Update(NamedTuple):
    """Note how often these persistent messages were delivered, and how many processes crashed with them."""

    first: int
    last: int
    deliveries: int
    crashes: int


class Move(NamedTuple):
    """These persistent messages have other serials, another queue and other details from now on; perhaps other numbers.

    The new serials are the same as the old ones, or there is none that is both old and new.
    """

    first: int
    last: int
    new_first: int
    """The serial that the first one has from now on."""
    new_number: int
    """The number in front of its `message_id` from now on; the next one's is one more, and so on. 0: all stay."""
    queue: bytes
    deliveries: int
    details: Details


class Purge(NamedTuple):
    """Forget all messages in this queue, persistent and spilled; not those that are still in the schedule for it."""

    queue: bytes


class Define(NamedTuple):
    """There is a durable subscription, or it was used."""

    queue: bytes
    topic: bytes
    """Or a pattern."""
    used_ms: int
    """When it was last used (milliseconds since the epoch)."""


class Forget(NamedTuple):
    """Forget this durable subscription, and all messages in its queue as with `Purge`."""

    queue: bytes


class Note(NamedTuple):
    """Something is so of a queue, which need not have messages; or not any more."""

    queue: bytes
    matter: Matter
    value: bytes | None
    """What is so, in place of what was noted before; None: nothing, forget it. May be empty."""


class Remember(NamedTuple):
    """A `dedup-id` that is not to be accepted a second time."""

    queue: bytes
    dedup_id: bytes
    until_ms: int
    """Milliseconds since the epoch. Afterwards it may be forgotten, and should be before long."""


MESSAGE_OVERHEAD = 128
"""Octets that a message without headers and body weighs: there must be an end of them, too, in what is read at once."""


def is_same(message: Message, other: Message) -> bool:
    """Whether these are one message, perhaps at two moments of its life.

    Number, queue, deliveries and details change; headers, body, and session and batch in `message_id` don't.
    """
    return (
        message.headers == other.headers
        and message.body == other.body
        and message.message_id.partition(b"-")[2] == other.message_id.partition(b"-")[2]
    )


def renumber(message_id: bytes, number: int) -> bytes:
    """The same `message_id` with another number in front."""
    return b"%d%s" % (number, message_id[max(message_id.find(b"-"), 0) :])


def weigh(item: Message | Chunk) -> int:
    """Octets that this counts when about so many are to be read."""
    if isinstance(item, Chunk):
        return len(item.raw)
    return len(item.headers) + len(item.body) + MESSAGE_OVERHEAD


Change = Message | Chunk | Delete | Update | Move | Purge | Define | Forget | Note | Remember


@dataclass(frozen=True, slots=True)
class Opened:
    """What is known of the store once it is open."""

    serial: int
    """The first free one: above those of all messages in the store, and not below `recovered_before`."""
    was_in_order: bool = True
    """The last one who had it open has closed it in order; or there was none."""
    recovered_before: int = 0
    """Messages with serials below this may have been delivered without a note: they were there when the store was
    opened and found to have been left in disorder, this time or an earlier one."""


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A copy of the store, complete and on the disk."""

    messages: int
    octets: int
    """That the copy takes."""
    where: str
    """For the administrator."""


class Backlog(NamedTuple):
    """Persistent messages of one queue and priority, those in the schedule not counted."""

    queue: bytes
    priority: int
    messages: int
    octets: int
    """Of their bodies."""
    last: int
    """The highest serial."""


class Store(ABC):
    """A backend. Made by the parent with the URL, opened and used in the store's process.

    Everything that it needs must have been imported when it is made: its process imports nothing.
    """

    def __init__(self, url: str) -> None:
        """`url` is the whole of it. Understand it, and touch nothing.

        Raises:
            ConfigurationError: it can't be understood.
        """
        self.url = url

    @abstractmethod
    def open(self, *, is_fresh: bool) -> Opened:
        """Open the store, or make it if there is none; called once, before all other methods but `repair`.

        With `is_fresh` the broker has just started: spilled messages are of the one before, and go. Without, another
        process of the same broker had the store open until now.

        Raises:
            StoreError: it can't be opened. Another broker's: names that one's process.
        """

    def repair(self) -> str:
        """Save what can be saved of a damaged store, and set the rest aside; called before `open`, if asked for.

        Returns a sentence for the log.

        Raises:
            StoreError: that can't be done.
        """
        return f"nothing to repair in {self.url}"

    def back_up(self, name: str, is_wanted: Callable[[], bool]) -> BackedUp:
        """Copy all that is committed, as of one moment, to a place of its own beside the store.

        The only method that is called in another process, of an object that is not open, and while the store's process
        has the store open and writes: that must not have to wait. `name` has letters, digits and `._-` only. Nothing is
        replaced. Who opens the copy finds it in order, and all messages in it below `Opened.recovered_before`.
        `is_wanted` is to be asked now and then; if it is false, give up.

        Raises:
            StoreError: there is no copy, and nothing half done has its name.
        """
        raise StoreError(f"this store ({self.url.partition(':')[0]}) cannot be backed up", Exit.UNAVAILABLE)

    @abstractmethod
    def backlog(self) -> Iterable[Backlog]:
        """What there is, queue by queue."""

    @abstractmethod
    def durables(self) -> Iterable[Define]:
        """The durable subscriptions."""

    @abstractmethod
    def notes(self) -> Iterable[Note]:
        """What is noted of queues."""

    @abstractmethod
    def duplicates(self) -> Iterable[Remember]:
        """The `dedup-id`s whose time is not over."""

    @abstractmethod
    def scheduled(self) -> Iterable[Message]:
        """The messages with `details.due`, in the order of their serials. Nothing else is called meanwhile."""

    @abstractmethod
    def write(self, changes: Sequence[Change]) -> None:
        """Apply these in their order: all of them or, when this raises or the power is cut, none.

        That is of persistent messages, durable subscriptions and dedup-ids; chunks and what becomes of them may be
        applied in part.

        Raises:
            FullError: there is no room. The same changes and more come again before long.
            ChangeError: one of them can't be done. The others come again without it. SerialTakenError: the serial of a
                message is another one's.
            StoreError: it could not be done. The process ends.
        """

    def write_one_by_one(self, changes: Iterable[Sequence[Change]]) -> None:
        """As `write` of all these together. Each list is taken when all before it have been applied.

        So the process knows at which one an error, or its own death, has come. A backend that doesn't heed that loses
        more to a change that it can't write: of its group, what comes behind it is taken for the culprit first.
        """
        self.write([change for some in changes for change in some])

    def set_aside(self, number: int, octets: bytes) -> str:
        """Keep for the administrator what is not to be written, as it was told; returns where, for the log.

        Raises:
            StoreError: that could not be done. The process goes on.
        """
        return "nowhere: this store has no place for it"

    def make_room(self) -> bool:
        """There was no room for what is to be written: give up what was kept for that. Tell whether there was some."""
        return False

    def keep_room(self) -> bool:
        """Keep some room for what makes room; called now and then. Tell whether there is as much as there should be."""
        return True

    @property
    def kept(self) -> int:
        """Octets that `keep_room` keeps now: `free` counts them, but they are not for what comes."""
        return 0

    @abstractmethod
    def read(self, queue: bytes, priority: int, after: int, octets: int) -> tuple[list[Message | Chunk], bool]:
        """Messages and chunks with serials above `after`, in their order; and whether there are more.

        About `octets` octets, by `weigh`; at least one of them if there is any. Chunks of this queue and priority with
        serials up to `after` were taken out: this is the time to forget them.

        Raises:
            StoreError: it could not be done. The process ends.
        """

    @abstractmethod
    def free(self) -> int:
        """Octets that can still be written, roughly, and those that `keep_room` keeps. Called once a second or more."""

    @abstractmethod
    def close(self, *, in_order: bool) -> None:
        """The end. `in_order`: everything was told, and nothing was delivered without a note.

        Raises:
            StoreError: that could not be noted.
        """
