"""Commands: orders to one instance. Every change of an instance, by a person, a timer or the engine, is one of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct


class Actor(Struct, frozen=True, omit_defaults=True):
    """Who gives a command: a user, or the engine itself (`user` is None)."""

    #: user id
    user: str | None = None
    #: engine permissions of the token used: `operator`, `admin` …; they let one act on instances of others
    permissions: tuple[str, ...] = ()

    @property
    def operates(self) -> bool:
        """May act on every instance: an operator, or the engine itself."""
        return self.user is None or "operator" in self.permissions or "admin" in self.permissions


class Parent(Struct, frozen=True, omit_defaults=True):
    """The sub-workflow step on whose behalf an instance runs."""

    #: id of the parent's instance
    instance: str
    #: the parent's step run, such as `step/7`, and the attempt of it that started this instance
    step: str
    attempt: int = 1
    #: the parent waits: it is told when this instance has ended
    waits: bool = True
    #: parents above, this one included; bounded, so that recursion ends
    depth: int = 1


class StartInstance(Struct, frozen=True, tag="start", omit_defaults=True):
    """Begin a new instance. The runtime has minted `instance_id`."""

    instance_id: str
    definition_id: str
    data: dict[str, Any]
    context: dict[str, Any] = {}
    #: a user id; None: the actor
    requester: str | None = None
    submission_id: str | None = None
    submission: dict[str, Any] = {}
    external_key: str | None = None
    #: set where a sub-workflow step started it
    parent: Parent | None = None
    #: how many of the engine's own events led to this without a person in between
    depth: int = 0
    #: it is to wait for its turn: it stays `pending` until `BeginInstance`
    queued: bool = False


class BeginInstance(Struct, frozen=True, tag="begin"):
    """Let an instance that was queued enter its first state."""


class FireTrigger(Struct, frozen=True, tag="fire", omit_defaults=True):
    """Let a trigger from outside take effect (`POST …/advance`)."""

    trigger: str
    data: Any = None
    #: only through a transition that leads there, when given
    target: str | None = None


class RecordDecision(Struct, frozen=True, tag="decide", omit_defaults=True):
    """What an approver did with a work item."""

    action: Literal["approve", "reject", "request_changes", "delegate"]
    #: stage id; may be left out while the actor can decide in one stage only
    stage: str | None = None
    #: work item id; may be left out while the actor can decide one only
    item: str | None = None
    comments: str | None = None
    attachments: tuple[str, ...] = ()
    #: free for the definition's expressions: `event.data.data`
    data: dict[str, Any] = {}
    #: delegate: the user id to pass the item to
    delegate_to: str | None = None


class ReplaceApprovers(Struct, frozen=True, tag="replace_approvers"):
    """
    Ask others where people who are asked have left: they are inactive, or have lost the role or group they were asked as.

    Refused (`approvers_there`) where everybody who is asked can still decide.
    """


class UpdateData(Struct, frozen=True, tag="update_data", omit_defaults=True):
    """Replace the instance data, or merge a patch into it (RFC 7396)."""

    data: dict[str, Any] | None = None
    patch: dict[str, Any] | None = None


class SuspendInstance(Struct, frozen=True, tag="suspend", omit_defaults=True):
    """Stop the instance's clocks and refuse everything but resuming and cancelling."""

    reason: str | None = None


class ResumeInstance(Struct, frozen=True, tag="resume", omit_defaults=True):
    """Let a suspended instance go on; its clocks keep the time they had left."""

    reason: str | None = None


class CancelInstance(Struct, frozen=True, tag="cancel", omit_defaults=True):
    """End the instance where it is; open work items are withdrawn."""

    reason: str | None = None


class FireTimer(Struct, frozen=True, tag="fire_timer"):
    """A timer's hour has come. Refused (`timer_gone`) when the instance has cancelled or moved it since."""

    timer: str


