"""Findings: what is wrong with a document, for its author.

All findings of a document come at once, each with a JSON Pointer (RFC 6901) to the place, a code that never changes its
meaning, a sentence, and where possible a hint that says what to do. An `error` keeps the document from being used; a
`warning` does not.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from msgspec import Struct

Severity: TypeAlias = Literal["error", "warning"]

#: Errors that SCXML allows and the interpreter runs all the same: they hurt an author's instances, not the engine. Only
#: these can be lowered to warnings.
RUNNABLE: Final = frozenset({"dead_end", "never_taken"})

#: The most findings of one code.
FINDINGS_MAX: Final = 200

#: Every code that a finding can have, with its meaning. The reference page lists each of them.
CODES: Mapping[str, str] = MappingProxyType(
    {
        # limits and shape
        "too_large": "The document, or one part of it, is larger than the engine accepts.",
        "too_deep": "Values are nested more than 50 levels deep.",
        "bad_text": "A text holds a NUL character or half of a surrogate pair, which cannot be stored.",
        "bad_number": "A number is not finite or too large to be kept exactly.",
        "wrong_type": "The value is of another JSON type than this key takes.",
        "missing": "A required key is not there; the pointer says where it belongs.",
        "unknown_key": "The key means nothing here.",
        "unknown_value": "The value is none of the few that are possible here.",
        "bad_format": "The text does not look like what this key takes.",
        "out_of_range": "A number or length is below or above what this key takes.",
        "not_supported_yet": "The key belongs to a later release; it is refused rather than ignored.",
        # names
        "reserved_name": "The definition's name is a UUID or a fixed word in the paths of the API.",
        "duplicate_id": "Two things of one kind have the same id.",
        "id_mismatch": "A state or guard says another id than the key it stands under.",
        "unknown_state": "No state has this id.",
        "unknown_guard": "No guard or condition has this name.",
        "unknown_action": "No action has this name.",
        "unknown_chain": "No approval chain has this id.",
        "endless_starts": "A trigger would start an instance for each event of those it has started.",
        "unknown_key_name": "No correlation key has this name.",
        "unknown_send_id": "A `cancel` names a delayed trigger that nothing sends.",
        "dependency_cycle": "Guards depend on each other in a circle.",
        "action_cycle": "Named actions contain each other in a circle.",
        "unknown_step": "No step has this name or id.",
        "unknown_plugin": "No node has a plugin of this id that works.",
        "plugin_configuration": "The configuration is not what the plugin takes.",
        "plugin_not_running": "The plugin is known, and no worker has it now: its steps would wait.",
        "plugin_not_checked": "`pliers validate`: the plugin cannot be used on this machine, so its configuration was not checked.",
        "step_cycle": "Named steps contain each other in a circle.",
        "unused": "A guard, condition, action, chain or step that nothing refers to.",
        # states
        "final_with_content": "A final state has substates, transitions, timeouts, a chain or steps of its own.",
        "final_in_parallel": "A final state stands where a region of a parallel state is expected.",
        "final_states_disagree": "`finalStates` does not list exactly the top-level states of type `final`.",
        "history_without_default": "A history state has no `properties.initial` for when there is nothing to remember.",
        "history_with_content": "A history state has substates, actions, transitions, timeouts, a chain or steps of its own.",
        "history_at_top": "A history state stands at the top, where there is nothing to return to.",
        "initial_outside": "The initial target of a state does not lie inside it.",
        "initial_unused": "The state has no use for `properties.initial`.",
        "initial_disagrees": "The state of type `initial` is not the one that is entered first.",
        "several_initial": "Several substates of one state are of type `initial`; the first counts.",
        "no_default_substate": "A compound state has no substate that can be entered by default.",
        "parallel_without_regions": "A parallel state has no regions, or only one.",
        "choice_without_default": "A choice has no transition without condition and guards to fall back on.",
        "choice_with_trigger": "A transition out of a choice waits for a trigger; a choice is left at once.",
        "choice_with_content": "A choice has substates, timeouts, a chain or steps.",
        "misplaced": "The key has no effect on a state of this type.",
        # transitions
        "targets_not_in_regions": "Targets of one transition or entry cannot be active together.",
        "bad_trigger": "The trigger is empty or cannot be matched.",
        "never_taken": "An earlier transition without condition always wins, so this one is never taken.",
        "overlap_without_priority": "Two guarded transitions wait for one trigger, and no priority says which is asked first.",
        "eventless_loop": "Transitions without trigger and condition lead in a circle, for ever.",
        "unreachable_state": "No way leads from the initial state to this one.",
        "dead_end": "Once here, nothing can ever leave this state, and it is not final.",
        "join_never_completes": "A transition waits for `done.state.X`, but X can never be done.",
        "unhandled_trigger": "An action raises or sends a trigger that no transition waits for.",
        # steps
        "bad_step": "A step lacks what its type needs, or has what means nothing there.",
        "retry_impossible": "A `retryPolicy` that can have no effect.",
        "compensation_ignored": "A `compensation` that nothing asks for, or a rollback with nothing to undo.",
        "compensation_unlimited": "A `compensation` waits for what may never come, and no time limit ends that.",
        "one_branch_decides": "A branch weighs more than all others together, so that a majority is its will.",
        "weight_ignored": "A branch's `weight` has no effect with this `waitStrategy`.",
        "endless_recursion": "A workflow starts itself under no condition.",
        # time
        "timeout_unhandled": "A timeout raises a trigger that no transition active at that time waits for.",
        # approvals
        "rejection_unhandled": "The chain can be refused, and no transition of its state handles `rejected`.",
        "approval_unhandled": "The chain can be granted, and no transition of its state handles that.",
        "stage_without_condition": "A stage of type `conditional` has no condition.",
        "condition_not_conditional": "A stage has a condition and is not of type `conditional`.",
        "stage_type_disagrees": "A stage's type names another kind of approver than those it lists.",
        "duplicate_approver": "A stage lists the same approver twice; a person decides once in a stage.",
        "quorum_unreachable": "The stage needs more different people than it can ever have.",
        "minimum_ignored": "`minimumApprovals` has no effect beside `unanimousRequired: true`.",
        "approvers_may_be_empty": "A dynamic approver may give nobody, and nobody is named to be asked instead.",
        "fallback_missing": "`onTimeout: fallback`, and there is no fallback to be asked.",
        "timeout_missing": "`onTimeout` without `timeoutMinutes` never happens.",
        # expressions
        "bad_expression": "The expression is not valid CEL.",
        "expression_mismatch": "The expression names something unknown or compares or gives the wrong type.",
        "bad_condition": "A condition object lacks what its type needs, or has what another type needs.",
        "bad_script": "The script is not valid, or does not end in an expression.",
        "timeout_without_script": "A guard's `timeout` only limits scripts, and its condition is none.",
        "bad_template": "The title's braces do not pair, or hold something else than a path.",
        "unknown_field": "The data schema knows no such field.",
        # data schema
        "bad_schema": "`dataSchema` is not a valid JSON Schema 2020-12.",
        "schema_not_object": "`dataSchema` must describe an object.",
        "remote_reference": "`dataSchema` refers to something outside the document.",
        "endless_reference": "References in `dataSchema` lead in a circle without going deeper into the data.",
    }
)


class Finding(Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong."""

    #: RFC 6901; of a missing key: where it belongs
    pointer: str
    #: one of `CODES`
    code: str
    message: str
    #: what to do about it
    hint: str | None = None
    severity: Severity = "error"


