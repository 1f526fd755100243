"""What `Engine.execute` answers, and what it raises instead of an answer."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

from msgspec import Struct

from pliers_workflow.interpreter.events import Event
from pliers_workflow.interpreter.instance import Instance
from pliers_workflow.interpreter.rejections import Rejection


class RequestKey(Struct, frozen=True):
    """An `Idempotency-Key` as it is kept: whose, for which route, of which body."""

    principal: str
    #: method and path with its ids, e.g. `POST /api/v1/workflow-instances/…/approve`
    route: str
    key: str
    #: sha256 of the canonical body
    body_hash: bytes
    #: seconds it is remembered; None: as long as the installation's keys are
    ttl: int | None = None


class Accepted(Struct, frozen=True):
    """The command is committed, flushed, and in the history as row `seq`."""

    #: as it was right after this command
    instance: Instance
    seq: int
    events: tuple[Event, ...]
    executed_at: datetime
    #: true: this command (or its Idempotency-Key) had been applied before, and this is that answer again
    replayed: bool = False


class NotFound(Struct, frozen=True):
    """No such instance in this tenant."""


class KeyReused(Struct, frozen=True):
    """The Idempotency-Key was used with another body."""


Answer: TypeAlias = Accepted | Rejection | NotFound | KeyReused


class EngineError(Exception):
    """Operations must act: our database, our configuration, our capacity. The message says what to do."""


class Overloaded(EngineError):
    """The queue of commands is full, or this command waited too long in it; try again after `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many commands are waiting; try again in {retry_after:g} s")
        self.retry_after = retry_after


class TooManyWaiting(EngineError):
    """So many fetches of external tasks wait here already (`limit`, of the caller's tenant or of all); try again later."""

    def __init__(self, limit: int, retry_after: float, *, of_tenant: bool) -> None:
        whose = "of your tenant wait on this node" if of_tenant else "wait on this node"
        super().__init__(
            f"{limit} fetches {whose} already, which is the most; try again in {retry_after:g} s, with fewer at a time that "
            "ask for more tasks each, or without waitSeconds"
        )
        self.limit = limit
        self.retry_after = retry_after


class ShuttingDown(EngineError):
    """This node is draining; ask another one."""


class InstanceTooNew(EngineError):
    """The instance was written by a newer release than this node runs; a node of that release answers."""


class OutcomeUnknown(EngineError):
    """The database went away while this command was being committed; it may have been applied or not.

    Repeat the request with the same Idempotency-Key, or read the instance: its history names every applied command.
    """

    def __init__(self, command_id: str) -> None:
        super().__init__(
            f"it is not known whether command {command_id} was applied, because the database went away; "
            "repeat it with the same Idempotency-Key, or look for it in the instance's history"
        )
        self.command_id = command_id
