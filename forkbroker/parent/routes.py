"""What the parent needs of a router: the rules' three verbs, and who is there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from forkbroker.routing.holding import Holding
from forkbroker.routing.jobs.delays import Delays
from forkbroker.routing.moving import Moving
from forkbroker.routing.news import News
from forkbroker.routing.peers import Outbox, Peer
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.sights import Sights
from forkbroker.routing.topics.durables import Durables
from forkbroker.wire.envelope import Buffer, Envelope


class Routes(Protocol):
    """All that the parent asks of it, or tells it."""

    waiting: Mapping[Peer, object]
    """Children of which something is to be applied, as it was too much for one turn, or whose end is."""
    culprits: dict[Peer, str]
    """Children that are to be ended for what they have sent, as has shown later, and why: the parent takes them out."""

    rejected: list[tuple[Peer, str]]
    """Dead letters by NACK, each with the child that has sent it, for the log: the parent takes them out."""

    def add_peer(self, peer: Peer) -> None:
        """A child runs."""

    def receive(self, peer: Peer, envelope: Envelope, now: float) -> None:
        """A child says something that it is permitted to say. Raises AssertionError or EnvelopeError if it lies."""

    def peer_ended(self, peer: Peer, now: float, crash: str = "") -> None:
        """A child is gone, and nothing more will come from it; `crash`: how its process ended, if it crashed."""

    def receive_stored(self, envelope: Envelope, now: float) -> None:
        """The store says something. Raises AssertionError or EnvelopeError if that can't be."""

    def store_ended(self, reason: str) -> None:
        """The store's process is gone; and why, if it could not do its work."""

    def go_on(self, peer: Peer, now: float) -> None:
        """Apply a turn's part of that. Raises AssertionError or EnvelopeError as `receive`."""

    @property
    def is_applied(self) -> bool:
        """All that was received is applied, and what of it is the store's was told to it."""

    @property
    def last_change(self) -> int:
        """The number of the last change of what is stored."""

    @property
    def is_committed(self) -> bool:
        """All that was received is applied, and what of it is the store's will survive."""

    out: Outbox
    """There is something to `take`."""
    awaits_commit: bool
    """The store has been told of something, and has not answered; noted in `tick`."""
    is_behind: bool
    """The store has so much to write that it should not be given more at present; noted in `tick`."""

    def allot(self, user: str, max_queues: int, max_octets: int, peer: Peer | None = None) -> None:
        """So many queues, and octets in them, may the clients of a user make, of which this child's is one; 0: any."""

    def allotted(self) -> list[str]:
        """The users to whom something is allotted."""

    def adopt(self, policy: Policy) -> None:
        """Heed other settings from now on."""

    def take_notes(self) -> Sequence[str]:
        """What an administrator should know."""

    sights: Sights
    """What there is, for whoever looks."""
    holding: Holding
    """Queues that an administrator holds."""
    durables: Durables
    """Durable subscriptions."""
    delays: Delays
    """Messages that wait for their time."""
    moving: Moving
    """What an administrator does with messages."""
    asked: list[tuple[Peer, Envelope]]
    """ASKs of children, in their order; the parent takes them out."""

    def on_behalf_of(self, peer: Peer, now: float) -> AbstractContextManager[None]:
        """What the parent changes meanwhile is changed for this child."""

    def answer(self, peer: Peer, buffers: list[Buffer]) -> None:
        """Send this to the child when all that it has brought about is committed."""

    news: News
    """What happens, for whoever has subscribed: what the parent has to tell is added, and all of it is taken out."""

    def find_listeners(self, destination: bytes) -> Collection[Peer]:
        """Children that may want what is sent to this topic."""

    def note_time(self, now: float) -> None:
        """About a second has passed."""

    def take_events(self) -> Sequence[str]:
        """Normal events that are worth a line in the log."""

    def describe(self) -> Iterable[str]:
        """What there is, for an administrator who asks: each line is made when it is asked for."""

    def tick(self, now: float) -> bool:
        """Do what is due; False: there was nothing to do, and `deadline` is what it was."""

    def deadline(self) -> float | None:
        """When something will be due, if anything."""

    def stop_offers(self) -> None:
        """Make no new deliveries to consumers that acknowledge."""

    def find_silent(self, since: float) -> Collection[Peer]:
        """Who has owed an answer since then, and keeps something from others by not giving it."""

    def take(self) -> Sequence[tuple[Peer, Sequence[Buffer]]]:
        """What is to be sent, in order."""
