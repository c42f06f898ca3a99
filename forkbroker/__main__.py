"""`python -m forkbroker` is stomp-broker."""

from __future__ import annotations

import sys

from forkbroker.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
