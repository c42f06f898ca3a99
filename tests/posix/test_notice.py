"""A text that processes share."""

from __future__ import annotations

import os

from forkbroker.posix.children import fork
from forkbroker.posix.notice import Notice


def test_what_is_written_last_is_read() -> None:
    """Also nothing, and text that is not ASCII."""
    notice = Notice("at first")
    assert notice.read() == "at first"
    for text in ("", "größer", "x", "again longer"):
        notice.write(text)
        assert notice.read() == text


def test_a_text_that_is_too_long_is_cut() -> None:
    """Within a letter, too."""
    notice = Notice("x" * 300)
    assert notice.read() == "x" * 255
    notice.write("x" * 254 + "ü")

    assert notice.read() == "x" * 254


def test_processes_that_were_forked_before_read_it() -> None:
    """Without a message: here the child waits for a word, and then reads."""
    notice = Notice("before")
    told_end, tell_end = os.pipe()
    read_end, write_end = os.pipe()

    def read() -> int:
        os.read(told_end, 1)
        os.write(write_end, notice.read().encode())
        return 0

    pid = fork(read, [told_end, write_end])
    notice.write("after")
    os.write(tell_end, b".")
    found = os.read(read_end, 100)
    os.waitpid(pid, 0)
    for end in (told_end, tell_end, read_end, write_end):
        os.close(end)

    assert found == b"after"
