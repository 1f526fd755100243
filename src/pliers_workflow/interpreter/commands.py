"""Commands: orders to one instance. Every change of an instance, by a person, a timer or the engine, is one of them."""

from __future__ import annotations

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


Order: TypeAlias = (
    StartInstance
    | FireTrigger
    | RecordDecision
    | UpdateData
    | SuspendInstance
    | ResumeInstance
    | CancelInstance
    | FireTimer
)


class Command(Struct, frozen=True, omit_defaults=True):
    """An order, with who gives it and what it rests on."""

    #: unique; kept in the history row, so that a command is known to have been applied
    id: str
    actor: Actor
    order: Order
    #: the revision the caller has seen (If-Match); another one is refused as `revision_conflict`
    expected_revision: int | None = None
