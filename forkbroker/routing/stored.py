"""What the store says, and what follows from it.

The store is a peer like others (`STORE`): it is told what is to survive, and what memory has no room for, and gives
it back (`journal.py`, `paging.py`). When its process ends another one is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from forkbroker.routing.handover import Rule
from forkbroker.routing.holding import Holding
from forkbroker.routing.jobs.jobs import Jobs
from forkbroker.routing.keeping.keeping import Keeping
from forkbroker.routing.kit import Kit
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.runs import make_run
from forkbroker.routing.topics.topics import Topics
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.fields import OF_STORE, check
from forkbroker.wire.kinds import Kind, Matter


class Stored(Rule):
    """The router as the store's processes see it."""

    DUMPED = ("_knows_serial", "has_opened")
    ANEW = ("_methods",)

    def __init__(self, kit: Kit, keeping: Keeping, jobs: Jobs, topics: Topics, holding: Holding) -> None:
        self._kit = kit
        self._queues = keeping.queues
        self._journal = keeping.journal
        self._custody = keeping.custody
        self._paging = keeping.paging
        self._jobs = jobs
        self._returns = jobs.returns
        self._durables = topics.durables
        self._holding = holding
        self._knows_serial = False
        self.has_opened = False
        """The first store is OPENED: all that was there before the broker's start is known."""
        self._methods: dict[Kind, Callable[[Envelope], None]] = {
            Kind.COMMITTED: self._committed,
            Kind.PAGE: self._page,
            Kind.PAGED: self._paged,
            Kind.DISK: self._heed_disk,
            Kind.OPENING: self._opening,
            Kind.BACKLOG: self._backlog,
            Kind.TRYING: self._trying,
            Kind.DECLINED: self._declined,
            Kind.DELETED: self._deleted,
            Kind.DURABLE: self._restore_durable,
            Kind.DUPLICATE: self._restore_duplicate,
            Kind.NOTED: self._restore_note,
            Kind.OPENED: self._opened,
        }

    def receive(self, envelope: Envelope) -> None:
        """Apply what the store says.

        Raises:
            EnvelopeError: it can't be decoded, or is not the router's business.
            AssertionError: it can't be true.
        """
        check(envelope, OF_STORE)
        self._methods[envelope.kind](envelope)

    def ended(self, reason: str) -> None:
        """The store's process is gone; `reason` when it could not do its work. Another one will be OPENED."""
        self._journal.closed(reason)
        self._paging.closed()
        if self._journal.failure:
            # who brings more of what is persistent is refused from now on, and nobody waits for what the store has
            self._custody.let_go_on()
            self._go_on()

    def tick(self) -> None:
        """A new turn: tell the store more of what was too much for the one before, and show more of what it has."""
        self._journal.go_on()
        if self._journal.held or (self._custody.pending and self._custody.has_hidden()):
            self._show_committed()

    # -- the beginning

    def _opening(self, envelope: Envelope) -> None:
        self._queues.resume_serials(envelope.serial)
        self._knows_serial = True

    def _require_serial(self, kind: Kind) -> None:
        if not self._knows_serial:
            raise AssertionError(f"{kind.name} before OPENING: the first free serial is not known")

    def _backlog(self, envelope: Envelope) -> None:
        self._require_serial(envelope.kind)
        self._paging.restore(envelope)

    def _restore_durable(self, envelope: Envelope) -> None:
        self._require_serial(envelope.kind)
        self._durables.restore(envelope.destination, envelope.block, envelope.serial)

    def _restore_duplicate(self, envelope: Envelope) -> None:
        self._jobs.intake.restore_duplicate(envelope.destination, envelope.block, envelope.number)

    def _restore_note(self, envelope: Envelope) -> None:
        self._require_serial(envelope.kind)
        if envelope.token == Matter.HELD:
            self._holding.restore(envelope.destination, int(envelope.block))
        else:
            self._custody.restore_owner(envelope.destination, envelope.block)

    def _opened(self, envelope: Envelope) -> None:
        self._require_serial(envelope.kind)
        self._journal.opened()
        if not self.has_opened:
            # what the store has from before is told to the first one alone
            self.has_opened = True
            self._durables.drop_unknown()
            self._jobs.delays.opened()
        self._kit.chores.add(self._visit_all(self._meet_store))

    def _meet_store(self, queue: Queue) -> None:
        """A store process is there, which knows nothing of what another one was asked for."""
        self._let_go_on(queue)
        if not queue.is_gone:
            self._paging.peek(queue)
            self._returns.make_room(queue)

    # -- changes

    def _committed(self, envelope: Envelope) -> None:
        journal = self._journal
        has_failed = bool(journal.failure)
        journal.commit(envelope.number)
        self._show_committed()
        if has_failed:
            self._go_on()

    def _show_committed(self) -> None:
        """Show consumers a turn's part of what waited to be committed, and let producers go on that waited as well."""
        if self._custody.pending:
            for queue in self._custody.commit(self._journal.committed, self._kit.steps):
                self._returns.make_room(queue)
        if self._journal.held:
            self._custody.let_go_on()

    def _trying(self, envelope: Envelope) -> None:
        self._journal.trying(envelope.number)

    def _deleted(self, envelope: Envelope) -> None:
        self._journal.deleted(envelope.number)

    def _declined(self, envelope: Envelope) -> None:
        self._journal.declined(envelope.number, envelope.block.decode(errors="replace"))

    def _heed_disk(self, envelope: Envelope) -> None:
        journal = self._journal
        was_short = bool(journal.shortage)
        journal.heed_disk(envelope.block.decode(errors="replace") if envelope.token else "", envelope.serial)
        self._custody.let_go_on()
        if was_short and not envelope.token:
            self._go_on()

    # -- messages

    def _page(self, envelope: Envelope) -> None:
        details = envelope.details
        if details.due:
            self._require_serial(envelope.kind)
            self._jobs.delays.restore(envelope.destination, make_run(envelope, envelope.serial, details))
            return
        queue = self._queues.find(envelope.destination)
        if queue is not None:
            self._paging.page(queue, envelope)
            self._returns.make_room(queue)

    def _paged(self, envelope: Envelope) -> None:
        queue = self._queues.find(envelope.destination)
        if queue is not None:
            self._paging.paged(queue, envelope)
            self._returns.make_room(queue)

    # -- all queues

    def _go_on(self) -> None:
        """The store can take and give again, or nothing is to wait for it."""
        self._kit.chores.add(self._visit_all(self._let_go_on))

    def _visit_all(self, visit: Callable[[Queue], None]) -> Iterator[None]:
        """Do this for each queue that there is now, and then still is."""
        for queue in self._queues.all():
            if not queue.is_gone:
                visit(queue)
            yield

    def _let_go_on(self, queue: Queue) -> None:
        self._queues.changed[queue] = None
        self._queues.tidy(queue)
