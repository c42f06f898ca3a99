"""Runs the shop: the broker and all programs, until Ctrl-C. What ends by itself is started again, as systemd would do.

So kill what you like, and look at what becomes of the orders.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from places import DIRECTORY, PAGES, SMTP, STOMP, WEB

HERE = Path(__file__).parent
BROKER = [
    *(sys.executable, "-m", "forkbroker", "--config", f"{HERE / 'broker.toml'}"),
    *("--listen", "{}:{}".format(*STOMP), "--listen", "ws://{}:{}".format(*WEB)),
    *("--web-origin", "http://{}:{}".format(*PAGES), "--web-origin", f"http://localhost:{PAGES[1]}"),
    *("--store", f"sqlite://{DIRECTORY / 'queues.db'}", "--log-file", f"{DIRECTORY / 'broker.log'}"),
]
PROGRAMS = {
    "broker": BROKER,
    **{
        name: [sys.executable, f"{HERE / name}.py"]
        for name in ("orders", "contacts", "billing", "mailer", "sink", "web")
    },
}
PLACES = (STOMP, WEB, PAGES, SMTP)
FINAL = {2, *range(64, 79)}
"""Exit statuses that say that another start would end in the same way (sysexits.h)."""


def start(name: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(PROGRAMS[name], stdout=subprocess.DEVNULL if name == "broker" else None)
    print(f"{name}: process {process.pid}", flush=True)
    return process


def is_listening(place: tuple[str, int]) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(place) == 0


def watch(running: dict[str, subprocess.Popen[bytes]]) -> None:
    """Start what does not run: the broker first, then the others."""
    is_open = False
    while True:
        for name in PROGRAMS:
            if name not in running and (name == "broker" or is_listening(STOMP)):
                running[name] = start(name)
        for name, process in list(running.items()):
            if process.poll() is not None:
                print(f"{name}: ended with status {process.returncode}", flush=True)
                if process.returncode in FINAL:
                    sys.exit(1)
                del running[name]
        if not is_open and all(map(is_listening, PLACES)):
            is_open = True
            print(WELCOME, flush=True)
        time.sleep(0.5)


WELCOME = """
The shop is open:
    http://{0}:{1}/shop.html     for customers
    http://{0}:{1}/maker.html    for the maker
    http://{0}:{1}/sales.html    for the sales person: contacts
    {2} {3}    for shipping, in another terminal
Mails and databases are in {4}. Ctrl-C ends everything.
""".format(*PAGES, *map(os.path.relpath, (sys.executable, HERE / "shipping.py")), DIRECTORY)

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
DIRECTORY.mkdir(parents=True, exist_ok=True)
for place in filter(is_listening, PLACES):
    sys.exit("{}:{} is in use: end what listens there, or see places.py for another port".format(*place))
running: dict[str, subprocess.Popen[bytes]] = {}
try:
    watch(running)
except KeyboardInterrupt:
    print()
finally:
    for process in running.values():
        process.terminate()
    for process in running.values():
        process.wait()
