"""The start scripts, run for real with a real broker in a directory of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from forkbroker.posix.pidfile import find_holder

ROOT = Path(__file__).parents[2]
INIT = ROOT / "etc" / "init.d" / "stomp-broker"
RC = ROOT / "etc" / "rc.d" / "stomp_broker"

Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Path]:
    """A program stomp-broker for the scripts; whatever it has started is ended."""
    program = tmp_path / "stomp-broker"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m forkbroker "$@"\n')
    program.chmod(0o755)
    yield program
    with suppress(FileNotFoundError):
        if holder := find_holder(tmp_path / "pid"):
            os.kill(holder, signal.SIGKILL)


@pytest.fixture
def script(daemon: Path, tmp_path: Path) -> Script:
    """The LSB script, with its settings in the environment."""
    options = f"--listen unix:{tmp_path}/socket --log-file {tmp_path}/log"
    settings = {
        "DAEMON": str(daemon),
        "PIDFILE": f"{tmp_path}/pid",
        "OPTIONS": options,
        "RUN_AS": "",
        "DEFAULTS": f"{tmp_path}/none",
    }
    settings["STATE_DIRECTORY"] = f"{tmp_path}/state"

    def run(verb: str, *, prefix: Sequence[str] = (), **more: str) -> subprocess.CompletedProcess[str]:
        # Into files: a pipe would be inherited by the daemon, and its end be waited for.
        with (tmp_path / "out").open("w+") as out:
            ended = subprocess.run(
                [*prefix, "sh", str(INIT), verb],
                env={**os.environ, **settings, **more},
                stdout=out,
                stderr=out,
                timeout=60,
            )
            out.seek(0)
            return subprocess.CompletedProcess(ended.args, ended.returncode, out.read(), "")

    return run


def test_it_starts_tells_reloads_restarts_and_stops(script: Script, tmp_path: Path) -> None:
    """With the exit codes of the LSB."""
    assert script("status").returncode == 3
    assert script("start").returncode == 0
    first = (tmp_path / "pid").read_text()
    assert script("status").returncode == 0
    assert script("start").returncode == 0
    assert (tmp_path / "pid").read_text() == first
    assert script("reload").returncode == 0
    assert script("force-reload").returncode == 0
    assert script("restart").returncode == 0
    assert (tmp_path / "pid").read_text() != first
    assert script("try-restart").returncode == 0
    assert script("stop").returncode == 0
    assert script("status").returncode == 3
    assert script("stop").returncode == 0
    assert script("try-restart").returncode == 0
    assert script("status").returncode == 3


def test_what_goes_wrong_is_told(script: Script, tmp_path: Path) -> None:
    """Dead with a pidfile, nothing to reload, not installed, not a verb, a bad option."""
    (tmp_path / "pid").write_text("999999999\n")

    assert script("status").returncode == 1
    assert script("reload").returncode == 7
    assert script("start", DAEMON="/nowhere/stomp-broker").returncode == 5
    assert script("dance").returncode == 2
    failed = script("start", OPTIONS="--listen nonsense")
    assert failed.returncode == 1
    assert "nonsense" in failed.stdout
    assert script("start").returncode == 0
    assert script("stop").returncode == 0


def test_the_number_of_a_stranger_is_neither_signalled_nor_taken_for_a_broker(script: Script, tmp_path: Path) -> None:
    """A killed broker has left it in its pidfile, and another program has it now."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        for verb, code in (("status", 1), ("reload", 7), ("stop", 0), ("status", 3), ("try-restart", 0)):
            if verb != "status" or code != 3:
                (tmp_path / "pid").write_text(f"{stranger.pid}\n")
            assert script(verb).returncode == code, verb
        assert stranger.poll() is None
        stranger.kill()


def test_options_are_quoted_as_for_a_shell(script: Script, tmp_path: Path) -> None:
    """A policy has spaces, and characters that a shell would replace by names of files."""
    options = f"--listen unix:{tmp_path}/socket --log-file {tmp_path}/log --policy '/queue/m.* lease=2min full=refuse'"

    assert script("start", OPTIONS=options).returncode == 0
    assert script("stop").returncode == 0


AS_SOMEBODY = ["setpriv", "--reuid", "12345", "--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
"""Another user, who can read the files of the interpreter wherever they are."""


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="needs root, and setpriv")
def test_another_user_gets_true_answers_and_changes_nothing(script: Script, tmp_path: Path) -> None:
    """Running is running; what is not permitted is 4."""
    assert script("start").returncode == 0
    number = (tmp_path / "pid").read_text()
    for verb, code in (("status", 0), ("start", 0), ("reload", 4), ("stop", 4), ("restart", 4), ("force-reload", 4)):
        assert (verb, script(verb, prefix=AS_SOMEBODY).returncode) == (verb, code)
    assert script("status").stdout == f"stomp-broker is running, process {number}"
    assert script("stop").returncode == 0
    assert script("start", prefix=AS_SOMEBODY, RUN_AS="stomp-broker").returncode == 4
    assert script("status", prefix=AS_SOMEBODY).returncode == 3


RC_SUBR = """
load_rc_config() { :; }
wait_for_pids() { while kill -0 "$1" 2>/dev/null; do sleep 0.1; done; }
run_rc_command() {
    eval "own=\\${${1}_cmd:-}"
    if [ -n "$own" ]; then $own; else $command $command_args $stomp_broker_flags; fi
}
"""


@pytest.mark.skipif(shutil.which("ps") is None, reason="install procps")
def test_the_freebsd_script_does_the_same(daemon: Path, tmp_path: Path) -> None:
    """With rc.subr's part played by the few lines above."""
    (tmp_path / "rc.subr").write_text(RC_SUBR)
    text = RC.read_text().replace("/etc/rc.subr", str(tmp_path / "rc.subr"))
    text = text.replace("/usr/local/bin/stomp-broker", str(daemon)).replace("--syslog --user $stomp_broker_runas", "")
    (tmp_path / "stomp_broker").write_text(text)
    settings = {
        "stomp_broker_flags": f"--listen unix:{tmp_path}/socket --log-file {tmp_path}/log",
        "stomp_broker_pidfile": f"{tmp_path}/pid",
        "STATE_DIRECTORY": f"{tmp_path}/state",
    }

    def run(verb: str) -> int:
        with (tmp_path / "out").open("w") as out:
            command = ["sh", str(tmp_path / "stomp_broker"), verb]
            return subprocess.run(
                command, env={**os.environ, **settings}, stdout=out, stderr=out, timeout=60
            ).returncode

    assert [run(verb) for verb in ("status", "start", "status", "reload", "stop", "status")] == [1, 0, 0, 0, 0, 1]
