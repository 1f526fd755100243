"""Why a call to the outside gave nothing."""

from __future__ import annotations


class OutboundError(Exception):
    """
    A call failed. `code` is what retry policies and transitions name; the message is for people.

    | code | |
    | --- | --- |
    | `HTTP_INVALID_URL` | the address is none that can be called |
    | `HTTP_FORBIDDEN_ADDRESS` | the operator does not let the engine call there |
    | `HTTP_UNRESOLVED` | the host has no address |
    | `HTTP_CONNECT` | nobody takes the connection, or it is not safe (TLS) |
    | `HTTP_TIMEOUT` | no whole answer in time |
    | `HTTP_PROTOCOL` | the connection broke, or what came is no HTTP |
    | `HTTP_RESPONSE_TOO_LARGE` | the answer is larger than allowed |
    """

    def __init__(self, code: str, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        #: another attempt may go better
        self.retryable = retryable
