"""Make a definition of a document whose shape is wrong in places, so that its meaning can be checked all the same.

An author who mistyped one key wants to hear of the wrong names, too, and not only after the next attempt. So a mistyped
key is read as the one that was probably meant; any other unknown key, or a value that cannot be read, is left out; and
where an element cannot do without, something harmless stands in for it, at the same place, so that every pointer keeps
its meaning. What is found in the rest is told only where it cannot be a mere consequence of that; `Mended.told` decides,
and is silent when in doubt. Nobody ever runs a mended definition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from .document import WorkflowDefinition
from .findings import FINDINGS_MAX, Finding, nearest, pointer
from .shape import error_places, known_keys

#: Mending one mistake may show the next, such as a misread key's value; more than a few rounds are not worth the time.
ROUNDS_MAX: Final = 6

#: Findings that say that something is not there, or has another kind than something else expects: it may be what was
#: left out.
_OF_ABSENCE: Final = frozenset(
    {
        "unused",
        "unknown_send_id",
        "misplaced",
        "bad_condition",
        "condition_not_conditional",
        "final_states_disagree",
        "history_without_default",
        "history_at_top",
        "initial_unused",
        "initial_disagrees",
        "initial_outside",
        "no_default_substate",
        "parallel_without_regions",
        "choice_without_default",
        "targets_not_in_regions",
        "never_taken",
        "overlap_without_priority",
        "unhandled_trigger",
        "timeout_unhandled",
        "rejection_unhandled",
        "approval_unhandled",
        "approvers_may_be_empty",
        "fallback_missing",
        "timeout_missing",
        "stage_without_condition",
        "timeout_without_script",
        "bad_step",
        "retry_impossible",
        "compensation_ignored",
        "compensation_unlimited",
        "one_branch_decides",
    }
)
_OF_NAMES: Final = frozenset(
    {
        "unknown_state",
        "unknown_guard",
        "unknown_action",
        "unknown_chain",
        "unknown_field",
        "unknown_step",
        "unknown_key_name",
        "expression_mismatch",
    }
)

#: What stands in for the words at the top; no other part needs them.
_WORDS: Final = {("name",): "left-out", ("version",): "0.0.0", ("title",): "left out"}

#: Keys that hold what is named elsewhere.
_NAMING: Final = frozenset(
    {"id", "states", "substates", "guards", "actions", "conditions", "approvalChains", "steps", "itemName", "indexName"}
)

#: What stands in for a step.
_STEP: Final = {"type": "wait", "durationMinutes": 1}

_NEEDED: Final = (("stateMachine",), ("stateMachine", "states"))

_ACTION_LISTS: Final = ("actions", "entryActions", "exitActions")


class Mended(msgspec.Struct):
    """What a document could be made into, and what that cost."""

    #: None when too little is left
    definition: WorkflowDefinition | None = None
    #: pointers of what was left out or stood in for; findings there would be about something the author did not write
    doubtful: set[str] = msgspec.field(default_factory=set)
    #: pointers of keys read as others, with the pointer in the document
    renamed: dict[str, str] = msgspec.field(default_factory=dict)
    #: nothing was left out that another part might need
    whole: bool = True
    #: something was left out that may have been named elsewhere
    names_lost: bool = False

    def told(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Give the findings that hold for the author's document, with its own pointers."""
        for finding in findings:
            if not self.whole and finding.code in _OF_ABSENCE:
                continue
            if self.names_lost and finding.code in _OF_NAMES:
                continue
            if any(prefix in self.doubtful for prefix in _prefixes(finding.pointer)):
                continue
            yield self._as_written(finding)

    def _as_written(self, finding: Finding) -> Finding:
        at = finding.pointer
        # the innermost first: an outer pointer is unchanged inside the inner one's
        for prefix in sorted(_prefixes(at), key=len, reverse=True):
            if prefix in self.renamed:
                at = self.renamed[prefix] + at[len(prefix) :]
        return finding if at == finding.pointer else msgspec.structs.replace(finding, pointer=at)


def mend(document: Mapping[str, Any]) -> Mended:
    """Make a definition of what can be read; the document itself stays as it is."""
    mended = Mended()
    copy = _copy(document)
    for _ in range(ROUNDS_MAX):
        try:
            mended.definition = WorkflowDefinition.model_validate(copy, by_alias=True, by_name=False)
        except ValidationError as error:
            if error.error_count() > FINDINGS_MAX or not all(
                _mend(copy, kind, path, mended) for kind, path in error_places(error, copy)
            ):
                return mended
        else:
            return mended
    return mended


def _mend(document: dict[str, Any], kind: str, path: tuple[str | int, ...], mended: Mended) -> bool:
    """Mend one place; False where that is not possible."""
    mended.doubtful.add(pointer(*path))
    if not path:
        return False
    container = _at(document, path[:-1])
    if kind == "extra_forbidden" and isinstance(container, dict) and path[-1] in container:
        _unknown_key(document, container, path, mended)
        return True
    mended.whole = mended.whole and path in _WORDS
    if kind == "key":
        mended.names_lost = True
        return _take(document, path)
    length = _element(path)
    if length:
        mended.doubtful.add(pointer(*path[:length]))
    key = path
    while not isinstance(key[-1], str):
        key = key[:-1]
    # A key that cannot be left out shows in the next round.
    if len(key) > length and kind not in ("missing", "union_tag_not_found") and key not in _NEEDED:
        mended.names_lost = mended.names_lost or key[-1] in _NAMING
        return _take(document, key)
    return _stand_in(document, path, length, mended)


