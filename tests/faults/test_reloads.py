"""Reloads under the load of clients of all kinds. `make reloads` does the same with a thousand."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.reloads import play
from support.certificates import HAS_OPENSSL

CLIENTS = 150


@pytest.mark.slow
@pytest.mark.skipif(not HAS_OPENSSL, reason="openssl is not installed: no certificates")
def test_reloads_drop_nobody_who_may_stay_and_let_nobody_in_who_may_not(nothing_is_left: None, tmp_path: Path) -> None:
    """Nothing is lost, and nothing is delivered to somebody without the right, whether the file is right or wrong."""
    faults, _ = play(tmp_path, CLIENTS)

    assert faults == []
