"""What a program of ours does first: lines of log, and an event loop."""

from __future__ import annotations

import asyncio
import sys
from typing import Any


def run(work: Any) -> Any:
    """Run a coroutine on the fast loop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def log_lines() -> None:
    """
    Logs are lines of JSON on standard error; tracebacks without the values of variables, which may be secret.

    What libraries log (the driver, the HTTP server, asyncio) goes the same way, from warnings up; what plugins log, from information up.
    """
    import logging

    import structlog

    first: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = structlog.processors.JSONRenderer(default=str)
    structlog.configure(
        processors=[*first, renderer],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *first],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("pliers.plugins").setLevel(logging.INFO)
