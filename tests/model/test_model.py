"""The models of docs/model hold, exhaustively; and each broken one is caught, so they can fail."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[2] / "docs" / "model"
DEPTH = 100_000
"""Steps of one run at most; too few would be told as "max search depth too small"."""
TIMEOUT_S = 120

HOLDING = [
    ("claims", "-DREJECTIONS=0"),
    ("claims", "-DSLOTS=1 -DKILLS=2"),
    ("claims", "-DCHILDREN=3 -DSLOTS=1 -DMESSAGES=1 -DKILLS=2"),
    ("claims", "-DSLOTS=1 -DLIES=1"),
    ("claims", "-DCHILDREN=3 -DSLOTS=1 -DMESSAGES=1 -DLIES=1"),
    ("claims", "-DSLOTS=1 -DAHEAD=2 -DRECALLS=2 -DTIMEOUTS=0"),
    ("claims", "-DSLOTS=1 -DMESSAGES=1 -DPARKS=2 -DREFUSALS=0"),
    ("claims", "-DSLOTS=1 -DPARKS=1 -DREFUSALS=0 -DTIMEOUTS=0"),
    ("ahead", "-DMESSAGES=3 -DKILLS=1"),
    ("ahead", "-DKILLS=1 -DOFFERS=2 -DLENGTH=3"),
    ("ahead", "-DREFUSALS=1 -DWITHDRAWALS=0 -DOFFERS=2"),
    ("ahead", "-DREJECTIONS=1 -DWITHDRAWALS=0 -DOFFERS=2"),
    ("ahead", "-DCHILDREN=1 -DREJECTIONS=2 -DWITHDRAWALS=2"),
    ("ahead", "-DCHILDREN=3 -DWITHDRAWALS=0 -DOFFERS=2"),
    ("order", ""),
    ("order", "-DCHILDREN=3 -DOFFERS=3"),
    ("store", "-DPARENT_KILLS=2"),
    ("store", "-DMESSAGES=3"),
    ("store", "-DBAD=1"),
    ("store", "-DBAD=1 -DFAILURES=2"),
]

ASSERTION = "assertion violated"
END_STATE = "invalid end state"
TWICE = rf"{ASSERTION} .*(holder|acknowledged)"
"""Two children have a message, one after the other or at once."""
OVERTAKEN = rf"{ASSERTION} is_next"
TOLD_AGAIN = rf"{ASSERTION} .*i!=died_twice_at"
INNOCENT = rf"{ASSERTION} .*died_twice_at==announced"
ORDER = rf"{ASSERTION} .*stored\[m\]=="
KEEPING = "AHEAD=2 RECALLS=1 TIMEOUTS=0 REJECTIONS=0"
BROKEN = [
    ("claims", "BROKEN_REUSE", ASSERTION),
    ("claims", "BROKEN_CRASH", ASSERTION),
    ("claims", "BROKEN_OVERDUE", ASSERTION),
    ("claims", "BROKEN_DRAIN", ASSERTION),
    ("claims", "BROKEN_BELIEF LIES=1", TWICE),
    ("claims", f"BROKEN_RECALL {KEEPING}", ASSERTION),
    ("claims", f"BROKEN_KEEPING {KEEPING}", ASSERTION),
    ("claims", f"BROKEN_SILENCE {KEEPING}", END_STATE),
    ("claims", "BROKEN_KEY SLOTS=1 PARKS=2 TIMEOUTS=0 REFUSALS=0", rf"{ASSERTION} .*key\[m\]==s"),
    ("claims", "BROKEN_LEASE SLOTS=1 PARKS=2 TIMEOUTS=0 REFUSALS=0", TWICE),
    ("ahead", "BROKEN_OLDEST_FIRST", OVERTAKEN),
    ("ahead", "BROKEN_LEFT REFUSALS=1 WITHDRAWALS=0", OVERTAKEN),
    ("ahead", "BROKEN_CREDIT", ASSERTION),
    ("ahead", "BROKEN_REUSE", ASSERTION),
    ("ahead", "BROKEN_CRASH KILLS=1 MESSAGES=3", rf"{ASSERTION} .*was_held"),
    ("ahead", "BROKEN_NACK CHILDREN=1 REJECTIONS=1", rf"{ASSERTION} acked"),
    ("ahead", "BROKEN_SKIP CHILDREN=1 REJECTIONS=1", rf"{ASSERTION} acked"),
    ("order", "BROKEN_OVERDUE", ASSERTION),
    ("order", "BROKEN_OLDEST_FIRST", ASSERTION),
    ("store", "BROKEN_RECEIPT", ASSERTION),
    ("store", "BROKEN_COMMIT", ASSERTION),
    ("store", "BROKEN_CANCEL", ASSERTION),
    ("store", "BROKEN_PART", ASSERTION),
    ("store", "BROKEN_RETELL", END_STATE),
    ("store", "BROKEN_ASIDE BAD=1", TOLD_AGAIN),
    ("store", "BROKEN_OTHERS BAD=1", ORDER),
    ("store", "BROKEN_END BAD=1", INNOCENT),
    ("store", "BROKEN_FULL BAD=1 FAILURES=2", INNOCENT),
    ("store", "BROKEN_STALE BAD=1 FAILURES=1", INNOCENT),
]

pytestmark = [
    pytest.mark.skipif(shutil.which("spin") is None, reason="install spin"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="install a C compiler"),
]


def run(directory: Path, *command: str) -> str:
    """What the command says; it must succeed, as all of these do whatever they find."""
    ended = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def check(directory: Path, model: str, *definitions: str, ends: bool = True) -> str:
    """The verifier's report; without `ends` a run may end anywhere."""
    shutil.copy(MODELS / f"{model}.pml", directory)
    run(directory, "spin", "-a", *definitions, f"{model}.pml")
    run(directory, "cc", "-w", "-O1", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c")
    return run(directory, "./pan", f"-m{DEPTH}", *([] if ends else ["-E"]))


@pytest.mark.parametrize(("model", "definitions"), HOLDING)
def test_a_model_holds_in_every_run(tmp_path: Path, model: str, definitions: str) -> None:
    """All states are visited, none breaks an assertion, and no run ends where it should not."""
    report = check(tmp_path, model, *definitions.split())

    assert "errors: 0" in report, report
    assert "Search not completed" not in report
    assert "max search depth too small" not in report
    assert re.search(r"^ *\d{5,} states, stored", report, re.MULTILINE), report


@pytest.mark.parametrize(("model", "variant", "complaint"), BROKEN)
def test_a_broken_model_is_caught(tmp_path: Path, model: str, variant: str, complaint: str) -> None:
    """What the real thing takes care of is left out once."""
    definitions = [f"-D{name}" for name in variant.split()]

    report = check(tmp_path, model, *definitions, ends=complaint == END_STATE)

    assert re.search(rf"^pan:1: {complaint}", report, re.MULTILINE), report
    assert "errors: 1" in report
