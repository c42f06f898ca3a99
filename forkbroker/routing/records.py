"""What can be in a dump of a router beside its rules (`handover.py`)."""

from __future__ import annotations

from forkbroker.routing.handover import Record
from forkbroker.routing.jobs.delays import DelayedMessages
from forkbroker.routing.keeping.telling import Change
from forkbroker.routing.offers.ahead import AheadOffer
from forkbroker.routing.offers.blame import Crash
from forkbroker.routing.offers.claims import Offer
from forkbroker.routing.offers.consumers import Child, Consumer, Consumers
from forkbroker.routing.offers.holdings import Holdings
from forkbroker.routing.queues.accounts import Account
from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.runs import Run
from forkbroker.routing.topics.durables import Durable

RECORDS: tuple[type[Record], ...] = (
    *(Run, Lane, Queue, Holdings, Child, Consumer, Consumers),
    *(Crash, Offer, AheadOffer, Change, DelayedMessages, Durable, Account),
)
"""All classes of them, those first of which others work something out."""
