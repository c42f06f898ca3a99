"""Code that forked processes run, side by side in memory.

To call a function is to write to its code: a count of references, and counts of the interpreter. To use a constant is
to write to that. Code of many modules lies on as many pages, between code that is never run. A copy of what is run,
made in one go, lies on few pages; and each page that is written to is one that a forked process shares no longer.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType

from forkbroker.posix.heap import fill_holes


def gather(play: Callable[[], None]) -> None:
    """Give all functions that `play` calls copies of their code, in the order of their first calls.

    The interpreter knows nothing of the copies yet: play on for a while. To be called before `settle_for_forks`, in a
    process that has one thread.
    """
    called: dict[CodeType, int] = {}

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            called.setdefault(frame.f_code, len(called))

    others = sys.getprofile()
    sys.setprofile(note)
    try:
        play()
    finally:
        sys.setprofile(others)
    # what is frozen is not listed
    gc.unfreeze()
    gc.collect()
    functions = [one for one in gc.get_objects() if type(one) is FunctionType and one.__code__ in called]
    functions.sort(key=lambda one: called[one.__code__])
    fill_holes()
    for function in functions:
        function.__code__ = _copy(function.__code__)


def _copy(code: CodeType) -> CodeType:
    """With that of the functions which it makes."""
    return code.replace(co_consts=tuple(map(_copy_constant, code.co_consts)))


def _copy_constant(one: object) -> object:
    """Octets that many functions name lie on many pages. Names are for the interpreter to compare by where they are."""
    if isinstance(one, CodeType):
        return _copy(one)
    if type(one) is bytes and len(one) > 1:
        return bytes(bytearray(one))
    return one
