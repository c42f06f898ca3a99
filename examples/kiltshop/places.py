"""Where the parts of the shop are: on this machine, at ports that the environment can change."""

import os
from pathlib import Path


def address(name: str, default: str) -> tuple[str, int]:
    """Host and port of a part, from the environment variable NAME."""
    host, _, port = os.environ.get(name, default).rpartition(":")
    return host, int(port)


STOMP = address("KILTSHOP_STOMP", "127.0.0.1:61613")
"""The broker, for programs."""
WEB = address("KILTSHOP_WEB", "127.0.0.1:15674")
"""The broker, for pages (WebSocket) and shells (HTTP)."""
PAGES = address("KILTSHOP_PAGES", "127.0.0.1:8080")
"""The files of the pages."""
SMTP = address("KILTSHOP_SMTP", "127.0.0.1:2525")
"""The mail server."""
DIRECTORY = Path(os.environ.get("KILTSHOP_DIRECTORY", "~/.local/state/kiltshop")).expanduser()
"""The databases, the log of the broker, and the mails."""
