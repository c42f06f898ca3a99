"""A program that says who a client is."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from support.deadline import stretched

from forkbroker.child import program
from forkbroker.child.program import Program
from forkbroker.identity import Credentials, Identity, Way
from forkbroker.posix.places import Places

ALICE = Credentials("alice", "s3cret\n")


def script(directory: Path, text: str) -> Path:
    path = directory / "authenticator"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def ask(path: Path, credentials: Credentials = ALICE, places: Places | None = None) -> Identity | str:
    """Ask until there is an answer, as a client's process does."""
    own = places or Places(1)
    made = Program(path, own)
    give_up = time.monotonic() + stretched(30.0)
    try:
        while (answer := made.verify(credentials, "192.0.2.1:4")) is None:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        return answer
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
        ('echo \'{"lasts": "x"}\'', "failed, its answer cannot be used"),
        ("head -c 200000 /dev/zero", "failed, its answer cannot be used"),
    ],
)
def test_whatever_else_it_does_lets_nobody_in(tmp_path: Path, text: str, said: str) -> None:
    """The log has the reason."""
    answer = ask(script(tmp_path, text))

    assert isinstance(answer, str)
    assert said in answer


def test_it_has_so_much_time_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel ends it: also if nobody asks any more."""
    monkeypatch.setattr(program, "TIMEOUT_S", 1)
    began = time.monotonic()

    assert "took too long" in str(ask(script(tmp_path, "exec sleep 60")))
    assert time.monotonic() - began < stretched(20.0)


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


def test_only_so_many_run_at_a_time(tmp_path: Path) -> None:
    """Who has no place asks again; in another process, as places are those of processes."""
    places = Places(1)
    assert places.try_take()
    pid = os.fork()
    if not pid:
        os._exit(0 if Program(script(tmp_path, "exit 0"), places).verify(ALICE, "") is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
    places.give_back()
    assert isinstance(ask(script(tmp_path, "exit 0"), places=places), Identity)
    assert places.try_take()
    places.close()


def test_what_cannot_be_run_or_asked_is_told(tmp_path: Path) -> None:
    """With the program's name."""
    path = tmp_path / "none"
    assert ask(path) == f"{path} failed, ended with exit status 127"
    long = Credentials("a", "x" * 9000)
    assert "longer than 8,192 bytes" in str(ask(script(tmp_path, "exit 0"), long))
