"""A mail server that delivers to files: DIRECTORY/mails has each mail, named by its Message-ID.

As many mail servers do (greylisting), it does not take the first mail to an address: "451 try again later".
"""

import re
import signal
import socketserver
from hashlib import sha256

from places import DIRECTORY, SMTP

MAILS = DIRECTORY / "mails"


known: set[str] = set()
"""The addresses to which somebody has tried to send."""


class Session(socketserver.StreamRequestHandler):
    """A connection of a client that speaks SMTP (RFC 5321)."""

    timeout = 60

    def handle(self) -> None:
        self.reply("220 sink.kiltshop.example")
        for line in self.rfile:
            verb = line[:4].decode("ascii", "replace").strip().upper()
            if verb == "RCPT":
                address = line.decode("ascii", "replace")
                self.reply("250 OK" if address in known else "451 try again later")
                known.add(address)
            elif verb == "DATA":
                self.reply("354 go on")
                self.store()
                self.reply("250 OK")
            elif verb == "QUIT":
                self.reply("221 goodbye")
                return
            else:
                self.reply("250 OK" if verb in ("EHLO", "HELO", "MAIL", "RSET", "NOOP") else "502 not here")

    def reply(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())

    def store(self) -> None:
        """Write a mail to its file. A mail that comes twice is one file."""
        lines = list(iter(self.rfile.readline, b".\r\n"))
        mail = b"".join(line[1:] if line.startswith(b".") else line for line in lines)
        found = re.search(rb"^Message-ID: *<([\w.-]+)@", mail, re.MULTILINE | re.IGNORECASE)
        name = found[1].decode() if found else sha256(mail).hexdigest()
        draft = MAILS / f".{name}"
        draft.write_bytes(mail)
        draft.rename(MAILS / f"{name}.eml")


class Server(socketserver.ThreadingTCPServer):
    """A listener with a thread for each session."""

    allow_reuse_address = True
    daemon_threads = True


signal.signal(signal.SIGINT, signal.SIG_DFL)
MAILS.mkdir(parents=True, exist_ok=True)
with Server(SMTP, Session) as server:
    server.serve_forever()
