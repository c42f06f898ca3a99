"""Two processes: one that runs programs, and one that starts it anew.

A program that verifies logins may need rights that the broker gives up at its start: to read /etc/shadow, for one. So
these processes are forked before that. With `--authenticator-user` they keep the rights of the start, and each run of
the program becomes that user; without, they become the broker's user as everybody else.

The *guard* does nothing but wait for the *runner*, which it kills if that leaves requests lying. If the runner has
died, the guard ends the programs that it has left (`forkbroker.authenticator.groups`), and forks another one: the
parent process could not, as it has no rights to give.
The runner reads no request: it hands the octets to a program, and gives its output back (`forkbroker.wire.logins`).
Which program that is was said at the start, and nothing that a client's process can send changes it.

A program has `TIMEOUT_S`. Then SIGALRM ends it, which it may heed; and a moment later SIGKILL, with all that it has
started and that is in its group still. At most `RUNNING` of them run; what else is asked for waits in the kernel. When
the broker has ended, both processes do, and what they have started.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from forkbroker.authenticator.groups import Groups, kill_group
from forkbroker.errors import Exit
from forkbroker.posix import children
from forkbroker.posix.exits import describe
from forkbroker.posix.privileges import SystemUser, drop
from forkbroker.posix.signals import ALL_SIGNALS
from forkbroker.posix.titles import set_title
from forkbroker.wire import logins

log = logging.getLogger(__name__)

TIMEOUT_S = 5
RUNNING = 16
"""Programs at one time."""
_GRACE_S = 1.0
_LOOK_S = 0.01
"""Between two looks whether a program has ended: one takes longer than that by far."""
_CHECK_S, _SILENT_CHECKS = 4.0, 2
"""A runner that takes no request in so many checks, though one waits, is stopped or stuck. Clients wait for 15 s."""
_AGAIN_S, _AGAIN_MAX_S, _STEADY_S = 0.1, 5.0, 10.0
_CANNOT_RUN = 127


@dataclass(frozen=True, slots=True)
class Task:
    """What is run, for whom, and until when."""

    path: Path
    system_user: SystemUser | None
    """Whom the program becomes; None: it has the rights of these processes."""
    link: socket.socket
    """Where requests come from."""
    lifeline: int
    """It ends with the broker."""
    kept: tuple[int, ...] = ()
    """Descriptors of the log."""
    timeout_s: int = TIMEOUT_S


def guard(task: Task) -> int:
    """Have a runner, for as long as there is a broker; the exit status."""
    set_title("authenticator, guard")
    again_s = _AGAIN_S
    groups = Groups(RUNNING)
    while True:
        began = time.monotonic()
        try:
            status = _have_runner(task, groups)
            how = describe(status)
        except OSError as error:
            status, how = -1, f"cannot fork its process: {error.strerror}"
        if status != 0:
            groups.kill_all()
        if status == 0 or _is_readable(task.lifeline, 0.0):
            return Exit.OK
        if time.monotonic() - began > _STEADY_S:
            again_s = _AGAIN_S
        log.error("authenticator: exited, %s; restarting in %.1f s", how, again_s)
        if _is_readable(task.lifeline, again_s):
            return Exit.OK
        again_s = min(_AGAIN_MAX_S, 2 * again_s)


def _have_runner(task: Task, groups: Groups) -> int:
    """Fork a runner, and wait for its end; its wait status. With the broker it ends by itself, or is killed.

    Raises:
        OSError: no descriptors, no memory or no process to be had.
    """
    ours, theirs = os.pipe()
    try:
        # it ends with the runner, as the lifeline does with the broker: both can be waited for together
        kept = (task.link.fileno(), task.lifeline, theirs, *task.kept)
        pid = children.fork(lambda: Runner(task, groups).run(), kept)
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    if not _await_runner(pid, ours, task, groups) and not _is_readable(ours, _GRACE_S):
        # the broker has ended; the runner is stopped, for one
        children.kill(pid)
    os.close(ours)
    return os.waitpid(pid, 0)[1]


def _await_runner(pid: int, end: int, task: Task, groups: Groups) -> bool:
    """Wait until the runner has ended, whose `end` can be read then; False: the broker has.

    A runner that is stuck is killed.
    """
    poll = select.poll()
    poll.register(end, select.POLLIN)
    poll.register(task.lifeline, select.POLLIN)
    silent_checks = 0
    while True:
        turns = groups.turns
        ready = dict(poll.poll(_CHECK_S * 1000))
        if ready:
            return end in ready
        is_stuck = groups.turns == turns and _is_readable(task.link.fileno(), 0.0)
        silent_checks = silent_checks + 1 if is_stuck else 0
        if silent_checks == _SILENT_CHECKS:
            log.warning("authenticator: killed, has taken no request for %.0f s", _SILENT_CHECKS * _CHECK_S)
            children.kill(pid)


def _is_readable(fd: int, within_s: float) -> bool:
    """Whether something can be read there, or its end, now or within this time."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(within_s * 1000))


