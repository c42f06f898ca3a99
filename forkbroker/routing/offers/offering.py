"""Between queues and consumers: offers, answers, what is held. The parts of this room, made and connected."""

from __future__ import annotations

from forkbroker.routing.handover import Rule
from forkbroker.routing.jobs.returns import Returns
from forkbroker.routing.keeping.keeping import Keeping
from forkbroker.routing.kit import Kit
from forkbroker.routing.offers.ahead import AheadClaims
from forkbroker.routing.offers.attendance import Attendance
from forkbroker.routing.offers.blame import Blame
from forkbroker.routing.offers.claims import Claims, Slots
from forkbroker.routing.offers.clientele import Clientele
from forkbroker.routing.offers.leases import Leases
from forkbroker.routing.offers.offers import Offers
from forkbroker.routing.offers.parking import Parking
from forkbroker.routing.offers.sharing import Sharing
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.topics.durables import Durables


class Offering(Rule):
    """The consumers of all queues, and what they were offered and hold."""

    DUMPED = ("ahead", "blame", "claims", "clientele", "offers", "parking")

    def __init__(
        self, kit: Kit, policy: Policy, slots: Slots, keeping: Keeping, returns: Returns, durables: Durables
    ) -> None:
        queues, custody = keeping.queues, keeping.custody
        self.claims = Claims(slots, policy.answer_timeout_s)
        self.ahead = AheadClaims(slots, self.claims)
        self.blame = Blame()
        self.clientele = Clientele(kit, queues, policy.max_unsettled)
        self.leases = Leases(kit, queues, custody, returns, self.clientele)
        self.sharing = Sharing(kit, keeping, returns, self.ahead, self.leases, self.blame)
        self.parking = Parking(kit, queues, custody, returns, self.leases, policy.max_unsettled)
        self.offers = Offers(
            kit,
            keeping,
            returns,
            self.claims,
            self.ahead,
            self.clientele,
            self.leases,
            self.sharing,
            self.blame,
            width=policy.offer_candidates,
        )
        self.attendance = Attendance(queues, custody, durables, self.clientele, self.offers)

    def adopt(self, policy: Policy) -> None:
        """Heed other settings from now on."""
        self.clientele.adopt(policy.max_unsettled)
        self.parking.max_octets = policy.max_unsettled
        self.offers.adopt(policy.offer_candidates)
