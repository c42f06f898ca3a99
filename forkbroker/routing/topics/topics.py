"""Topics: who listens, and whose messages are kept until they do. The parts of this room, made and connected."""

from __future__ import annotations

from forkbroker.routing.handover import Rule
from forkbroker.routing.keeping.keeping import Keeping
from forkbroker.routing.kit import Kit
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.topics.durables import Durables
from forkbroker.routing.topics.interest import Everybody, Interest, Interested
from forkbroker.routing.topics.strays import Strays


class Topics(Rule):
    """Live subscribers, and durable subscriptions."""

    DUMPED = ("interest", "durables")

    def __init__(self, kit: Kit, policy: Policy, keeping: Keeping) -> None:
        self.interest: Interested = (Everybody if policy.broadcast_all else Interest)(kit.news)
        self.durables = Durables(kit, keeping.queues, keeping.journal, keeping.custody, limit=policy.max_durables)
        self.strays = Strays(kit.notes)
