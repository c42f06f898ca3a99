"""Completion, as a shell does it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.rawclient import connect

from forkbroker.ctl.completion import SHELLS
from forkbroker.ctl.main import COMMANDS, CONNECTING, make_parser
from forkbroker.testing.broker import RunningBroker

ROOT = Path(__file__).parents[2]


def script(shell: str) -> str:
    return "".join(f"{line}\n" for line in SHELLS[shell]())


def complete(*words: str, path: str = "", url: str = "localhost:1") -> list[str]:
    """What bash offers for the last of these words."""
    quoted = " ".join(f"'{word}'" for word in ("stomp-brokerctl", *words))
    line = f'COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _stomp_brokerctl; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-c", f"{script('bash')}\n{line}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "FORKBROKER_URL": url},
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="install bash")
def test_bash_offers_verbs_options_and_words() -> None:
    """Those of the tables."""
    assert complete("sch") == ["schedule", "schedule-run", "schedule-cancel"]
    assert complete("retry", "--re") == ["--reason"]
    assert complete("retry", "--reason", "de") == ["deliveries"]
    assert complete("log-level", "w") == ["warning"]
    assert complete("who", "--url", "x") == []
    assert complete("queues", "--filter", "st") == ["stuck"]
    assert complete("--ur") == ["--url"]
    assert complete("user", "l") == ["leave", "list"]
    assert complete("user", "--users", "F", "a") == ["add"]
    assert complete("user", "add", "--g") == ["--group"]
    assert complete("user", "add", "--group", "x") == []
    assert complete("can", "alice", "re") == ["read"]
    assert complete("install-service", "--f") == ["--force"]
    assert complete("--url", "x") == []
    assert complete("--url", "x", "--json", "sch") == ["schedule", "schedule-run", "schedule-cancel"]
    assert complete("--timeout", "5", "log-level", "w") == ["warning"]
    assert set(complete("kick", "--")) == {"--reason", "--dry-run", *(param.name for param in CONNECTING)}


@pytest.mark.skipif(shutil.which("bash") is None, reason="install bash")
def test_bash_offers_queues_of_the_broker_and_runs_none(tmp_path: Path) -> None:
    """The names are chosen by clients: one that is a command is not offered, and not carried out."""
    (tmp_path / "stomp-brokerctl").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/bin/stomp-brokerctl" "$@"\n')
    (tmp_path / "stomp-brokerctl").chmod(0o755)
    trap = tmp_path / "trapped"
    with RunningBroker() as broker, connect(broker.port) as client:
        client.publish("/queue/orders", "1")
        client.publish(f"/queue/$(touch${{IFS}}{trap})", "1")
        found = complete("purge", "/q", path=str(tmp_path), url=f"localhost:{broker.port}")

    assert found == ["/queue/orders"]
    assert not trap.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_read_its_script(shell: str, tmp_path: Path) -> None:
    """Every verb and option is in it."""
    text = script(shell)
    for command in COMMANDS:
        assert command.name in text
    if shutil.which(shell) is not None:
        (tmp_path / "script").write_text(text)
        done = subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_verbs_of_completion_are_those_of_the_command() -> None:
    """Those that ask no broker, too."""
    text = make_parser().format_help()
    for line in script("fish").split("\n"):
        if "__fish_use_subcommand -a" in line:
            assert f" {line.split(' -a ')[1].split()[0]} " in text.replace("\n", " ")
