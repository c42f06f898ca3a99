"""What the manual pages of the control protocol say, compared with its tables; their examples are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rawclient import RawClient

from forkbroker.control.arguments import WORDS
from forkbroker.control.verbs import VERBS
from forkbroker.ctl.main import COMMANDS, CONNECTING
from forkbroker.routing.news import EVENTS
from forkbroker.testing.broker import RunningBroker

ROOT = Path(__file__).parents[2]
PROTOCOL = (ROOT / "man" / "forkbroker-control.7").read_text()
COMMAND = (ROOT / "man" / "stomp-brokerctl.1").read_text()
README = (ROOT / "README.md").read_text()
LITERAL = re.compile(r"^\.Bd -literal.*\n((?:.*\n)*?)\.Ed", re.MULTILINE)


def parts(page: str) -> dict[str, str]:
    """The text of each verb."""
    found = re.split(r"^\.It Cm ([a-z-]+)\b", page, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_the_protocol_has_every_verb_its_right_and_its_members() -> None:
    """And no other verb."""
    section = PROTOCOL.partition(".Sh VERBS")[2].partition(".Ss Which messages")[0]
    told = parts(section)

    assert list(told) == list(VERBS)
    for verb in VERBS.values():
        assert f".Pq {verb.right}\n" in told[verb.name]
        missing = [
            one.name for one in verb.arguments if not re.search(rf"^\.Cm .*\b{one.name}\b", told[verb.name], re.M)
        ]
        assert missing == [], verb.name


def test_the_protocol_has_every_word_of_an_error() -> None:
    """With its meaning."""
    found = dict(re.findall(r"^\.It Ql ([a-z-]+)\n(.+)$", PROTOCOL.partition(".Ss Rights")[0], re.MULTILINE))

    assert found == WORDS


def test_the_protocol_has_every_event() -> None:
    """With what has happened, and no other event."""
    section = PROTOCOL.partition(".Sh TOPICS")[2].partition(".Sh EXAMPLES")[0]
    told = {event: text.strip().partition("\n")[0] for event, text in parts(section).items()}

    assert told == EVENTS


def test_the_command_has_every_verb_and_every_option() -> None:
    """And no other one, but for those of `user`, `can` and `install-service`."""
    told = parts(COMMAND.partition(".Ss Verbs without a broker")[0])
    named = set(re.findall(r"Fl -([a-z-]+)", COMMAND)) - {"help", "version", "config"}
    named -= {"print", "force", "root", "group", "host"}

    assert set(told) == {command.name for command in COMMANDS}
    for command in COMMANDS:
        for param in command.params:
            shown = f"Fl -{param.name[2:]}" if param.is_option else f"Ar {param.name}"
            assert shown in told[command.name].partition("\n")[0], command.name
    assert named == {
        param.name[2:] for params in (CONNECTING, *(c.params for c in COMMANDS)) for param in params if param.is_option
    }


def test_helps_are_short() -> None:
    """A reminder; the manual page is the reference. Words among which to choose are no sentence."""
    helps = [command.help for command in COMMANDS] + [
        param.help
        for c in COMMANDS
        for param in (*c.params, *CONNECTING)
        if param.help != param.completes.replace(" ", ", ")
    ]

    assert [text for text in helps if len(text) > 76 or text.endswith(".")] == []


@pytest.fixture
def broker() -> Iterator[RunningBroker]:
    with RunningBroker() as broker:
        yield broker


def commands(text: str) -> list[str]:
    """The lines that are typed, and that ask a broker."""
    lines = re.findall(r"^ *(?:\$ )?((?:seq|stomp-brokerctl) .+)$", text, re.MULTILINE)
    typed = [line.partition("  #")[0].strip() for line in lines]
    return [line for line in typed if not line.startswith(("stomp-brokerctl can ", "stomp-brokerctl user "))]


def test_the_examples_of_the_command_run(broker: RunningBroker, tmp_path: Path) -> None:
    """Those of the manual page and of the README, in their order; kick needs somebody."""
    typed = commands(README.partition("## Ask the broker")[2].partition("\n## ")[0])
    typed += commands(COMMAND.partition(".Sh EXAMPLES")[2])
    (tmp_path / "stomp-brokerctl").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/bin/stomp-brokerctl" "$@"\n')
    (tmp_path / "stomp-brokerctl").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "FORKBROKER_URL": f"stomp://{broker.host}:{broker.port}",
    }
    assert len(typed) >= 10
    with RawClient(broker.port) as alice:
        alice.login(login="alice")
        alice.publish("/queue/orders", "the first")
        for line in typed:
            done = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stderr) == (0, ""), line
            assert done.stdout, line


def test_the_conversation_by_hand_is_answered(broker: RunningBroker) -> None:
    """As it stands on the page, octet for octet."""
    typed = LITERAL.findall(PROTOCOL)[0].partition("\n")[2]
    with RawClient(broker.port) as client:
        client.send_raw(typed.replace("^@", "\0").encode())
        client.expect("CONNECTED")
        client.version = "1.2"
        message = client.expect("MESSAGE", correlation_id="1", subscription="/temp-queue/answers")

    assert message.body == b'{"ok":true,"rows":[],"more":false}'


def test_the_program_of_the_page_prints_how_many_clients_there_are(broker: RunningBroker) -> None:
    """Itself."""
    program = LITERAL.findall(PROTOCOL)[1].replace("61613", str(broker.port)).replace("localhost", broker.host)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr) == ("1\n", "")
