"""A node that is one of several under one command (`processes`): what it is told, what it tells, and its life.

    python -m pliers_workflow.cli.node LINE

LINE is one end of a socket pair. Over it comes an order, and back go reports: that the node answers, or why it does not; and
from then on, every second, an empty line: it works. When the line ends, the node finishes what it has begun and stops,
whether the command was told to stop or is not there any more. That is no signal, and does not count as one: where a terminal
or a service manager tells every process of the command, nobody is told twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from .problems import Problem, explain
from .program import log_lines, run

#: seconds between two empty lines
BEAT: Final = 1.0


class Order(msgspec.Struct, frozen=True):
    """What a node is to be. It comes over the line because a DSN may carry a password."""

    #: those of the command, so that all its nodes are equal however long ago it was started
    settings: dict[str, Any]
    #: a DSN, or the folder of an embedded server
    database: str
    embedded: bool
    #: descriptors of the sockets to listen on
    sockets: list[int]


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node says of itself."""

    #: it answers
    ready: bool = False
    #: why it does not, in a sentence
    problem: str = ""


def main() -> NoReturn:
    """Do as ordered, to the end."""
    log_lines()
    line = socket.socket(fileno=int(sys.argv[1]))
    line.set_inheritable(False)
    try:
        with line.makefile("rb") as said:
            order = said.readline()
        if order:  # else the command has gone already
            run(_serve(msgspec.json.decode(order, type=Order), line))
    except SystemExit as end:  # of the HTTP server, which has logged what happened
        _tell(line, Report(problem="it could not start; the lines above say why"))
        raise SystemExit(end.code) from None
    except Problem as problem:
        _tell(line, Report(problem=str(problem)))
        sys.exit(problem.status)
    except Exception as error:
        if os.environ.get("PLIERS_DEBUG"):
            raise
        sentence, status = explain(error)
        _tell(line, Report(problem=sentence))
        sys.exit(status)
    sys.exit(0)


async def _serve(order: Order, line: socket.socket) -> None:
    from pliers_workflow.installation import opened
    from pliers_workflow.runtime.engine import open_engine
    from pliers_workflow.settings import Settings
    from pliers_workflow.storage.migrations import check_schema

    from .http_server import HttpServer

    settings = Settings.model_validate(order.settings)
    sockets = [socket.socket(fileno=descriptor) for descriptor in order.sockets]
    for each in sockets:
        each.set_inheritable(False)
    database = Path(order.database) if order.embedded else order.database
    # An embedded server has each node among its users: it is there until the last one is done.
    async with opened(database, connections=settings.connections_of_all) as dsn:
        settings.database.url = dsn
        await check_schema(dsn)  # who is started again later may find that of another release
        engine = await open_engine(settings)

        def ready(_: str) -> None:
            _tell(line, Report(ready=True))
            asyncio.get_running_loop().add_reader(line, ended)
            beat()

        def beat() -> None:
            # Nobody may listen any more, or somebody who sleeps: a node waits for neither.
            with contextlib.suppress(OSError):
                line.send(b"\n", socket.MSG_DONTWAIT)
            asyncio.get_running_loop().call_later(BEAT, beat)

        def ended() -> None:
            asyncio.get_running_loop().remove_reader(line)
            server.stop()

        server = HttpServer(engine, settings.server.host, settings.server.port, listening=ready)
        await server.serve(sockets)


def _tell(line: socket.socket, report: Report) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        line.sendall(msgspec.json.encode(report) + b"\n")


if __name__ == "__main__":
    main()
