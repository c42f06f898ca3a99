"""What a client did wrong, as far as the meaning of its frames goes."""

from __future__ import annotations

from collections.abc import Sequence

from forkbroker.errors import ForkbrokerError
from forkbroker.wire.kinds import Cause

_SHOWN = 80


class FrameError(ForkbrokerError):
    """A frame that can't be processed; becomes an ERROR frame.

    `message` is short and plain, for the frame's header; `detail` is its body: what was wrong, where, what was met,
    what would be right. `headers` are others that the ERROR has. `cause` is of what kind it is, where the end of the
    connection can tell so.
    """

    def __init__(
        self,
        message: str,
        detail: str = "",
        headers: Sequence[tuple[str, str]] = (),
        cause: Cause = Cause.FAULT,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail or message
        self.headers = headers
        self.cause = cause

    @property
    def reason(self) -> str:
        """Both in one line, for the log."""
        return self.message if self.message == self.detail else f"{self.message} ({self.detail})"


def shown(text: str) -> str:
    """What a client has sent, for the text of an ERROR: quoted, on one line, and not too long."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
