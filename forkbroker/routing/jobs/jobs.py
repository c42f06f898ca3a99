"""What is done with messages on their way into a queue and out of it: the parts of this room, made and connected."""

from __future__ import annotations

from forkbroker.routing.handover import Rule
from forkbroker.routing.jobs.delays import DelayLimits, Delays
from forkbroker.routing.jobs.intake import Intake
from forkbroker.routing.jobs.returns import Returns
from forkbroker.routing.keeping.keeping import Keeping
from forkbroker.routing.kit import Kit
from forkbroker.routing.queues.policies import Policy


class Jobs(Rule):
    """The way in, the way back, and the wait for a message's time."""

    DUMPED = ("delays", "intake")

    def __init__(self, kit: Kit, policy: Policy, keeping: Keeping) -> None:
        queues, custody = keeping.queues, keeping.custody
        self.returns = Returns(kit, queues, custody, keeping.paging)
        self.delays = Delays(kit, queues, custody, self.returns, _limits_of(policy))
        self.intake = Intake(kit, queues, keeping.journal, custody, self.returns, self.delays)

    def adopt(self, policy: Policy) -> None:
        """Heed other settings from now on."""
        self.delays.adopt(_limits_of(policy))


def _limits_of(policy: Policy) -> DelayLimits:
    return DelayLimits(
        octets=policy.max_delayed_bytes, min_period=policy.min_repeat_period, max_repeating=policy.max_repeating
    )
