"""Edit the instance data: who may, what is allowed, and what changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from . import statechart
from .draft import Refused
from .events import DataChanged
from .rejections import Reason

if TYPE_CHECKING:
    from .commands import UpdateData
    from .draft import Draft

_encoder = msgspec.json.Encoder(decimal_format="number")


def update_data(draft: Draft, order: UpdateData) -> None:
    """Replace the data, or merge a patch into them."""
    _check_editable(draft)
    edit(draft, order.patch, order.data)
    statechart.run_to_rest(draft)


def edit(draft: Draft, patch: dict[str, Any] | None, data: dict[str, Any] | None = None) -> None:
    """Let the data be these, with the patch merged; only what has changed goes on record."""
    before = draft.instance.data
    after = dict(data) if data is not None else dict(before)
    if patch is not None:
        after = merge_patch(after, patch)
    check_data(draft, after)
    # What the patch does not name is the same object. Else by their JSON, because 1 == true, and 1.0 is written otherwise.
    changed = {
        key: value
        for key, value in after.items()
        if key not in before or (before[key] is not value and _encoder.encode(before[key]) != _encoder.encode(value))
    }
    draft.emit(DataChanged(set=changed, removed=tuple([key for key in before if key not in after])))


def merge_patch(target: Any, patch: Any) -> Any:
    """
    Merge as RFC 7396 says: null removes, maps merge, everything else replaces.

    >>> merge_patch({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}})
    {'a': {'c': 2, 'd': 3}}
    """
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def _check_editable(draft: Draft) -> None:
    """
    Who may edit the data: each active atomic state asks its nearest `editableBy`, its own first.

    Where no active state has one, the requester may, but nobody while an approval chain is asking. Operators always.
    """
    if draft.actor.operates:
        return
    subjects: dict[str, None] = {}
    explicit = False
    for state in draft.active:
        if state.kind not in ("atomic", "final"):
            continue
        for owner in (state, *state.ancestors):
            if owner.editable_by is not None:
                explicit = True
                subjects.update(dict.fromkeys(owner.editable_by))
                break
    if explicit:
        if not subjects:
            raise Refused(Reason.DATA_LOCKED, state=draft.instance.current_state)
        draft.allow(tuple(subjects))
        return
    draft.allow(("requester",))
    asking = [run.state for run in draft.instance.machine.chains.values() if run.status in ("asking", "stuck")]
    if asking:
        raise Refused(Reason.DATA_LOCKED, state=asking[0])


def check_data(draft: Draft, data: Mapping[str, Any]) -> None:
    """Refuse data that do not match the definition's schema."""
    findings = draft.chart.check_data(data)
    if findings:
        raise Refused(
            Reason.DATA_INVALID,
            findings=[{"pointer": pointer, "message": message} for pointer, message in findings],
        )


def check_written(draft: Draft) -> None:
    """
    The same for what actions and outputs of steps have written, once for a whole command.

    Between two assignments the data may be as they like; what a command leaves fits the schema, on which expressions rely
    that were checked against it.
    """
    try:
        check_data(draft, draft.instance.data)
    except Refused as refusal:
        # Places and not values: an incident tells of it, which more people read than the data.
        places = ", ".join(dict.fromkeys(each["pointer"] or "the data" for each in refusal.details["findings"][:3]))
        explanation = f"what actions or outputs of steps have written does not fit at {places}"
        raise Refused(refusal.reason, **refusal.details, explanation=explanation) from None
