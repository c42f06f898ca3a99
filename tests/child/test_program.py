"""A program that says who a client is."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.deadline import stretched, wait_until

from forkbroker.authenticator import process
from forkbroker.authenticator.groups import Groups
from forkbroker.authenticator.process import RUNNING, TIMEOUT_S, Task, guard
from forkbroker.child.program import Program
from forkbroker.identity import Credentials, Identity, Unclear, Way
from forkbroker.posix import children
from forkbroker.posix.places import Places
from forkbroker.wire.logins import MAX_REQUEST, make_link, split
from forkbroker.wire.logins import ask as ask_helper

ALICE = Credentials("alice", "s3cret\n")


def script(directory: Path, text: str) -> Path:
    path = directory / "authenticator"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@contextmanager
def helper(path: Path, timeout_s: int = TIMEOUT_S) -> Iterator[socket.socket]:
    """The helper of a broker that runs this program, while it lasts: the way to it."""
    link, theirs = make_link()
    lifeline, end = os.pipe()
    task = Task(path, None, theirs, lifeline, timeout_s=timeout_s)
    pid = children.fork(lambda: guard(task), (theirs.fileno(), lifeline))
    theirs.close()
    os.close(lifeline)
    try:
        yield link
    finally:
        os.close(end)
        assert os.waitpid(pid, 0)[1] == 0
        link.close()


def ask_by(link: socket.socket, credentials: Credentials, places: Places) -> Identity | str:
    """Ask until there is an answer, as a client's process does."""
    made = Program("the program", link, places)
    give_up = time.monotonic() + stretched(30.0)
    while (answer := made.verify(credentials, "192.0.2.1:4")) is None:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    return answer


def ask(
    path: Path, credentials: Credentials = ALICE, places: Places | None = None, timeout_s: int = TIMEOUT_S
) -> Identity | str:
    """The answer of this program."""
    own = places or Places(1)
    try:
        with helper(path, timeout_s) as link:
            return ask_by(link, credentials, own)
    finally:
        if places is None:
            own.close()


def test_it_gets_one_object_and_answers_with_one(tmp_path: Path) -> None:
    """The user is the login unless it says otherwise."""
    heard = tmp_path / "heard"
    path = script(tmp_path, f'cat > {heard}; echo \'{{"groups": ["g"], "lasts": 60}}\'')

    assert ask(path) == Identity("alice", Way.PROGRAM, ("g",), lasts_s=60.0)
    assert json.loads(heard.read_text()) == {"login": "alice", "passcode": "s3cret\n", "address": "192.0.2.1:4"}
    assert ask(script(tmp_path, "exit 0")) == Identity("alice", Way.PROGRAM)
    assert ask(script(tmp_path, 'echo \'{"user": "bob"}\'')) == Identity("bob", Way.PROGRAM)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 1", "the program says no"),
        ('echo \'{"reason": "locked"}\'; exit 1', "locked"),
        ("exit 2", "failed, ended with exit status 2"),
        ("kill -9 $$", "failed, ended with signal SIGKILL"),
        ("echo nonsense", "failed, its answer cannot be used"),
        ("echo '[]'", "failed, its answer cannot be used"),
        ("echo '{\"user\": 7}'", "failed, its answer cannot be used"),
        ('echo \'{"user": "a:b"}\'', "failed, its answer cannot be used"),
        ("echo '{\"groups\": 7}'", "failed, its answer cannot be used"),
        ('echo \'{"groups": "workers"}\'', "failed, its answer cannot be used: groups must be a list of texts"),
        ('echo \'{"lasts": "x"}\'', "failed, its answer cannot be used"),
        ("head -c 200000 /dev/zero", "failed, its answer cannot be used"),
    ],
)
def test_whatever_else_it_does_lets_nobody_in(tmp_path: Path, text: str, said: str) -> None:
    """The log has the reason."""
    answer = ask(script(tmp_path, text))

    assert isinstance(answer, str)
    assert said in answer
    assert isinstance(answer, Unclear) == answer.startswith("the program failed, ")


