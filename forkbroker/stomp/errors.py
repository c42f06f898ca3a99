"""What a client did wrong, in a form that becomes an ERROR frame and a line of the log."""

from __future__ import annotations

from enum import Enum


class ErrorKind(Enum):
    """What sort of fault it was; decides how loudly it is logged, not what happens to the connection."""

    MALFORMED = "malformed"
    """The octets are no frame, or a header has no legal value."""
    LIMIT = "limit"
    """A frame is legal but larger than this server takes."""
    TLS_HELLO = "tls-hello"
    """A TLS client on a port that speaks plain STOMP (F28)."""
    HTTP_REQUEST = "http-request"
    """A browser, a probe or a scanner on the port (F28)."""


class ProtocolError(Exception):
    """The client broke the protocol or met a limit. Always the client's fault, always fatal for it (E02).

    Args:
        message: short and plain, for the ERROR's `message` header. No CR, LF, colon or backslash, as it may be
            sent before a version, and with it an escaping, is agreed (F23).
        detail: text of the ERROR's body: what, where (octet of the connection's stream, from 0), the limit
            that was met, what would be right. No secrets.
        kind: the sort of fault.
        receipt: the receipt that the failed frame asked for, where it could be read (R04).
    """

    def __init__(
        self,
        message: str,
        detail: str = "",
        *,
        kind: ErrorKind = ErrorKind.MALFORMED,
        receipt: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail or message
        self.kind = kind
        self.receipt = receipt
