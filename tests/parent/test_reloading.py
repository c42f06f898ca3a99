"""A changed configuration: one checker at a time, and what it finds is taken over as a whole, or not at all."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from driven import wait_until
from parts import logger_of
from puppet import Switchboard

from forkbroker.errors import Exit, StartError
from forkbroker.parent.admission import AdmissionPolicy
from forkbroker.parent.channels import Channels
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.helpers import Helpers
from forkbroker.parent.processes import Forge
from forkbroker.parent.reloading import PATIENCE_S, Plan, Reload, Reloading
from forkbroker.permissions import Permissions
from forkbroker.posix import children
from forkbroker.posix.loop import Loop
from forkbroker.routing.queues.policies import Policy
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind, Role
from forkbroker.wire.receive_memory import ReceiveMemory

PLAN = Plan(
    admission=AdmissionPolicy(),
    routing=Policy(),
    permissions=Permissions(),
    shutdown_timeout_s=1.0,
    renews_children=False,
    equipment=b"",
    opened=(),
    dropped=(),
    summary="at once: prefetch",
)


class Bench:
    """The reloads of a parent whose checker does what the test says."""

    def __init__(self) -> None:
        self.loop, self.lines, self.happened = Loop(), list[str](), list[str]()
        logger = logger_of(self.lines)
        channels = Channels(self.loop, Switchboard(logger), FlowPolicy(), ReceiveMemory(0))
        self.helpers = Helpers(channels, Forge(1000, lambda: ()), self._shutdown, logger)
        self.says: list[bytes] = [b"".join(pack(Kind.CHECKED, block=b"found"))]
        self.hangs = False
        """A checker has no end, whatever it has said."""
        self.error: StartError | None = None
        reload = Reload(
            check=self._check,
            rehearse=self._rehearse,
            prepare=self._prepare,
            begun=lambda: self.happened.append("begun"),
            ended=lambda: self.happened.append("ended"),
        )
        self.reloading = Reloading(channels, self.helpers, reload, self._adopt, logger)

    def _shutdown(self, role: Role, reason: str, status: Exit) -> None:
        raise AssertionError(f"the broker would end: {role} {reason} {status}")

    def _check(self, end: socket.socket) -> int:
        if not self.says:
            signal.pause()
        end.sendall(b"".join(self.says))
        if self.hangs:
            signal.pause()
        return 0

    def _rehearse(self, end: socket.socket) -> int:
        if self.hangs:
            signal.pause()
        end.sendall(b"".join(pack(Kind.CHECKED, block=b"at once: prefetch")))
        return 0

    def _prepare(self, found: bytes) -> Plan:
        self.happened.append(f"prepared {found.decode()}")
        if self.error is not None:
            raise self.error
        return PLAN

    def _adopt(self, plan: Plan) -> None:
        assert plan is PLAN
        self.happened.append("adopted")

    def run_until(self, condition: Any, what: str) -> None:
        """Turn, and reap, until it is true."""

        def turn() -> bool:
            self.loop.call_at(self.loop.now, lambda: None)
            self.loop.turn()
            for ended in children.reap():
                self.helpers.reaped(ended)
            return bool(condition())

        wait_until(turn, what)

    def finish(self, times: int = 1) -> None:
        """Turn until so many reloads have ended."""
        self.run_until(lambda: self.happened.count("ended") == times, "the end of a reload")


@pytest.fixture
def bench() -> Iterator[Bench]:
    """One bench; its checker is gone with the test."""
    one = Bench()
    yield one
    if one.helpers.find(Role.CHECKER) is not None:
        one.helpers.kill(Role.CHECKER)
        one.run_until(lambda: one.helpers.find(Role.CHECKER) is None, "the checker's end")
    one.loop.close()


def test_what_the_checker_has_found_is_taken_over(bench: Bench) -> None:
    """And said, after it has ended."""
    bench.reloading.ask()
    assert bench.happened == ["begun"]
    bench.finish()

    assert bench.happened == ["begun", "prepared found", "adopted", "ended"]
    assert bench.lines == ["reload: done, at once: prefetch"]
    assert bench.helpers.find(Role.CHECKER) is None


def test_a_mistake_that_the_checker_finds_changes_nothing(bench: Bench) -> None:
    """The reason is the checker's."""
    bench.says = [b"".join(pack(Kind.FAILED, token=Exit.CONFIG, block=b"f.toml, line 1: x: unknown key"))]
    bench.reloading.ask()
    bench.finish()

    assert bench.happened == ["begun", "ended"]
    assert bench.lines == ["reload: nothing has changed, f.toml, line 1: x: unknown key"]