@pytest.mark.parametrize(
    "text", ["exec sleep 60", "trap '' ALRM; while :; do sleep 60; done", "sleep 60 & exec sleep 60"]
)
def test_it_has_so_much_time_and_no_more(tmp_path: Path, text: str) -> None:
    """The kernel ends it, or the helper if it does not heed that; what it has started ends with it."""
    pids = tmp_path / "pids"
    began = time.monotonic()

    assert "took too long" in str(ask(script(tmp_path, f"echo $$ > {pids}; {text}"), timeout_s=1))
    assert time.monotonic() - began < stretched(20.0)
    group = int(pids.read_text())
    wait_until(lambda: not _has_members(group), "the end of all that the program has started")


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_it_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    """Its answer does not wait for that."""
    pids = tmp_path / "pids"

    assert ask(script(tmp_path, f"echo $$ > {pids}; sleep 60 & exit 0")) == Identity("alice", Way.PROGRAM)
    group = int(pids.read_text())
    wait_until(lambda: not _has_members(group), "the end of all that the program has started")


def test_it_inherits_nothing_but_its_streams(tmp_path: Path) -> None:
    """And signals do what they do."""
    heard = tmp_path / "heard"
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    with (tmp_path / "inheritable").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        ask(script(tmp_path, f"exec > {heard}; ls -l /proc/$$/fd; env; exec grep SigBlk /proc/self/status"))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    text = heard.read_text()

    assert "/dev/null" in text
    assert "inheritable" not in text
    assert "SigBlk:\t0000000000000000" in text
    assert "HOME" not in text


def test_only_so_many_are_asked_for_at_a_time(tmp_path: Path) -> None:
    """Who has no place asks again; in another process, as places are those of processes."""
    places, path = Places(1), script(tmp_path, "exit 0")
    assert places.try_take()
    with helper(path) as link:
        pid = os.fork()
        if not pid:
            os._exit(0 if Program("the program", link, places).verify(ALICE, "") is None else 1)
        assert os.waitpid(pid, 0)[1] == 0
        places.give_back()
        assert isinstance(ask_by(link, ALICE, places), Identity)
    assert places.try_take()
    places.close()


def test_only_so_many_run_at_a_time(tmp_path: Path) -> None:
    """Whoever asks, and however often: others wait until one has ended."""
    running, counts = tmp_path / "running", tmp_path / "counts"
    running.mkdir()
    path = script(
        tmp_path,
        f"touch {running}/$$; ls {running} | wc -l >> {counts}\n"
        f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; rm {running}/$$",
    )
    with helper(path) as link:
        answers: list[int] = []
        while len(answers) < RUNNING + 4:
            with suppress(BlockingIOError):
                answers.append(ask_helper(link, b"{}"))
        wait_until(lambda: len(list(running.iterdir())) >= RUNNING, "programs")
        (tmp_path / "go").touch()
        for answer in answers:
            os.set_blocking(answer, True)
            assert split(os.read(answer, 100)) == (b"", 0)
            os.close(answer)
    found = [int(line) for line in counts.read_text().split()]

    assert len(found) == RUNNING + 4
    assert max(found) <= RUNNING, "fewer if the first ones end before the last one of them has counted"


def test_a_helper_that_is_killed_is_started_anew(tmp_path: Path) -> None:
    """Who has asked it learns that there is no answer; the next one gets one."""
    begun, places = tmp_path / "begun", Places(1)
    note = f"echo $PPID $$ > {begun}.new; mv {begun}.new {begun}"
    with helper(script(tmp_path, f"[ -e {begun} ] && exit 0; {note}; exec sleep 60")) as link:
        made = Program("the program", link, places)
        assert made.verify(ALICE, "") is None
        wait_until(begun.exists, "the program")
        for pid in begun.read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        answers: list[object] = []

        def hear() -> bool:
            answers.append(made.verify(ALICE, ""))
            return answers[-1] is not None

        wait_until(hear, "an answer")
        assert answers[-1] == "the program failed, the helper that runs it has ended"
        assert isinstance(ask_by(link, ALICE, places), Identity)
    places.close()


