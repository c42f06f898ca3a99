"""Modules that the nursery has, and with it each client's child: each of them makes each fork dearer."""

from __future__ import annotations

import subprocess
import sys

import pytest

_BROKER = """
import sys

from forkbroker.child import nursery
from forkbroker.cli.main import main

raise_children = nursery.main

def tell(end, equip, follow_log):
    def equip_and_tell(told):
        spare = equip(told)
        print(*sys.modules, flush=True)
        return spare
    return raise_children(end, equip_and_tell, follow_log)

nursery.main = tell
sys.exit(main())
"""
_HEAVY = {
    "asyncio", "bz2", "csv", "email", "hashlib", "hmac", "http", "importlib.metadata", "logging.handlers", "lzma",
    "multiprocessing", "random", "secrets", "shutil", "ssl", "subprocess", "tempfile", "unicodedata", "uuid", "xml",
    "zipfile", "zlib",
}  # fmt: skip
"""With them come compression, OpenSSL, tables of letters: large, and nothing that clients need."""


@pytest.mark.parametrize(
    ("options", "wanted"),
    [((), set()), (("--users", "{users}"), {"hashlib"})],
    ids=["without passcodes", "with passcodes"],
)
def test_the_nursery_has_what_children_need_and_little_else(tmp_path, options, wanted) -> None:
    """OpenSSL where hashes of passcodes are computed: to load it in each child would be dearer."""
    users = tmp_path / "users"
    users.write_text("")
    users.chmod(0o600)
    given = ("--listen", "localhost:0", "--store", "memory:", *(text.format(users=users) for text in options))
    with subprocess.Popen([sys.executable, "-c", _BROKER, *given], stdout=subprocess.PIPE, text=True) as broker:
        assert broker.stdout is not None
        modules = set(broker.stdout.readline().split())
        broker.terminate()

    assert "forkbroker.child.child" in modules
    assert modules & _HEAVY == wanted