class CompleteStep(Struct, frozen=True, tag="complete_step", omit_defaults=True):
    """
    What a step gave, from whoever ran it: a worker, an external worker, or the sub-workflow that ended.

    Refused (`step_gone`) unless the run is at this very attempt: one that was slow and comes back after its attempt was
    given up cannot overwrite its successor.
    """

    #: the step run: `step/7`
    step: str
    attempt: int
    output: Any = None


class FailStep(Struct, frozen=True, tag="fail_step", omit_defaults=True):
    """A step's attempt failed, or was lost with its worker; the retry policy decides what comes next."""

    step: str
    attempt: int
    #: `TIMEOUT`, `LEASE_LAPSED`, `HTTP_503`, a plugin's own …; retry policies and transitions may name it
    code: str
    message: str
    #: false: no further attempt can help
    retryable: bool = True
    #: milliseconds that the other side asked us to wait before the next attempt (Retry-After)
    retry_after_ms: int | None = None
    details: dict[str, Any] = {}


class ResolveIncident(Struct, frozen=True, tag="resolve_incident", omit_defaults=True):
    """
    An operator resolves an incident.

    `retry` does again what failed, with fresh attempts, after merging `patch` into the data where one is given; `skip`
    lets it count as done, with `output`; `give_up` fails the instance for good and tells its parent.
    """

    incident: str
    action: Literal["retry", "skip", "give_up"]
    reason: str
    #: an RFC 7396 patch of the instance data, merged first
    patch: dict[str, Any] | None = None
    output: Any = None


class InboundEvent(Struct, frozen=True, omit_defaults=True):
    """An event from outside, as expressions see it: `event.data.orderId`, `event.type`."""

    id: str
    source: str
    type: str
    subject: str | None = None
    time: datetime | None = None
    data: Any = None
    #: what else it carries by name: `datacontenttype`, `dataschema`, extensions
    attributes: dict[str, Any] = {}


class DeliverEvent(Struct, frozen=True, tag="correlate", omit_defaults=True):
    """
    An event from outside reaches this instance.

    `receive` completes the receive steps that await it; `advance` fires a trigger; `execute` runs a step of the
    definition beside the others; `escalate` asks for attention; `handle` runs a handler's actions. Conditions have been
    checked by whoever matched it.
    """

    event: InboundEvent
    action: Literal["receive", "advance", "execute", "escalate", "handle"] = "receive"
    #: id of the event trigger or handler that matched
    matched: str | None = None
    #: receive: the awaiting step runs; empty: all whose type and key fit
    steps: tuple[str, ...] = ()
    #: advance: what is fired (by default the event's type), and the state it must lead to
    trigger: str | None = None
    target: str | None = None
    #: execute: name of the step in the definition's `steps`
    step: str | None = None
    #: what the trigger's `parameters` came to, seen as `event.data`; None: it has none, and the event's own data is seen
    parameters: dict[str, Any] | None = None
    #: how many of the engine's own events led to this without a person in between
    depth: int = 0


Order: TypeAlias = (
    StartInstance
    | BeginInstance
    | FireTrigger
    | RecordDecision
    | ReplaceApprovers
    | UpdateData
    | SuspendInstance
    | ResumeInstance
    | CancelInstance
    | FireTimer
    | CompleteStep
    | FailStep
    | ResolveIncident
    | DeliverEvent
)


class Trace(Struct, frozen=True, omit_defaults=True):
    """To what larger undertaking a command belongs (W3C Trace Context), for those who follow one through many systems."""

    #: `traceparent`: version, trace, span, flags
    parent: str
    #: `tracestate`: what others hand along with it
    state: str = ""


class Command(Struct, frozen=True, omit_defaults=True):
    """An order, with who gives it and what it rests on."""

    #: unique; kept in the history row, so that a command is known to have been applied
    id: str
    actor: Actor
    order: Order
    #: the revision the caller has seen (If-Match); another one is refused as `revision_conflict`
    expected_revision: int | None = None
    #: kept in the history row, and with what it leads to
    trace: Trace | None = None
