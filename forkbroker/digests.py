"""BLAKE2 (RFC 7693), SHA-1 for WebSocket, and a comparison that tells nothing by its time, without OpenSSL.

`hashlib` and `hmac` load OpenSSL, whatever is asked of them, and each process that is forked afterwards has its memory.
What is needed here, CPython has itself. Its modules for that are not documented: where they are missing, OpenSSL it is.
"""

from __future__ import annotations

try:
    from _blake2 import blake2b
except ImportError:  # another interpreter
    from hashlib import blake2b

try:
    from _sha1 import sha1
except ImportError:  # another interpreter
    from hashlib import sha1

try:
    from _operator import _compare_digest as compare_digest
except ImportError:  # another interpreter
    from hmac import compare_digest  # type: ignore[no-redef]

__all__ = ["blake2b", "compare_digest", "sha1"]
