"""The simulation finds faults: what the rules take care of is left out, and one of a few lives fails for it.

`FINDERS` says for each fault in which life it was found last. Whoever changes what lives consist of changes them all,
so others are tried as well: `python -m routing.test_findings`, in `tests`, tells the numbers for the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from forkbroker.cli import conversion
from forkbroker.routing import router
from forkbroker.routing.jobs.delays import Delays
from forkbroker.routing.jobs.returns import Nack, Returns
from forkbroker.routing.keeping.custody import Custody
from forkbroker.routing.keeping.fans import Fan, Piece
from forkbroker.routing.keeping.journal import Journal
from forkbroker.routing.queues import lanes
from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues
from forkbroker.routing.queues.runs import Run
from forkbroker.routing.router import Router
from forkbroker.routing.stored import Stored
from forkbroker.store.group import Group
from forkbroker.wire.envelope import FEW, Envelope
from forkbroker.wire.fields import Fields

from .life import live

TRIED = 60
"""So many lives at most have to show a fault: those that test_store_properties.py lives without it."""

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Fault:
    """Something that is left out."""

    leave_out: Callable[[Patch], None]
    found_by: int
    """The dice of the life that has found it last."""


def fire_before_opened(patch: Patch) -> None:
    """Time passes while the store still tells what it has, and the first free serial is known at the end of that."""
    tick, opened = Router.tick, Stored._opened
    serials: dict[Stored, int] = {}

    def note_serial(self: Stored, envelope: Envelope) -> None:
        self._knows_serial = True
        serials[self] = envelope.serial

    def tick_at_once(self: Router, now: float) -> None:
        self._stored.has_opened = True
        tick(self, now)

    def resume_serials(self: Stored, envelope: Envelope) -> None:
        self._queues.resume_serials(serials.get(self, 1))
        opened(self, envelope)

    patch.setattr(Stored, "_opening", note_serial)
    patch.setattr(Router, "tick", tick_at_once)
    patch.setattr(Stored, "_opened", resume_serials)


def cut_no_fan(patch: Patch) -> None:
    """All copies of a batch are one change, however much the store has to write for it."""
    patch.setattr(Piece, "cut", lambda self: self.cut_names())


def cut_no_names(patch: Patch) -> None:
    """The list of queues is as long as there are durable subscriptions."""
    patch.setattr(Piece, "cut_names", lambda self: iter([self]))


def tell_copies(patch: Patch) -> None:
    """The bodies are told once for each durable subscription."""
    patch.setattr(Fan, "add", lambda *_: False)


def pass_on_nothing_larger(patch: Patch) -> None:
    """What the parent passes on has no room for what is known of it."""
    patch.setattr(conversion, "max_passed", conversion.max_envelope)


def check_nothing(patch: Patch) -> None:
    """What a child says is believed."""
    patch.setattr(router, "check_head", lambda *_: Fields(content=lambda _: None))


def put_back_behind(patch: Patch) -> None:
    """What comes back stands behind what has not been offered."""

    def put_back(self: Lane, run: Run) -> None:
        self._show(run)
        self.memory += run.memory

    patch.setattr(Lane, "put_back", put_back)


def answer_at_once(patch: Patch) -> None:
    """FENCED does not wait for the commit."""
    patch.setattr(Journal, "answer", lambda self, peer, buffers: self._out.append((peer, buffers)))


def fetch_one_too_late(patch: Patch) -> None:
    """The store is asked for what follows the message after the last one."""
    fetch = Journal.fetch

    def fetch_late(self: Journal, queue: bytes, priority: int, after: int, octets: int) -> bool:
        return fetch(self, queue, priority, after + (after > 0), octets)

    patch.setattr(Journal, "fetch", fetch_late)


def show_fired_at_once(patch: Patch) -> None:
    """A delayed message whose time has come is offered before the store has it in its queue."""
    append = Custody.append

    def append_visibly(
        self: Custody, queue: Queue, run: Run, *, is_written: bool = False, is_hidden: bool = False
    ) -> None:
        append(self, queue, run, is_written=is_written)

    patch.setattr(Custody, "append", append_visibly)


def forget_what_is_declined(patch: Patch) -> None:
    """A change that the store can't write is never said to be committed."""

    def without(self: Group, number: int) -> Group:
        group = Group()
        for told in self.told:
            if told.number != number:
                group.add(told)
        return group

    patch.setattr(Group, "without", without)