#: A hint, or how to find one: looking for the nearest word takes time that only a kept finding is worth.
Hint: TypeAlias = "str | Callable[[], str | None] | None"


class Findings:
    """Gathers findings; checks add to it. Of one code it keeps the first 200: nobody reads more.

    Codes in `only_warn` are warnings whatever a check says of them.
    """

    def __init__(self, *, only_warn: Collection[str] = ()) -> None:
        assert RUNNABLE.issuperset(only_warn), only_warn
        self._only_warn = frozenset(only_warn)
        self.all: list[Finding] = []
        self._counts: Counter[tuple[str, Severity]] = Counter()

    def error(self, code: str, pointer: str, message: str, hint: Hint = None) -> None:
        """Add a finding that keeps the document from being used."""
        self.add("error", code, pointer, message, hint)

    def warning(self, code: str, pointer: str, message: str, hint: Hint = None) -> None:
        """Add a finding that the author should know of."""
        self.add("warning", code, pointer, message, hint)

    def add(self, severity: Severity, code: str, pointer: str, message: str, hint: Hint = None) -> None:
        """Add a finding whose severity depends."""
        assert code in CODES, code
        if code in self._only_warn:
            severity = "warning"
        self._counts[code, severity] += 1
        if self._counts[code, severity] <= FINDINGS_MAX:
            text = hint() if callable(hint) else hint
            self.all.append(Finding(pointer, code, message, text, severity))

    @property
    def errors(self) -> bool:
        """Whether one of them is an error."""
        return any(finding.severity == "error" for finding in self.all)


def pointer(*parts: str | int) -> str:
    """
    Make a JSON Pointer of keys and positions.

    >>> pointer("states", "a/b", 0)
    '/states/a~1b/0'
    """
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """
    Give a hint with the known word that looks most like one that is unknown, or with all of them if they are few.

    >>> did_you_mean("aprove", ["approve", "reject"])
    'Did you mean `approve`?'
    """
    words = sorted(set(known))
    close = nearest(word, words)
    if close is not None:
        return f"Did you mean `{close}`?"
    if 0 < len(words) <= 12:
        return "Known here: " + ", ".join(f"`{word}`" for word in words) + "."
    return None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """
    Find the known word that looks most like one that is unknown.

    >>> nearest("triger", ["trigger", "to"]), nearest("owner", ["trigger", "to"])
    ('trigger', None)
    """
    words = sorted(set(known))
    if not 0 < len(word) <= 100 or len(words) > 5000:
        return None
    lower = {candidate.lower(): candidate for candidate in words}
    if word.lower() in lower:
        return lower[word.lower()]
    alike = words
    if len(words) > 300:
        # looking at thousands of words letter by letter takes tens of milliseconds
        alike = [one for one in words if abs(len(one) - len(word)) <= 2 and one[:1] == word[0]][:300]
    return next(iter(difflib.get_close_matches(word, alike, n=1, cutoff=0.6)), None)


def shown(value: object, limit: int = 60) -> str:
    """Show a value of the document in a message: short, and in one line."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
