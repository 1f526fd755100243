"""Rejections: not now, not you, not like this. Values, in one fixed order of precedence.

The order of `Reason` is the order of precedence: where several hold, the first is given, so that the same request always
gets the same reason. Each reason carries the sentence people read, which says what to do next.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct


class Reason(StrEnum):
    """Why a command was refused, with the sentence people read."""

    message: str

    def __new__(cls, value: str, message: str) -> Reason:
        """Keep the sentence beside the value: a docstring below a member could not be read back everywhere."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.message = message
        return member

    # about the command as such
    INSTANCE_EXISTS = "instance_exists", "This instance has been started already."
    VERSION_ARCHIVED = (
        "version_archived",
        "The version has been archived meanwhile and takes no new instances; start the active one.",
    )
    REVISION_CONFLICT = (
        "revision_conflict",
        "The instance has changed since you read it; read it again and repeat what still makes sense.",
    )
    INSTANCE_ENDED = "instance_ended", "The instance has ended; nothing can be done with it any more."
    NOT_BEGUN = "not_begun", "The instance waits for its turn; it begins by itself as soon as others have ended."
    SUSPENDED = "suspended", "The instance is suspended; resume it first."
    NOT_SUSPENDED = "not_suspended", "The instance is not suspended, so there is nothing to resume."
    # about the person
    UNKNOWN_USER = "unknown_user", "There is no active user of that name or id in the directory."
    NOT_ALLOWED = "not_allowed", "You may not do this; `details.allowed` says who may."
    # approvals
    NOTHING_TO_DECIDE = "nothing_to_decide", "No approval stage is open here."
    UNKNOWN_STAGE = "unknown_stage", "The stage or work item named is not open; `details.open` lists what is."
    ALREADY_DECIDED = (
        "already_decided",
        "You have decided in this stage already, or it was settled before your decision arrived.",
    )
    NOT_AN_APPROVER = "not_an_approver", "You are not among those asked in this stage."
    SELF_APPROVAL_FORBIDDEN = (
        "self_approval_forbidden",
        "The requester may not decide on their own request, nor through a delegate.",
    )
    DECIDED_IN_OTHER_STAGE = (
        "decided_in_other_stage",
        "You decided in an earlier stage of this chain; this one needs another person.",
    )
    AMBIGUOUS_STAGE = "ambiguous_stage", "Several stages are open to you; name one in `stage`."
    COMMENTS_REQUIRED = "comments_required", "This stage wants a comment with every decision."
    DELEGATION_FORBIDDEN = "delegation_forbidden", "This chain does not let approvers delegate."
    DELEGATION_LOOP = (
        "delegation_loop",
        "That person has passed this item on already, is asked already, or is yourself.",
    )
    APPROVERS_THERE = "approvers_there", "Everybody who is asked is still there, so nobody is replaced."
    REQUEST_CHANGES_FORBIDDEN = "request_changes_forbidden", "This chain does not let approvers ask for changes."
    # transitions and data
    UNKNOWN_TRIGGER = (
        "unknown_trigger",
        "No transition of the active states takes this trigger; `details.available` lists those that would be taken.",
    )
    GUARD_FAILED = (
        "guard_failed",
        "A transition takes this trigger, but its guard does not hold; `details.explanation` says why.",
    )
    GUARD_ERROR = "guard_error", "A guard could not be evaluated; `details.explanation` says where."
    TARGET_NOT_REACHED = (
        "target_not_reached",
        "No enabled transition leads to the target state; /advance goes through transitions and never jumps.",
    )
    DATA_LOCKED = "data_locked", "The data cannot be edited in this state."
    DATA_INVALID = (
        "data_invalid",
        "The data would not match the definition's schema; `details.findings` lists every deviation.",
    )
    EXECUTION_ERROR = "execution_error", "An action of the definition failed with an error; nothing was changed."
    ENDLESS_LOOP = (
        "endless_loop",
        "The definition did not come to rest within its budget of microsteps; nothing was changed.",
    )
    BUDGET_EXCEEDED = (
        "budget_exceeded",
        "Interpreting this command took more work than is allowed; nothing was changed.",
    )
    DATA_TOO_LARGE = (
        "data_too_large",
        "The data would exceed 256 kB, or what the instance remembers of its steps 1 MB; keep large values as attachments.",
    )
    # timers
    TIMER_GONE = "timer_gone", "The timer has fired, or was cancelled or moved."
    # steps and incidents
    STEP_GONE = (
        "step_gone",
        "The step is not at this attempt any more: it was done, given up, cancelled or begun anew. Drop your result.",
    )
    UNKNOWN_STEP = "unknown_step", "The definition has no step of that name."
    UNKNOWN_INCIDENT = "unknown_incident", "There is no open incident of that id; it may have been resolved already."
    NOT_AWAITED = "not_awaited", "The instance awaits no such event now."


class Rejection(Struct, frozen=True, omit_defaults=True):
    """A command was refused; the instance is as it was."""

    reason: Reason
    message: str
    details: dict[str, Any] = {}