def test_what_cannot_be_opened_changes_nothing(bench: Bench) -> None:
    """The plan could not be made."""
    bench.error = StartError("127.0.0.1:1: address in use", Exit.UNAVAILABLE)
    bench.reloading.ask()
    bench.finish()

    assert bench.happened == ["begun", "prepared found", "ended"]
    assert bench.lines == ["reload: nothing has changed, 127.0.0.1:1: address in use"]


def test_a_checker_that_says_nothing_changes_nothing(bench: Bench) -> None:
    """It has crashed."""
    bench.says = [b""]
    bench.reloading.ask()
    bench.finish()

    assert bench.lines == ["reload: nothing has changed, the process that reads the configuration crashed"]


def test_a_checker_that_lies_is_killed_and_changes_nothing(bench: Bench) -> None:
    """A field that CHECKED has not."""
    bench.says = [b"".join(pack(Kind.CHECKED, number=7, block=b"found"))]
    bench.reloading.ask()
    bench.finish()

    assert "adopted" not in bench.happened
    assert bench.lines[0].startswith("checker: killed, sent an invalid envelope: ")
    assert bench.lines[1].startswith("reload: nothing has changed, ")


def test_a_disk_that_does_not_answer_is_not_waited_for_for_ever(bench: Bench) -> None:
    """The checker is killed, and the reason says why; the next reload finds another one."""
    bench.says = []
    bench.reloading.ask()
    bench.loop.now += PATIENCE_S
    bench.loop._call_due()
    bench.finish()
    bench.says = [b"".join(pack(Kind.CHECKED, block=b"found"))]
    bench.reloading.ask()
    bench.finish(2)

    assert bench.lines == [
        "reload: nothing has changed, the configuration could not be read within 30 s",
        "reload: done, at once: prefetch",
    ]


@pytest.mark.parametrize("has_found", [False, True])
def test_the_end_of_the_broker_ends_the_checker(bench: Bench, has_found: bool) -> None:
    """It may wait for a name service; what it has found is not taken over, and nothing more is read."""
    told: list[tuple[bool, str]] = []
    bench.hangs = True
    if not has_found:
        bench.says = []
    bench.reloading.ask(lambda done, text: told.append((done, text)))
    bench.reloading.ask()
    if has_found:
        bench.run_until(lambda: bench.reloading._found, "what was found")
    bench.reloading.give_up()
    bench.run_until(lambda: told and bench.helpers.find(Role.CHECKER) is None, "the end of the checker")
    for _ in range(3):
        bench.run_until(lambda: True, "a turn")

    assert told == [(False, "the broker ends")]
    assert bench.happened == ["begun", "ended"]


def test_several_wishes_during_a_reload_are_one_behind_it(bench: Bench) -> None:
    """The file may have changed since it was read."""
    for _ in range(3):
        bench.reloading.ask()
    bench.finish(2)
    for _ in range(3):
        bench.run_until(lambda: True, "a turn")

    assert bench.happened.count("begun") == 2
    assert bench.happened.count("adopted") == 2


def test_a_trial_changes_nothing_and_waits_for_its_turn(bench: Bench) -> None:
    """Reloads come first; neither the log nor the service manager hears of a trial."""
    told: list[tuple[str, bool, str]] = []
    bench.reloading.ask(lambda done, text: told.append(("first", done, text)))
    bench.reloading.try_out(lambda done, text: told.append(("trial", done, text)))
    bench.reloading.try_out(lambda done, text: told.append(("another", done, text)))
    bench.reloading.ask(lambda done, text: told.append(("second", done, text)))
    bench.run_until(lambda: len(told) == 4, "all answers")

    text = "at once: prefetch"
    assert told == [("first", True, text), ("second", True, text), ("trial", True, text), ("another", True, text)]
    assert bench.happened.count("begun") == bench.happened.count("adopted") == bench.happened.count("ended") == 2
    assert bench.lines == ["reload: done, at once: prefetch"] * 2


def test_a_trial_that_fails_is_told_to_who_has_asked(bench: Bench) -> None:
    """Not to the log: nothing was to change."""
    told: list[tuple[bool, str]] = []
    bench.hangs = True
    bench.reloading.try_out(lambda done, text: told.append((done, text)))
    bench.helpers.kill(Role.CHECKER)
    bench.run_until(lambda: told, "the answer")

    assert told == [(False, "the process that reads the configuration crashed")]
    assert (bench.happened, bench.lines) == ([], [])
