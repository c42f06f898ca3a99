"""Which message is to blame when the process of a client crashes.

A message can crash the child that delivers it, again and again: it is *poison*, and is to be set aside. But a child
also crashes because of another message that it held, because of what its client sent, or because an administrator or
the kernel killed it; no crash says which. This is the theory by which the guilty one is found and no other.

1. **Suspicion.** A crash makes a suspect of everything that the process held: what its consumers had not settled, what
   it had claimed without telling, and the first message of the offer that it was to read next, as a message may be so
   large that its consumer's process dies before it can claim. What it was offered ahead (`ahead.py`) and had not
   claimed is none of that: it is small, and had not reached the client. As long as others may have claimed a message of
   such an offer, it counts as company, and becomes a suspect only if none of them has.
2. **Solitude.** A suspect is offered alone, to a child that holds nothing else, over all its subscriptions, and nothing
   else is offered to that child meanwhile (`guards.py`). So the next crash has one message to blame.
3. **Conviction.** Only a crash at which the process held one message, and nothing else, convicts; `poison_after` counts
   these. A crash in company only makes suspects, however often.
4. **Alibi.** Processes that are killed at random hold one message as well, sometimes. But then others are killed, too,
   that did not hold it. A crash convicts a suspect only if, since it became suspect or was last blamed, there was no
   *unexplained* crash: one of a process that held no suspect alone. Where processes crash all around, only a message
   that crashes its process faster than others crash is convicted.

The grade of suspicion is `details.crashes`: 0 for none, 1 for a suspect, and one more for each conviction; a message
that was never suspect and was alone at the first crash gets 2 at once. The store keeps it with persistent messages,
so it survives a restart; the count of unexplained crashes begins anew.

How likely is it that an innocent message is convicted by chance? Let p be the chance that its process is killed while
it holds a suspect alone. With three convictions it is below p³ for each suspect, and the alibi makes it smaller still:
with a kill for every 15 jobs among eight workers p is 0.07, and seven of eight kills meet others. What the theory
can't see: what of topics a child holds, and the frames of its client. And where kills always meet the one process that
holds one message, they look like that message's doing: SIGTERM is the way to end a client, and is no crash.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from forkbroker.routing.handover import Record, Rule
from forkbroker.routing.queues.policies import QueuePolicy
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.details import Details

_SUSPECT = 1


@dataclass(frozen=True, slots=True)
class Crash(Record):
    """The crash of one process."""

    how: str
    """As the log says it: `by SIGSEGV`."""
    is_alone: bool
    """It held one message, and nothing else."""


def is_suspect(details: Details) -> bool:
    """Tell whether a process crashed that held these messages."""
    return details.crashes >= _SUSPECT


def count_convictions(details: Details) -> int:
    """Return how many crashes these messages are convicted of."""
    return max(0, details.crashes - _SUSPECT)


class Blame(Rule):
    """The crashes that there were."""

    DUMPED = ("_unexplained",)

    def __init__(self) -> None:
        """Start without any."""
        self._unexplained = 0

    def note_crash(self, how: str, held: Iterable[Run], *, is_withheld: bool) -> Crash:
        """A process crashed that held these, or may have; `is_withheld`: it also had what it had lost by a lease."""
        runs = list(held)
        is_alone = not is_withheld and [run.count for run in runs] == [1]
        if not (is_alone and is_suspect(runs[0].details)):
            self._unexplained += 1
        return Crash(how, is_alone)

    def judge(self, run: Run, crash: Crash | None, policy: QueuePolicy) -> str:
        """Blame messages for this crash, if there was one; return why they are poison, if the policy says so."""
        if crash is None or not self.charge(run, crash):
            return ""
        convictions = count_convictions(run.details)
        if not 0 < policy.poison_after <= convictions:
            return ""
        return f"{convictions} child processes crashed while they had only this message, the last one {crash.how}"

    def charge(self, run: Run, crash: Crash) -> bool:
        """Blame messages for a crash of a process that held them; tell whether it convicts them."""
        has_alibi = is_suspect(run.details) and run.alibis != self._unexplained
        is_convicted = crash.is_alone and not has_alibi
        run.details = replace(run.details, crashes=max(_SUSPECT, run.details.crashes) + is_convicted)
        run.alibis = self._unexplained
        return is_convicted