def mark_no_dead_letters(patch: Patch) -> None:
    """A dead letter is not marked although it may have been delivered before the broker's start."""
    patch.setattr("forkbroker.routing.jobs.returns._RECOVERED", 0)


def count_no_returns(patch: Patch) -> None:
    """What a consumer had and gave back is offered as if it had never been delivered."""

    def requeue(self: Returns, queue: Queue, run: Run, poison: str = "", nack: Nack | None = None) -> None:
        self._put_back_later(queue, run)

    patch.setattr(Returns, "requeue", requeue)


def keep_memory(patch: Patch) -> None:
    """What is settled is still counted in the memory of all queues."""
    forget = Queue.forget

    def forget_partly(self: Queue, run: Run) -> None:
        forget(self, run)
        self.window.used += run.memory

    patch.setattr(Queue, "forget", forget_partly)


def keep_entries(patch: Patch) -> None:
    """The schedule keeps what was to be done about a queue that is gone."""
    patch.setattr(Queues, "_cancel", lambda *_: None)


def lose_a_page(patch: Patch) -> None:
    """What memory has no room for is counted, but not told to the store."""
    patch.setattr(Custody, "spill", lambda *_: None)


def tell_what_waits(patch: Patch) -> None:
    """Spilled messages are read before the rest of their group is written."""
    patch.setattr(Group, "first_of", lambda *_: 0)


def join_what_is_unlike(patch: Patch) -> None:
    """Messages are put together although they have other details."""
    patch.setattr(lanes, "may_join", lambda run, _: 0 < run.count < FEW)


def fire_without_letting_go(patch: Patch) -> None:
    """A delayed message comes to its queue, and still counts as delayed."""

    def take(self: Delays, key: tuple[bytes, int]) -> Run:
        return self._waiting[key[0]].runs[key[1]]

    patch.setattr(Delays, "_take", take)


FINDERS: dict[str, Fault] = {
    "fires-before-opened": Fault(fire_before_opened, 9),
    "cuts-no-fan": Fault(cut_no_fan, 2),
    "cuts-no-names": Fault(cut_no_names, 1),
    "tells-copies": Fault(tell_copies, 2),
    "passes-on-nothing-larger": Fault(pass_on_nothing_larger, 167),
    "checks-nothing": Fault(check_nothing, 1),
    "puts-back-behind": Fault(put_back_behind, 1),
    "answers-at-once": Fault(answer_at_once, 0),
    "fetches-one-too-late": Fault(fetch_one_too_late, 0),
    "shows-fired-at-once": Fault(show_fired_at_once, 32),
    "forgets-what-is-declined": Fault(forget_what_is_declined, 44),
    "marks-no-dead-letters": Fault(mark_no_dead_letters, 11),
    "counts-no-returns": Fault(count_no_returns, 0),
    "keeps-memory": Fault(keep_memory, 0),
    "keeps-entries": Fault(keep_entries, 43),
    "loses-a-page": Fault(lose_a_page, 1),
    "fires-without-letting-go": Fault(fire_without_letting_go, 5),
    "tells-what-waits": Fault(tell_what_waits, 19),
    "joins-what-is-unlike": Fault(join_what_is_unlike, 1),
}


def find(fault: Fault, lives: Iterable[int]) -> tuple[int, str] | None:
    """The first of these lives that fails with the fault, and how; None: none does."""
    for seed in lives:
        with Patch.context() as patch:
            fault.leave_out(patch)
            try:
                live(seed)
            except Exception as error:
                return seed, f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("name", FINDERS)
def test_a_fault_is_found(name: str) -> None:
    """By a life that has no other fault: all of them pass as the rules are (test_store_properties.py)."""
    fault = FINDERS[name]

    assert find(fault, [fault.found_by, *range(TRIED)]) is not None


def main() -> None:
    """Tell by which life each fault is found first."""
    for name, fault in FINDERS.items():
        print(name, find(fault, range(TRIED)))


if __name__ == "__main__":
    main()