@dataclass(slots=True)
class _Run:
    place: int
    answer: int
    until: float
    """It is killed then."""


class Runner:
    """Runs programs."""

    def __init__(self, task: Task, groups: Groups) -> None:
        """`groups`: where its programs are noted, for whoever has to end them in its stead."""
        self._task = task
        self._groups = groups
        self._runs: dict[int, _Run] = {}
        """By the numbers of the processes, which are also those of their groups."""

    def run(self) -> int:
        """Until the broker has ended; the exit status."""
        set_title("authenticator")
        task = self._task
        poll = select.poll()
        poll.register(task.lifeline, select.POLLIN)
        while True:
            self._groups.note_turn()
            if len(self._runs) < RUNNING:
                poll.register(task.link, select.POLLIN)
            else:
                with suppress(KeyError):
                    poll.unregister(task.link)
            ready = {fd for fd, _ in poll.poll(_LOOK_S * 1000 if self._runs else None)}
            if task.lifeline in ready:
                self._kill_all()
                return Exit.OK
            if task.link.fileno() in ready:
                self._start()
            self._look(time.monotonic())

    def _start(self) -> None:
        found = logins.receive(self._task.link)
        if found is None:
            return
        request, answer = found
        place = self._groups.take_place()
        try:
            pid = self._fork(request, answer, place)
        except OSError as error:
            self._groups.give_back(place)
            log.error("authenticator: cannot run %s: %s", self._task.path, error.strerror)
            os.close(answer)
            return
        self._runs[pid] = _Run(place, answer, time.monotonic() + self._task.timeout_s + _GRACE_S)

    def _fork(self, request: bytes, answer: int, place: int) -> int:
        theirs, ours = os.pipe()
        runner = os.getpid()
        try:
            pid = os.fork()
            if not pid:
                try:
                    if self._groups.enter(place, runner):
                        _become(self._task, theirs, answer)
                finally:
                    os._exit(_CANNOT_RUN)
        finally:
            os.close(theirs)
        with os.fdopen(ours, "wb", buffering=0) as pipe, suppress(BrokenPipeError):
            pipe.write(request)
        return pid

    def _look(self, now: float) -> None:
        """See which have ended, and end those that take too long."""
        for pid, run in list(self._runs.items()):
            is_late = now >= run.until
            if is_late:
                _kill(pid)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                # whatever it has started is not to outlive it
                kill_group(pid)
                self._groups.give_back(run.place)
                logins.tell_end(run.answer, int(signal.SIGALRM) if is_late else status)
                os.close(run.answer)
                del self._runs[pid]

    def _kill_all(self) -> None:
        for pid in self._runs:
            _kill(pid)


def _kill(pid: int) -> None:
    """End a program that was not reaped, with its group. It may not have one yet."""
    kill_group(pid)
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _become(task: Task, standard_input: int, standard_output: int) -> None:
    """Be the program, in the process that was forked for it. Returns, or raises, only if that can't be."""
    os.dup2(standard_input, 0)
    os.dup2(standard_output, 1)
    os.set_blocking(1, True)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.closerange(3, 1024)
    for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    if task.system_user is not None:
        drop(task.system_user)
    signal.alarm(task.timeout_s)  # outlives execve(2)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL_SIGNALS)
    os.chdir("/")
    os.execve(task.path, [str(task.path)], {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
