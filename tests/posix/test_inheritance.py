"""What a process has inherited, and is rid of."""

from __future__ import annotations

import socket

LOOK = """
import fcntl, json, os, signal, sys
from forkbroker.posix.inheritance import shed
report = int(sys.argv[1])
passed = os.dup2(report, 3) if report != 3 else 3
other = os.open("/", os.O_RDONLY)
os.close(0); os.close(2)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
shed(1)
def is_open(fd):
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFD) >= 0
    except OSError:
        return False
seen = {
    "open": [fd for fd in range(200) if is_open(fd)],
    "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "default": [signal.getsignal(number) == signal.SIG_DFL for number in (signal.SIGCHLD, signal.SIGINT)],
}
os.write(passed, json.dumps(seen).encode())
"""


def test_only_the_standard_streams_and_what_was_passed_stay_open(run_script) -> None:
    """Closed streams are filled; no signal is blocked, none has a handler of the interpreter."""
    near, far = socket.socketpair()
    run_script(LOOK, far.fileno(), pass_fds=(far.fileno(),))
    far.close()
    seen = near.recv(1000)
    near.close()

    assert seen == b'{"open": [0, 1, 2, 3], "blocked": 0, "default": [true, true]}'
