"""The quick start of the README, with the command of stomp.py, against a real broker on a free port."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.deadline import wait_until

from forkbroker.testing.broker import RunningBroker

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.timeout(120)
def test_the_quick_start_shows_what_it_says(tmp_path: Path) -> None:
    """The consumer prints the job, and `ps` has lines of the same form."""
    subscribe, send = re.findall(r"^    > (.+)$", README, re.MULTILINE)
    shown = re.findall(r"^    stomp-broker: (.+)$", README, re.MULTILINE)
    printed = tmp_path / "printed"

    with RunningBroker() as broker, printed.open("wb") as output:
        consumer = type_into(broker, subscribe, output)
        wait_until(lambda: any("1 subscription" in title for _, title in broker.children()), "a subscription")
        producer = type_into(broker, send, output)
        wait_until(lambda: send.split(" ", 2)[2] in printed.read_text(), "the job")
        wait_until(lambda: "(2 clients)" in broker.title, "a title that is up to date")
        titles = [broker.title, *(title for _, title in broker.children())]
        store = broker.database
        for process in (consumer, producer):
            process.communicate(b"quit\n", timeout=30)

    found = {form_of(title.removeprefix("stomp-broker: ").replace(str(store), "PATH")) for title in titles}
    found.add(form_of("store sqlite://PATH"))
    assert found == {form_of(re.sub(r"sqlite://\S+", "sqlite://PATH", line)) for line in shown}


def form_of(title: str) -> str:
    """A line of `ps` without the addresses, and without the second one of the default."""
    return re.sub(r"127\.0\.0\.1:\d+( \[::1\]:\d+)?", "ADDRESS", title)


def type_into(broker: RunningBroker, line: str, output: object) -> subprocess.Popen[bytes]:
    """Start the command of stomp.py, and type this line."""
    command = [sys.executable, "-m", "stomp", "-H", broker.host, "-P", str(broker.port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)  # type: ignore[call-overload]
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    process.stdin.flush()
    return process
