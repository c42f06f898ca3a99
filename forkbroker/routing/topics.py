"""Topics: who listens, and whose messages are kept until they do. The parts of this room, made and connected."""

from __future__ import annotations

from forkbroker.routing.durables import Durables
from forkbroker.routing.interest import Everybody, Interest, Interested
from forkbroker.routing.keeping import Keeping
from forkbroker.routing.kit import Kit
from forkbroker.routing.policies import Policy
from forkbroker.routing.strays import Strays


class Topics:
    """Live subscribers, and durable subscriptions."""

    def __init__(self, kit: Kit, policy: Policy, keeping: Keeping) -> None:
        self.interest: Interested = Everybody() if policy.broadcast_all else Interest()
        self.durables = Durables(kit, keeping.queues, keeping.journal, keeping.custody, limit=policy.max_durables)
        self.strays = Strays(kit.notes)
