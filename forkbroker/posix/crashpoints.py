"""Named places at which a process kills itself, for tests that must know what a death between two steps does.

The environment variable FORKBROKER_CRASH names them: `point[@who][:n]`, several with commas. The process that comes
to `point` on behalf of `who` (a client's login; anyone's when left out) for the `n`th time (the first when left out)
ends itself with SIGKILL: no clean-up, no last word.

When the variable is not set, `reach` is None and costs a comparison:

    if reach is not None:
        reach("child.claimed", login)

Turns are counted in each process by itself. A point or a form that does not exist ends the program at its start.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass

from forkbroker.errors import ConfigurationError

VARIABLE = "FORKBROKER_CRASH"

POINTS = {
    "child.offer-received": "an offer came, its semaphore was not tried",
    "child.claimed": "the semaphore is acquired, the client got nothing, the parent was told nothing",
    "child.delivered": "written to the client, the parent was told nothing",
    "child.claim-told": "the parent can read the claim",
    "child.settled": "the parent can read the settlement",
    "child.parked": "the parent can read that a delivery is parked, the client was told nothing",
    "child.lost-told": "the parent can read that another one was quicker",
    "nursery.ordered": "a spare was ordered, nothing was forked",
    "nursery.born": "a spare is forked, the parent was told nothing",
    "nursery.told": "the parent can read that a spare is there",
    "nursery.learning": "the nursery has heard what a reload has changed, and no client was played through with that",
    "spare.handed": "a spare has got its client, and done nothing for it",
    "parent.ordered": "a spare is ordered",
    "parent.handed": "a spare can read which client it has got",
    "parent.offered": "the semaphore is posted and the offers are sent",
    "parent.settled": "a settlement was applied, and what follows from it is sent",
    "store.group-read": "a group of changes was read, nothing of it is written",
    "store.trying": "the parent can read which change is applied next",
    "store.written": "a group is written and not committed",
    "store.committed": "a group is committed, the parent was not told",
    "store.told": "the parent can read that a group is committed",
    "store.paged": "the parent can read what it has asked for",
    "backup.step": "a part of the database is copied",
    "backup.written": "the whole copy is on the disk, under another name",
    "backup.named": "it has its name, and the other one as well",
    "parent.written": "the store can read a change, the client's receipt waits",
    "parent.committed": "the store has said that a change will survive, the client was told nothing",
}
"""Every point, and what has happened when it is reached."""

_FORM = re.compile(r"(?P<point>[^@:]+)(?:@(?P<who>.+?))?(?::(?P<turn>[1-9][0-9]*))?")


@dataclass
class _Seam:
    who: str | None
    remaining: int


class CrashPoints:
    """The armed points of a process; called at each of them."""

    def __init__(self, text: str) -> None:
        """Arm what `text` names.

        Raises:
            ConfigurationError: an unknown point, or not of the form above.
        """
        self._seams: dict[str, list[_Seam]] = {point: [] for point in POINTS}
        for part in text.split(","):
            point, seam = _parse(part.strip())
            self._seams[point].append(seam)

    def __call__(self, point: str, who: str) -> None:
        """Come to `point` on behalf of `who`; does not return when it was the last time."""
        for seam in self._seams[point]:
            if seam.who is None or seam.who == who:
                seam.remaining -= 1
                if seam.remaining == 0:
                    os.kill(os.getpid(), signal.SIGKILL)


def _parse(part: str) -> tuple[str, _Seam]:
    match = _FORM.fullmatch(part)
    if match is None or match["point"] not in POINTS:
        raise ConfigurationError(f"{VARIABLE}={part}", "no such crash point", f"there are {', '.join(POINTS)}")
    return match["point"], _Seam(match["who"], int(match["turn"] or 1))


def _from_environment() -> Callable[[str, str], None] | None:
    """What the variable asks for; a mistake in it ends the program here, as the hot modules bind `reach` on import."""
    text = os.environ.get(VARIABLE)
    try:
        return CrashPoints(text) if text else None
    except ConfigurationError as error:
        raise SystemExit(f"stomp-broker: {error}") from error


reach = _from_environment()
