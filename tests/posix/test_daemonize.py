"""Detaching, seen from the one who waits in the foreground."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from forkbroker.errors import Exit

PATIENCE_S = 10.0 * float(os.environ.get("FORKBROKER_TEST_STRETCH", "1"))

LOOK = """
import json, os, sys
from forkbroker.posix.daemonize import detach
foreground = os.getpid()
readiness = detach()
print("on the way", file=sys.stderr, flush=True)
readiness.ready()
seen = {
    "session": os.getsid(0), "group": os.getpgrp(), "pid": os.getpid(), "foreground": foreground,
    "directory": os.getcwd(), "umask": os.umask(0),
    "streams": [os.path.realpath(f"/dev/fd/{fd}") for fd in range(3)],
}
with open(sys.argv[1], "w") as report: json.dump(seen, report)
os.close(int(sys.argv[2]))
"""


def test_a_daemon_has_a_session_a_directory_and_streams_of_its_own(run_script, tmp_path) -> None:
    """It doesn't lead its session, so it gets no terminal; the command ends with 0, and shows what was complained."""
    near, far = socket.socketpair()
    ended = run_script(LOOK, tmp_path / "report", far.fileno(), pass_fds=(far.fileno(),))
    far.close()
    assert near.recv(1) == b""
    near.close()
    seen = json.loads((tmp_path / "report").read_text())

    assert (ended.returncode, ended.stderr) == (0, "on the way\n")
    assert seen["session"] != os.getsid(0)
    assert seen["session"] == seen["group"]
    assert seen["pid"] not in (seen["session"], seen["foreground"])
    assert seen["directory"] == "/"
    assert seen["umask"] == 0o027
    assert seen["streams"] == ["/dev/null"] * 3


def test_a_reason_reaches_the_terminal_with_its_status(run_script) -> None:
    """The daemon says it, the command prints it."""
    ended = run_script(
        "from forkbroker.posix.daemonize import detach\n"
        "from forkbroker.errors import Exit\n"
        "detach().failed('127.0.0.1:61613: address in use', Exit.UNAVAILABLE)\n"
    )

    assert ended.returncode == Exit.UNAVAILABLE
    assert ended.stderr == "stomp-broker: 127.0.0.1:61613: address in use\n"


def test_a_daemon_that_dies_without_a_word_is_a_failure(run_script) -> None:
    """Killed before it was ready."""
    ended = run_script(
        "import os, signal\n"
        "from forkbroker.posix.daemonize import detach\n"
        "detach()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    assert ended.returncode == Exit.SOFTWARE
    assert "ended before it was ready" in ended.stderr


WAIT = """
import socket, sys
from forkbroker.posix.daemonize import detach
end = socket.socket(fileno=int(sys.argv[1]))
readiness = detach()
end.send(b"!")
end.recv(1)
readiness.ready()
"""


def test_the_command_waits_until_the_daemon_is_ready() -> None:
    """The daemon runs already, and we have it wait."""
    near, far = socket.socketpair()
    near.settimeout(PATIENCE_S)
    command = subprocess.Popen(
        [sys.executable, "-c", WAIT, str(far.fileno())],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        pass_fds=(far.fileno(),),
    )
    far.close()
    near.recv(1)
    before = command.poll()
    near.send(b"x")

    assert before is None
    assert command.wait(PATIENCE_S) == 0
    assert near.recv(1) == b""
    near.close()


def test_a_daemon_whose_command_was_interrupted_goes_on(run_script, tmp_path) -> None:
    """Nobody listens at the pipe any more; that is no reason to end."""
    near, far = socket.socketpair()
    ended = run_script(
        "import os, signal, socket, sys\n"
        "from forkbroker.posix.daemonize import detach\n"
        "end = socket.socket(fileno=int(sys.argv[1]))\n"
        "foreground = os.getpid()\n"
        "readiness = detach()\n"
        "os.kill(foreground, signal.SIGINT)\n"
        "readiness.ready()\n"
        "end.send(b'alive')\n",
        far.fileno(),
        pass_fds=(far.fileno(),),
    )
    far.close()

    assert ended.returncode == -signal.SIGINT
    assert near.recv(5) == b"alive"
    assert near.recv(1) == b""
    near.close()
