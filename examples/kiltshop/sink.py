"""A mail server that delivers to files: DIRECTORY/mails has each mail, named by its Message-ID.

As many mail servers do (greylisting), it does not take the first mail to an address: "451 try again later".
"""

import re
import signal
import socketserver
from contextlib import suppress
from hashlib import sha256

from places import DIRECTORY, SMTP

MAILS = DIRECTORY / "mails"


known: set[str] = set()
"""The addresses to which somebody has tried to send."""


class Session(socketserver.StreamRequestHandler):
    """A connection of a client that speaks SMTP (RFC 5321)."""

    timeout = 60

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError):
            self.reply("220 sink.kiltshop.example")
            for line in self.rfile:
                verb = line[:4].decode("ascii", "replace").strip().upper()
                self.reply(self.answer(verb, line.decode("ascii", "replace")))
                if verb == "QUIT":
                    return

    def answer(self, verb: str, line: str) -> str:
        if verb == "RCPT":
            was_known = line in known
            known.add(line)
            return "250 OK" if was_known else "451 try again later"
        if verb == "DATA":
            self.reply("354 go on")
            store(self.read_mail())
        if verb == "QUIT":
            return "221 goodbye"
        return "250 OK" if verb in ("EHLO", "HELO", "MAIL", "DATA", "RSET", "NOOP") else "502 not here"

    def read_mail(self) -> bytes:
        """The lines up to the one that is a dot."""
        mail = b""
        for line in self.rfile:
            if line == b".\r\n":
                return mail
            mail += line.removeprefix(b".")
        raise ConnectionResetError("the client has gone in the middle of a mail")

    def reply(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


def store(mail: bytes) -> None:
    """Write a mail to its file. A mail that comes twice is one file."""
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
