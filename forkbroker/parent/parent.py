"""The parent's program: one loop over the listeners, the channels to all processes, deadlines and signals.

Who does what:

    listener → reception   a connection comes in: it gets a process, or a word why not (`admission`, `refusals`)
    clients                the clients' children; what they say is applied in `hearing`
    helpers                all other processes, a row each: the store's is in `keeper`, the nursery's in `nursing`
    spares                 what the nursery has forked, until there is a client for it; its end: `reaper`
    processes              fork, hear to the end, reap: the same for all processes; what is known of each: `roster`;
                           all of them together: `process_table`
    channels               the channels and the router (`routes`); who waits for whom: `flow`, `patience`
    reloading              a changed configuration, taken over
    saving                 backups of the store
    control                what clients ask of the broker itself
    bulletin               what the broker says of itself
    shutdown               the end of the broker, in bounded time
    report, status_line    what the parent shows of itself
    setup                  what the parent is given

It moves envelopes between channels and the router, and decides nothing about them: what may be sent is in
`forkbroker.wire.kinds`, where it goes in `forkbroker.routing`. It knows no STOMP, and nothing here blocks: every
descriptor is non-blocking, and a process that is slow, stopped, dead or mad costs the others nothing.

A turn of the loop: read each channel once that has something, route it, queue what follows from it; at the turn's end
let the router have its time, and flush each channel once that something was queued for.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial

from forkbroker.control.readiness import find_faults
from forkbroker.errors import Exit, StartError
from forkbroker.parent.admission import Admission
from forkbroker.parent.bulletin import Bulletin
from forkbroker.parent.channels import Channels
from forkbroker.parent.clients import Clients
from forkbroker.parent.control.broker import ParentStatus, Whole
from forkbroker.parent.control.control import Control
from forkbroker.parent.control.handlers import make_handlers
from forkbroker.parent.control.queues import Looks
from forkbroker.parent.draining import Draining
from forkbroker.parent.entitling import Entitling
from forkbroker.parent.helpers import Helpers
from forkbroker.parent.keeper import Keeper
from forkbroker.parent.latencies import Latencies
from forkbroker.parent.listener import Listeners
from forkbroker.parent.metering import Metering
from forkbroker.parent.nursing import Nursing
from forkbroker.parent.process_table import ProcessTable
from forkbroker.parent.processes import Forge
from forkbroker.parent.reaper import Reaper
from forkbroker.parent.reception import Reception
from forkbroker.parent.refusals import Refusals
from forkbroker.parent.reloading import Plan, Reloading
from forkbroker.parent.report import Report
from forkbroker.parent.roster import Client
from forkbroker.parent.routes import Routes
from forkbroker.parent.saving import Saving
from forkbroker.parent.setup import Hooks, ParentPolicy, Programs
from forkbroker.parent.shutdown import Phase, Shutdown
from forkbroker.parent.spares import Spares
from forkbroker.parent.status_line import StatusLine
from forkbroker.posix import children, collector
from forkbroker.posix.addresses import source_of
from forkbroker.posix.loop import Deadline, Loop
from forkbroker.posix.signals import Signals
from forkbroker.wire.kinds import Cause, Role
from forkbroker.wire.receive_memory import ReceiveMemory


class Parent:
    """All that the parent process knows."""

    def __init__(
        self,
        loop: Loop,
        listeners: Sequence[socket.socket],
        router: Routes,
        programs: Programs,
        policy: ParentPolicy,
        hooks: Hooks | None = None,
    ) -> None:
        """Take over `loop` and `listeners` (sockets that listen). Nothing happens before `run`.

        As long as there are parts: each is made of those before it, and of what they are to call here.
        """
        hooks = hooks or Hooks()
        logger, descriptors = hooks.logger, hooks.log_descriptors
        self._loop = loop
        self._router = router
        self._logger = logger
        self._hooks = hooks
        self._interval_s = policy.flow.check_interval_s
        self._deadline: Deadline | None = None
        """When the router wants a turn, or earlier."""
        self._was_due = False
        self._told: str | None = None
        """What probes were told last."""
        self._start_error: StartError | None = None
        self._exit_status = Exit.OK

        budget = ReceiveMemory(policy.receive_memory)
        self._channels = Channels(loop, router, policy.flow, budget)
        self._admission = Admission(policy.admission, source_of, loop.now)
        self._helpers = Helpers(
            self._channels, Forge(policy.max_passed, lambda: [*descriptors(), *programs.kept]), self._lose, logger
        )
        reaper = Reaper(self._helpers, self._hear_end, self._orphan)
        forge = Forge(policy.max_envelope, descriptors, budget)
        self._spares = Spares(self._helpers, forge, reaper, most=policy.admission.max_clients, changed=self._go_on)
        self._nursing = Nursing(self._helpers, programs.nursery, self._spares, reaper, self._open, logger)
        entitling = Entitling(policy.permissions, source_of)
        self._clients = Clients(self._channels, self._admission, self._spares, entitling, self._quiet, logger)
        self._latencies = None if programs.metrics is None else Latencies()
        self._metering = (
            None
            if programs.metrics is None
            else Metering(self._channels, self._helpers, programs.metrics, programs.metrics_kept, logger)
        )
        self._keeper = Keeper(
            self._channels, self._helpers, programs.store, self._open, self._end, logger, self._latencies
        )
        self._reloading = (
            None
            if hooks.reload is None
            else Reloading(self._channels, self._helpers, hooks.reload, self._adopt, logger)
        )
        self._saving = None if programs.backup is None else Saving(self._helpers, programs.backup, logger)
        self._draining = Draining(loop, partial(self._clients.kick, cause=Cause.AWAY), logger, router.news)
        self._refusals = Refusals(loop, programs.refusal, logger)
        self._reception = Reception(
            self._channels,
            self._admission,
            self._clients,
            self._refusals,
            logger,
            self._draining.refusal,
            lambda: self._spares.can_answer,
        )
        self._listeners = Listeners(
            loop, listeners, accepted=self._reception.accepted, close=hooks.close_listener, logger=logger
        )
        self._shutdown = Shutdown(
            self._channels,
            self._clients,
            timeout_s=policy.shutdown_timeout_s,
            begin=self._begin_to_end,
            finish=self._finish,
            logger=logger,
        )
        self._processes = ProcessTable(self._helpers, self._spares, self._clients)
        whole, looks = Whole(loop, router, self._make_status()), Looks(loop, router, self._clients.find)
        handlers = make_handlers(self._channels, self._clients, self._draining, whole, looks)
        self._bulletin = Bulletin(self._channels, whole, looks)
        self._control = Control(self._channels, self._processes.find_asker, handlers, logger)
        self._report = Report(loop, router.describe, logger)
        self._status = StatusLine(self._listeners.names, hooks.status)

    def run(self) -> int:
        """Serve until a signal ends it; the exit status.

        Raises:
            StartError: the store can't be opened.

        Whatever else goes wrong in here ends the broker, not just this turn: a router in an unknown state could lose or
        double messages. The children see the end of their channels, and end too.
        """
        signals = Signals(self._loop, self._callbacks())
        collector.settle()
        try:
            self._loop.at_turn_end(self._end_turn)
            # first, as long as there is nothing that its children need not have
            self._nursing.start()
            self._keeper.start()
            if self._metering is not None:
                self._metering.start()
            self._loop.run()
        except Exception:
            self._logger.exception("parent: unexpected exception, exiting")
            return Exit.SOFTWARE
        finally:
            self._listeners.close()
            self._refusals.close()
            self._spares.close()
            self._channels.close()
            signals.close()
        if self._start_error is not None:
            raise self._start_error
        self._log_notes()
        self._logger.info("ended")
        return self._exit_status

    def _callbacks(self) -> dict[signal.Signals, Callable[[], None]]:
        return {
            signal.SIGCHLD: self._reap,
            signal.SIGTERM: self._shutdown.ask,
            signal.SIGINT: self._shutdown.ask,
            signal.SIGQUIT: self._shutdown.at_once,
            signal.SIGUSR1: self._reopen_logs,
            signal.SIGHUP: self._hang_up,
            signal.SIGUSR2: self._report.start,
        }

    def _reopen_logs(self) -> None:
        """Children that are forked from now on have the new file."""
        self._hooks.reopen_logs()
        self._nursing.follow_log()

    def _make_status(self) -> ParentStatus:
        """How requests and figures see this process, whenever they look."""
        return ParentStatus(
            phase=self._name_phase,
            listening=lambda: self._listeners.names,
            clients=lambda: self._admission.clients,
            max_clients=lambda: self._admission.max_clients,
            processes=self._processes.count,
            octets=lambda: self._clients.octets,
            started=time.time(),
            latencies=lambda: None if self._latencies is None else self._latencies.show(),
            list_processes=self._processes.rows,
            set_log_level=self._set_log_level,
            reloading=self._reloading,
            saving=self._saving,
        )

    def _name_phase(self) -> str:
        """`running`, `draining`, or how far the end has come."""
        phase = self._shutdown.phase
        return "draining" if phase is Phase.RUNNING and self._draining.is_on else phase.value

    def _set_log_level(self, level: str) -> None:
        """As with another log, children have it from now on."""
        self._hooks.set_log_level(level)
        self._nursing.follow_log(level)

    # -- a changed configuration

    def _hang_up(self) -> None:
        if self._hooks.has_hung_up():
            self._logger.info("the terminal is gone")
            self._shutdown.ask()
        elif self._reloading is not None and self._shutdown.phase is Phase.RUNNING:
            self._reloading.ask()

    def _adopt(self, plan: Plan) -> None:
        were_proven = self._admission.has_users
        self._draining.end()
        self._admission.adopt(plan.admission)
        if self._admission.has_users:
            self._clients.expel(were_proven=were_proven)
        self._clients.entitle(plan.permissions)
        self._router.adopt(plan.routing)
        self._shutdown.adopt(plan.shutdown_timeout_s)
        if plan.renews_children:
            self._nursing.equip(plan.equipment)
        if self._shutdown.phase is Phase.RUNNING:
            self._listeners.change(plan.opened, plan.dropped)
            self._status.listen(self._listeners.names)
        else:
            for listener in plan.opened:
                self._hooks.close_listener(listener)

    # -- from the start to the end

    def _open(self) -> None:
        """The store is open, and what it has is known; or there is a nursery. With both, clients may come."""
        if self._has_begun and self._shutdown.phase is Phase.RUNNING:
            self._clients.allot()
            self._listeners.open()
            self._housekeep()
            self._hooks.ready()

    @property
    def _has_begun(self) -> bool:
        return self._keeper.has_opened and self._nursing.has_begun

    def _go_on(self) -> None:
        self._reception.go_on()

    def _finish(self, left_s: float) -> None:
        """No child is left: end all helpers, the store in so many seconds."""
        if self._metering is not None:
            self._metering.finish()
        self._nursing.finish()
        if self._saving is not None:
            self._saving.give_up()
        if self._reloading is not None:
            self._reloading.give_up()
        self._keeper.finish(left_s)

    def _end(self) -> None:
        """The store has ended."""
        self._nursing.await_end(self._loop.stop)

    def _reap(self) -> None:
        """SIGCHLD may stand for several."""
        for ended in children.reap():
            self._hooks.reaped(ended)
            self._helpers.reaped(ended)
            self._nursing.reaped(ended)
            self._hear_end(ended)

    def _hear_end(self, ended: children.Ended) -> None:
        self._clients.reaped(ended)

    def _orphan(self, pids: set[int]) -> None:
        self._clients.orphaned(pids)

    def _quiet(self, child: Client) -> None:
        self._shutdown.quiet(child)

    def _lose(self, role: Role, reason: str, status: Exit) -> None:
        """The broker can't do without this helper."""
        if self._has_begun:
            self._logger.error("%s: lost, the broker exits at once: %s", role.value, reason)
            self._exit_status = status
        else:
            self._start_error = StartError(f"the {role.value} cannot be opened: {reason}", status)
        self._loop.stop()

    def _begin_to_end(self) -> None:
        self._listeners.close()
        self._reception.close()
        self._nursing.stop()
        self._router.stop_offers()
        self._tell_fault()
        self._hooks.stopping()

    # -- time

    def _end_turn(self) -> None:
        """Once a turn: the router's time, then one gather write for each channel that something was queued for."""
        router = self._router
        if router.waiting:
            self._clients.go_on()
        if router.asked:
            self._control.heed()
        has_changed = router.tick(self._loop.now)
        if router.out:
            self._channels.dispatch(None)
        if router.culprits:
            self._clients.end_culprits()
            has_changed = True
        if router.rejected:
            self._clients.log_rejected()
        if self._shutdown.phase is not Phase.RUNNING:
            self._shutdown.go_on()
            has_changed = True
        if router.news.waiting:
            self._bulletin.publish()
        self._channels.end_turn()
        self._loop.awaits = router.awaits_commit
        if self._latencies is not None:
            self._latencies.changed(router.last_change, self._loop.now)
            self._latencies.turns.note(time.monotonic() - self._loop.now)
        if has_changed or self._was_due:
            self._was_due = False
            self._arm_deadline()

    def _arm_deadline(self) -> None:
        """See to it that there is a turn when the router wants one. One that comes earlier looks again."""
        when, armed = self._router.deadline(), self._deadline
        if when is None or (armed is not None and armed.when <= when):
            return
        if armed is not None:
            armed.cancel()
        self._deadline = self._loop.call_at(when, self._be_due)

    def _be_due(self) -> None:
        self._deadline, self._was_due = None, True

    def _housekeep(self) -> None:
        """About once a second: what need not be more exact."""
        self._clients.check()
        self._keeper.check()
        self._nursing.check()
        self._control.drop_waiting()
        self._bulletin.check()
        self._router.note_time(self._loop.now)
        self._log_notes()
        phase = self._shutdown.phase
        note = "" if phase is Phase.RUNNING else "shutting down"
        self._status.refresh(self._admission.clients, note)
        self._tell_fault()
        self._hooks.beat()
        self._loop.call_at(self._loop.now + self._interval_s, self._housekeep)

    def _tell_fault(self) -> None:
        """Let probes know whether the broker takes work."""
        is_open, refusal, _ = self._router.sights.store
        faults = find_faults(
            {
                "phase": self._name_phase(),
                "listening": self._listeners.names,
                "clients": self._admission.clients,
                "max-clients": self._admission.max_clients,
                "store": {"open": is_open, "refuses": refusal},
            }
        )
        text = "; ".join(fault.public for fault in faults)
        if text != self._told:
            self._told = text
            self._hooks.fault(text)

    def _log_notes(self) -> None:
        for note in self._router.take_notes():
            self._logger.warning("%s", note)
        for event in self._router.take_events():
            self._logger.info("%s", event)
