"""What executors raise: the outside world failed, for the step's retry policy to judge."""

from __future__ import annotations

import re
from typing import Any, Final

#: What a code may be; anything else becomes `INVALID_CODE` with the code in the message.
CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,99}")
MESSAGE_MAX: Final = 2_000


class StepFailure(Exception):
    """An attempt failed. `code` is what retry policies and transitions name; the message is for people."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = True,
        retry_after: float | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        if not CODE.fullmatch(code):
            code, message = "INVALID_CODE", f"{code[:100]!r}: {message}"
        self.code = code
        self.message = message if len(message) <= MESSAGE_MAX else message[:MESSAGE_MAX] + "…"
        #: another attempt may go better
        self.retryable = retryable
        #: seconds that the other side asked us to wait
        self.retry_after = retry_after
        self.details = details or {}


class Postponed(Exception):
    """It was not tried at all: the step is left to others after so many seconds, and no attempt is used up."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason
