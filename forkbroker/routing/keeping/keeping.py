"""What the broker keeps, in memory and in the store: the parts of this room, made and connected."""

from __future__ import annotations

from forkbroker.routing.handover import Rule
from forkbroker.routing.keeping.custody import Custody
from forkbroker.routing.keeping.journal import Journal
from forkbroker.routing.keeping.paging import Paging
from forkbroker.routing.kit import Kit
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.queues.registry import Queues


class Keeping(Rule):
    """The queues, the router's side of the store, and what stands between them."""

    DUMPED = ("queues", "journal", "custody", "paging")

    def __init__(self, kit: Kit, policy: Policy) -> None:
        self.queues = Queues(kit, policy)
        self.journal = Journal(kit, self.queues.window)
        self.custody = Custody(kit, self.queues, self.journal)
        self.paging = Paging(self.queues, self.custody, self.journal)