def test_a_helper_that_is_killed_leaves_no_program(tmp_path: Path) -> None:
    """Not even one that ignores that its time is over, with what it has started; the guard ends it."""
    begun, places = tmp_path / "begun", Places(1)
    text = f"trap '' ALRM TERM HUP; sleep 60 & echo $PPID $$ > {begun}.new; mv {begun}.new {begun}; wait; sleep 60"
    with helper(script(tmp_path, f"[ -e {begun} ] && exit 0; {text}")) as link:
        made = Program("the program", link, places)
        assert made.verify(ALICE, "") is None
        wait_until(begun.exists, "the program")
        runner, group = map(int, begun.read_text().split())
        os.kill(runner, signal.SIGKILL)
        wait_until(lambda: not _has_members(group), "the end of all that the program has started")
        wait_until(lambda: made.verify(ALICE, "") is not None, "an answer")
        assert isinstance(ask_by(link, ALICE, places), Identity)
    places.close()


@pytest.mark.parametrize(("dies_before", "said"), [(True, b"ends"), (False, b"begins")])
def test_a_program_that_the_guard_cannot_have_seen_does_not_begin(dies_before: bool, said: bytes) -> None:
    """Its runner was killed between the fork and its first step: it has another parent by then."""
    groups, (heard, tell), (go, end) = Groups(1), os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        runner = os.getpid()
        if not os.fork():
            while dies_before and os.getppid() == runner:
                time.sleep(0.001)
            os.write(tell, b"begins" if groups.enter(0, runner) else b"ends")
            os._exit(0)
        os.read(go, 0 if dies_before else 1)
        os._exit(0)
    assert os.read(heard, 10) == said
    os.write(end, b".")
    assert os.waitpid(pid, 0)[1] == 0
    for fd in (heard, tell, go, end):
        os.close(fd)


def test_a_helper_that_is_stopped_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed, as a request waits for it; the next one finds that in the kernel."""
    monkeypatch.setattr(process, "_CHECK_S", 0.2)
    runner, places = tmp_path / "runner", Places(1)
    with helper(script(tmp_path, f"echo $PPID > {runner}")) as link:
        assert isinstance(ask_by(link, ALICE, places), Identity)
        first = int(runner.read_text())
        os.kill(first, signal.SIGSTOP)
        assert isinstance(ask_by(link, ALICE, places), Identity)
        assert int(runner.read_text()) != first
    places.close()


def test_a_helper_that_is_stopped_ends_with_the_broker(tmp_path: Path) -> None:
    """It is killed, and what it has started as well: `helper` waits for the guard."""
    begun, places = tmp_path / "begun", Places(1)
    text = f"trap '' ALRM; echo $PPID $$ > {begun}.new; mv {begun}.new {begun}; sleep 60"
    with helper(script(tmp_path, text)) as link:
        made = Program("the program", link, places)
        assert made.verify(ALICE, "") is None
        wait_until(begun.exists, "the program")
        runner, group = map(int, begun.read_text().split())
        os.kill(runner, signal.SIGSTOP)
    wait_until(lambda: not _has_members(group), "the end of all that the program has started")
    with pytest.raises(ProcessLookupError):
        os.kill(runner, 0)
    wait_until(lambda: made.verify(ALICE, "") is not None, "an answer")
    places.close()


def test_a_request_that_is_none_is_passed_over(tmp_path: Path) -> None:
    """What a process of a client can send harms nobody: no descriptor, too long, and empty."""
    places = Places(1)
    with helper(script(tmp_path, "exit 0")) as link:
        for octets in (b"", b"{}", b"x" * (MAX_REQUEST + 1)):
            link.send(octets)
        answer = ask_helper(link, b"x" * (MAX_REQUEST + 1))
        os.set_blocking(answer, True)
        assert os.read(answer, 100) == b""
        os.close(answer)
        assert isinstance(ask_by(link, ALICE, places), Identity)
    places.close()


def test_what_cannot_be_run_or_asked_is_told(tmp_path: Path) -> None:
    """With the program's name."""
    assert ask(tmp_path / "none") == "the program failed, ended with exit status 127"
    long = Credentials("a", "x" * 9000)
    assert "longer than 8,192 bytes" in str(ask(script(tmp_path, "exit 0"), long))
