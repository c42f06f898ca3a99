"""Parts that need something of the system, or a library."""

from __future__ import annotations

import pytest

from forkbroker.cli import optional
from forkbroker.config.evaluation import make_settings
from forkbroker.errors import Exit, StartError


def test_a_system_that_cannot_merge_memory_is_told_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked for; nobody is asked where it is not."""
    monkeypatch.setattr("forkbroker.posix.merging.can_merge", lambda: False)
    optional.check_merging(make_settings({}))

    with pytest.raises(StartError, match=r"needs Linux 6\.4 or newer with KSM; start without it") as caught:
        optional.check_merging(make_settings({"merge_memory": True}))
    assert caught.value.status == Exit.CONFIG
