"""Serves the files of the pages. In a real shop, nginx or Apache does this.

/             the files of the directory `pages`
/stomp.js     the client of STOMP for browsers, as the broker's package has it
/broker.js    where the broker is
"""

import json
import signal
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

from places import PAGES, WEB

STOMP_JS = files("forkbroker.child.web") / "static" / "vendor" / "stompjs" / "stomp.umd.js"


class Handler(SimpleHTTPRequestHandler):
    """Answers one request."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments, directory=str(Path(__file__).parent / "pages"))

    def handle(self) -> None:
        # a browser may hang up at any time
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        if self.path == "/stomp.js":
            self.answer(STOMP_JS.read_bytes())
        elif self.path == "/broker.js":
            self.answer(f"const BROKER = {json.dumps(f'ws://{WEB[0]}:{WEB[1]}/ws')};\n".encode())
        else:
            super().do_GET()

    def answer(self, script: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript; charset=utf-8")
        self.send_header("Content-Length", str(len(script)))
        self.end_headers()
        self.wfile.write(script)

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


signal.signal(signal.SIGINT, signal.SIG_DFL)
ThreadingHTTPServer(PAGES, Handler).serve_forever()
