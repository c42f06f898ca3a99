"""Backups: one helper at a time, and whoever has asked hears what has come of it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from driven import wait_until
from parts import logger_of
from puppet import Switchboard

from forkbroker.errors import Exit
from forkbroker.parent.channels import Channels
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.helpers import Helpers
from forkbroker.parent.processes import Forge
from forkbroker.parent.saving import Saved, Saving
from forkbroker.posix import children
from forkbroker.posix.loop import Loop
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind, Role
from forkbroker.wire.receive_memory import ReceiveMemory


class Bench:
    """The backups of a parent whose helper says what the test wants; without words it waits for ever."""

    def __init__(self) -> None:
        self.loop, self.lines, self.told = Loop(), list[str](), list[Saved | str]()
        logger = logger_of(self.lines)
        channels = Channels(self.loop, Switchboard(logger), FlowPolicy(), ReceiveMemory(0))
        self.helpers = Helpers(channels, Forge(1000, lambda: ()), self._shutdown, logger)
        self.says: bytes | None = None
        self.saving = Saving(self.helpers, self._back_up, logger)

    def _shutdown(self, role: Role, reason: str, status: Exit) -> None:
        raise AssertionError(f"the broker would end: {role} {reason} {status}")

    def _back_up(self, end: socket.socket, name: str) -> int:
        if self.says is None:
            signal.pause()
        end.sendall(self.says or b"")
        return 0

    def begin(self, says: bytes | None, name: str = "copy") -> bool:
        self.says = says
        return self.saving.begin(name, self.told.append)

    def finish(self, condition: Any) -> None:
        """Turn, and reap, until it is true."""

        def turn() -> bool:
            self.loop.call_at(self.loop.now, lambda: None)
            self.loop.turn()
            for ended in children.reap():
                self.helpers.reaped(ended)
            return bool(condition())

        wait_until(turn, "the end of a backup")


@pytest.fixture
def bench() -> Iterator[Bench]:
    """One bench; its helper is gone with the test."""
    one = Bench()
    yield one
    one.helpers.kill(Role.BACKUP)
    one.finish(lambda: one.helpers.find(Role.BACKUP) is None)
    one.loop.close()


def test_what_was_saved_is_told_and_logged(bench: Bench) -> None:
    """After the helper has ended; then there may be another one."""
    for count in (1, 2):
        assert bench.begin(b"".join(pack(Kind.SAVED, number=7, serial=8192, block=b"/d/c\xff\n")))
        bench.finish(lambda count=count: len(bench.told) == count)

    assert bench.told == [Saved("/d/c\udcff\n", 7, 8192)] * 2
    assert bench.lines[0] == "backup: /d/c\\udcff\\x0a written, 7 messages, 8192 bytes"


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"".join(pack(Kind.FAILED, token=Exit.IOERR, block=b"no room")), "no room"),
        (b"", "the process that makes it crashed"),
        (b"".join(pack(Kind.SAVED, count=1)), "the process that makes it crashed"),
    ],
)
def test_why_there_is_none_is_told_and_logged(bench: Bench, says: bytes, reason: str) -> None:
    """A lie is as good as nothing."""
    bench.begin(says)
    bench.finish(lambda: bench.told)

    assert bench.told == [reason]
    assert bench.lines[-1] == f"backup: copy not written, {reason}"


def test_one_at_a_time_and_none_beyond_the_end_of_the_broker(bench: Bench) -> None:
    """The one that runs is killed then."""
    assert bench.begin(None)
    assert not bench.begin(None, "second")
    bench.saving.give_up()
    bench.finish(lambda: bench.told)

    assert bench.told == ["the broker ends"]
    bench.saving.give_up()