def _unknown_key(
    document: dict[str, Any], container: dict[str, Any], path: tuple[str | int, ...], mended: Mended
) -> None:
    key = str(path[-1])
    value = container.pop(key)
    meant = nearest(key, known_keys(list(path), document))
    if meant is not None and meant not in container:
        container[meant] = value
        # The key itself is no longer a place of doubt: what is below it was written by the author.
        mended.doubtful.discard(pointer(*path))
        mended.renamed[pointer(*path[:-1], meant)] = pointer(*path)
    elif isinstance(value, dict | list):
        mended.whole = False
        mended.names_lost = True
    elif len(path) > 1:
        mended.whole = False
        # What it was may have been the id; or what a loop calls its element, which expressions speak.
        mended.names_lost = mended.names_lost or "id" not in container or container.get("type") == "for_each"


def _element(path: tuple[str | int, ...]) -> int:
    """Give the length of the innermost part of a path that leads to something that can be stood in for; 0 for none."""
    for length in range(len(path), 1, -1):
        outer, last = path[: length - 1], path[length - 1]
        if outer == ("approvalChains",) and isinstance(last, int):
            return length
        if outer in (("conditions",), ("stateMachine", "guards"), ("stateMachine", "actions")):
            return length
        if path[:2] == ("stateMachine", "transitions") and length == 3:
            return length
        if outer == ("steps",) or (outer[-1] == "steps" and isinstance(last, int) and outer[0] != "approvalChains"):
            return length
        if path[:2] == ("stateMachine", "states") and (length == 3 or outer[-1] == "substates"):
            return length
        if isinstance(last, int) and (
            outer[-1] in _ACTION_LISTS
            or outer[-1] == "timeouts"
            or (outer[-1] == "steps" and outer[0] == "approvalChains")
        ):
            return length
    return 0


def _stand_in(document: dict[str, Any], path: tuple[str | int, ...], length: int, mended: Mended) -> bool:
    if length == 0:
        return _stand_in_at_top(document, path)
    place, last = path[:length], path[length - 1]
    container = _at(document, place[:-1])
    if not isinstance(container, dict | list):
        return False
    number = len(mended.doubtful)
    outer = place[-2]
    stands: object
    if place[:-1] == ("conditions",):
        stands = {"type": "complex", "expression": "true"}
    elif place[:-1] == ("stateMachine", "guards"):
        stands = {"condition": "true"}
    elif place[:-1] == ("stateMachine", "actions") or outer in _ACTION_LISTS:
        stands = {"type": "log"}
    elif outer == "timeouts":
        stands = {"id": f"left-out-{number}", "afterMinutes": 1}
    elif outer == "steps" and place[0] != "approvalChains":
        # what stood in it may be named in expressions and triggers
        step = _at(document, place)
        id = step.get("id") if isinstance(step, dict) and path[-1] != "id" else None
        mended.names_lost = mended.names_lost or path[-1] == "id" or not isinstance(step, dict)
        stands = {**_STEP, "id": id} if isinstance(id, str) else _STEP
    elif outer == "steps":
        stands = {"id": f"left-out-{number}", "approvers": [{"type": "role", "identifier": "left-out"}]}
    elif place[:2] == ("stateMachine", "transitions"):
        states = _at(document, ("stateMachine", "states"))
        if not isinstance(states, dict) or not states:
            return False
        stands = {"from": next(iter(states)), "trigger": f"left-out.{number}"}
    elif place[:1] == ("approvalChains",):
        chain = _at(document, place)
        id = chain.get("id") if isinstance(chain, dict) else None
        mended.names_lost = mended.names_lost or not isinstance(id, str) or path[-1] == "id"
        steps = [{"id": "left-out", "approvers": [{"type": "role", "identifier": "left-out"}]}]
        stands = {"id": id if isinstance(id, str) and path[-1] != "id" else f"left-out-{number}", "steps": steps}
    else:
        # a state: what stood in it may be named anywhere
        mended.names_lost = True
        stands = {"id": f"left-out-{number}"} if isinstance(last, int) else {}
    return _put(container, last, stands)


def _stand_in_at_top(document: dict[str, Any], path: tuple[str | int, ...]) -> bool:
    if path in _WORDS:
        document[str(path[0])] = _WORDS[path]
        return True
    if path[:2] == ("stateMachine", "initialState"):
        machine = document.get("stateMachine")
        states = machine.get("states") if isinstance(machine, dict) else None
        if isinstance(machine, dict) and isinstance(states, dict) and states:
            machine["initialState"] = next(iter(states))
            return True
    return False


def _take(document: dict[str, Any], path: tuple[str | int, ...]) -> bool:
    """Leave out a key."""
    container = _at(document, path[:-1])
    if not isinstance(container, dict):
        return False
    # two mistakes may have one key in common
    container.pop(path[-1], None)
    return True


def _put(container: dict[str, Any] | list[Any], last: str | int, value: object) -> bool:
    if isinstance(container, dict):
        container[str(last)] = value
        return True
    if isinstance(last, int) and last < len(container):
        container[last] = value
        return True
    return False


def _prefixes(at: str) -> Iterator[str]:
    """
    Give a pointer and those of all that it lies in, except the root.

    >>> list(_prefixes("/a/b"))
    ['/a/b', '/a']
    """
    while at:
        yield at
        at = at[: at.rindex("/")]


def _at(document: object, path: tuple[str | int, ...]) -> object:
    for part in path:
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and isinstance(part, int) and 0 <= part < len(document):
            item: object = document[part]
            document = item
        else:
            return None
    return document


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    return value
