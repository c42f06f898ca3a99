"""docs/tutorial.md is followed, step by step, against a real broker on a free port."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.deadline import stretched

from forkbroker.testing.broker import RunningBroker

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
CTL = ROOT / "bin" / "stomp-brokerctl"
STEP = re.compile(
    r"^```python\n# (?P<file>\w+\.py)\n(?P<source>(?:.*\n)*?)```$"
    r"|^    make run(?: ARGS=\"(?P<options>.+)\")?$"
    r"|^    \.venv/bin/python (?P<command>.+)$"
    r"|^    \.venv/bin/stomp-brokerctl (?P<question>.+)$"
    r"|^It prints:\n\n(?P<output>(?:    .+\n)+)",
    re.MULTILINE,
)


class Reader:
    """Somebody who does what the tutorial says."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._broker: RunningBroker | None = None
        self._printed = ""

    @property
    def broker(self) -> RunningBroker:
        """The broker that was started last."""
        assert self._broker is not None, "no broker was started"
        return self._broker

    def start(self, options: str) -> None:
        """Stop the broker with Ctrl-C if there is one, and start it again on the same database."""
        if self._broker is not None:
            self._broker.kill(signal.SIGINT)
            assert self._broker.wait() == 0
        self._broker = self._stack.enter_context(
            RunningBroker(*shlex.split(options), store_directory=self._directory / "state")
        )

    def run(self, command: str) -> None:
        """Run one of the programs, with the port of this broker."""
        self._run(shlex.split(command.replace("61613", str(self.broker.port))))

    def ask(self, question: str) -> None:
        """Run stomp-brokerctl, which has to say something, and finds this broker."""
        self._run([str(CTL), *shlex.split(question)])
        assert self._printed

    def _run(self, words: list[str]) -> None:
        ended = subprocess.run(
            [sys.executable, *words],
            cwd=self._directory,
            env={**os.environ, "FORKBROKER_URL": f"stomp://{self.broker.host}:{self.broker.port}"},
            capture_output=True,
            text=True,
            timeout=stretched(30),
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        self._printed = ended.stdout

    def compare(self, output: str) -> None:
        """Compare what the last program has printed."""
        expected = [line.removeprefix("    ") for line in output.splitlines()]
        assert self._printed.splitlines() == expected


@pytest.mark.timeout(300)
def test_the_tutorial_can_be_followed(tmp_path: Path) -> None:
    """Each program, command and output of it."""
    done: list[str] = []
    with ExitStack() as stack:
        reader = Reader(tmp_path, stack)
        for name, step in steps():
            done.append(name)
            if name == "file":
                (tmp_path / step["file"]).write_text(step["source"])
            elif name == "run":
                reader.start(step["options"] or "")
            elif name == "command":
                reader.run(step["command"])
            elif name == "question":
                reader.ask(step["question"])
            else:
                reader.compare(step["output"])

    assert [done.count(name) for name in ("file", "run", "command", "question", "output")] == [2, 3, 9, 3, 7]


def steps() -> Iterator[tuple[str, re.Match[str]]]:
    """The steps of the tutorial, in order."""
    for match in STEP.finditer(TUTORIAL):
        names = [
            name for name, text in match.groupdict().items() if text is not None and name not in ("source", "options")
        ]
        yield (names[0] if names else "run"), match
