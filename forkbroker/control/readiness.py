"""Whether a broker takes work now: what probes, metrics and `stomp-brokerctl health` say of it, in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """Why a broker takes no work."""

    text: str
    """For whoever administers the broker."""
    is_critical: bool = False
    """What is to be kept is not, before somebody does something."""

    @property
    def public(self) -> str:
        """For anybody: without what the system says of files."""
        return self.text.partition(":")[0]


def find_faults(status: Mapping[str, Any]) -> list[Fault]:
    """Why a broker takes no work, given the result of the verb `status`, or these members of it; nothing: it does."""
    store, most, faults = status["store"], status.get("max-clients"), list[Fault]()
    if store["refuses"]:
        faults.append(Fault(f"the store takes nothing: {store['refuses']}", is_critical=True))
    elif not store["open"]:
        faults.append(Fault("the store is not open"))
    if status["phase"] == "draining":
        faults.append(Fault("the broker is being drained"))
    elif status["phase"] != "running":
        faults.append(Fault("the broker is shutting down"))
    elif not status["listening"]:
        faults.append(Fault("the broker does not listen"))
    if most is not None and status["clients"] >= most:
        faults.append(Fault(f"all {most:,} clients that max-clients permits are connected"))
    return faults
