"""The lines of curl in the manual page and in the README, typed into a shell."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from broker.test_users import line
from support.deadline import stretched
from support.webclient import LISTEN
from support.webhttp import NEEDS_CURL, place_of

from forkbroker.testing.broker import RunningBroker

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "man" / "forkbroker-http.7").read_text()
README = (ROOT / "README.md").read_text()


@pytest.mark.timeout(120)
@NEEDS_CURL
def test_the_lines_of_curl_do_what_they_say(tmp_path: Path) -> None:
    """Each shell line of the page and of the README, one after the other, with the user whom they name."""
    blocks = re.findall(r"^\.Bd -literal\n(.+?)^\.Ed$", MANUAL, re.MULTILINE | re.DOTALL)
    lines = [text for block in blocks if "curl" in block for text in block.splitlines()]
    lines += re.findall(r"^    (curl .+?)(?: +# .+)?$", README, re.MULTILINE)
    (tmp_path / "42.jpg").write_bytes(b"\xff\xd8")
    users = tmp_path / "users"
    users.touch(0o600)
    users.write_text(line("alice", "secret"))
    assert len(lines) >= 8

    with RunningBroker(*LISTEN, "--users", str(users), "--allow-anonymous") as broker:
        host, port = place_of(broker)
        script = "\n".join(lines).replace("127.0.0.1:15674", f"{host}:{port}")
        ended = subprocess.run(
            ["sh", "-ex", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "no_proxy": "*"},
            capture_output=True,
            text=True,
            timeout=stretched(60),
        )
        broker.stop()

    assert ended.returncode == 0, ended.stderr
