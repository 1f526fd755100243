"""Approval chains: that every outcome is handled, and that a stage can get the voices it needs."""

from __future__ import annotations

from collections.abc import Iterable

from ..document import ApprovalChain, ApprovalStep, ApproverDefinition, WorkflowDefinition
from ..findings import Findings
from ..tree import Node, Tree


def check(definition: WorkflowDefinition, tree: Tree, findings: Findings) -> None:
    """See the module."""
    places: dict[str, list[Node]] = {}
    for node in tree.nodes:
        started = node.state.properties.approval_chain
        if started is not None:
            places.setdefault(started, []).append(node)
    for position, chain in enumerate(definition.approval_chains):
        for node in places.get(chain.id, ()):
            _outcomes(node, chain, tree, findings)
        for index, stage in enumerate(chain.steps):
            at = f"/approvalChains/{position}/steps/{index}"
            _stage(stage, at, definition, findings)
            _clock(stage, at, chain, places.get(chain.id, ()), definition, tree, findings)
        if chain.configuration.distinct_approvers:
            _distinct(chain, position, findings)
    _fallbacks(definition.access.administrators, "/access/administrators", True, findings)


def _outcomes(node: Node, chain: ApprovalChain, tree: Tree, findings: Findings) -> None:
    at = node.pointer + "/properties/approvalChain"
    if not tree.may_handle(node, "rejected"):
        findings.error(
            "rejection_unhandled",
            at,
            f"When `{chain.id}` is refused, `rejected` is raised, and no transition waits for it.",
            f"Add a transition from `{node.id}` with the trigger `rejected`.",
        )
    moves_on = any(edge.eventless for edge in node.transitions)
    if not moves_on and not tree.may_handle(node, "approved"):
        findings.error(
            "approval_unhandled",
            at,
            f"When `{chain.id}` is granted, `approved` is raised, and no transition waits for it.",
            f"Add a transition from `{node.id}` with the trigger `approved`, or without any.",
        )


def _stage(stage: ApprovalStep, at: str, definition: WorkflowDefinition, findings: Findings) -> None:
    if stage.type == "conditional" and stage.condition is None:
        findings.error(
            "stage_without_condition",
            at + "/condition",
            f"The stage `{stage.id}` is conditional and has no condition.",
            "Add `condition`, or choose another `type`.",
        )
    elif stage.type != "conditional" and stage.condition is not None:
        findings.error(
            "condition_not_conditional",
            at + "/type",
            f"The stage `{stage.id}` has a condition and is of type `{stage.type}`.",
            "Set `type` to `conditional`, or remove the condition.",
        )
    kinds = {approver.type for approver in stage.approvers}
    if stage.type in ("role", "group") and not kinds & {stage.type, "dynamic"}:
        findings.warning(
            "stage_type_disagrees",
            at + "/type",
            f"The stage is of type `{stage.type}`, and none of its approvers is one.",
            "The type is only a label; the approvers decide who is asked.",
        )
    _voices(stage, at, findings)
    _fallbacks(stage.approvers, at + "/approvers", bool(definition.access.administrators), findings)


def _voices(stage: ApprovalStep, at: str, findings: Findings) -> None:
    seen: set[tuple[str, str]] = set()
    for index, approver in enumerate(stage.approvers):
        key = (approver.type, approver.identifier)
        if key in seen:
            findings.warning(
                "duplicate_approver",
                f"{at}/approvers/{index}",
                f"`{approver.identifier}` is listed twice; a person decides once in a stage.",
                "Remove one of them.",
            )
        seen.add(key)
    needs = stage.requirements
    if needs.unanimous_required and needs.minimum_approvals is not None:
        findings.warning(
            "minimum_ignored",
            at + "/requirements/minimumApprovals",
            "`unanimousRequired` wins, so `minimumApprovals` has no effect.",
            "Remove one of them.",
        )
        return
    people = _people(stage.approvers)
    if people is None:
        return
    if needs.minimum_approvals is not None and needs.minimum_approvals > len(people):
        findings.error(
            "quorum_unreachable",
            at + "/requirements/minimumApprovals",
            f"{needs.minimum_approvals} approvals are needed, and only {len(people)} different people are asked.",
            "Lower `minimumApprovals`, or add approvers.",
        )


def _people(approvers: Iterable[ApproverDefinition]) -> set[str] | None:
    """Give the people asked, when the document alone tells who they are."""
    found: set[str] = set()
    for approver in approvers:
        if approver.type != "user":
            return None
        found.add(approver.identifier)
    return found


def _distinct(chain: ApprovalChain, position: int, findings: Findings) -> None:
    taken: dict[str, str] = {}
    for index, stage in enumerate(chain.steps):
        people = _people(stage.approvers)
        if people is None or stage.condition is not None or any(approver.fallback for approver in stage.approvers):
            continue
        if people <= taken.keys():
            who = min(people)
            findings.error(
                "quorum_unreachable",
                f"/approvalChains/{position}/steps/{index}/approvers",
                f"`{who}` has to decide in `{taken[who]}` already, and `distinctApprovers` lets nobody decide twice.",
                "Name somebody else, or set `distinctApprovers` to false.",
            )
        if len(people) == 1:
            taken.setdefault(next(iter(people)), stage.id)


def _fallbacks(approvers: tuple[ApproverDefinition, ...], at: str, administrators: bool, findings: Findings) -> None:
    if any(approver.type != "dynamic" or approver.fallback for approver in approvers):
        return
    if not administrators and approvers:
        findings.warning(
            "approvers_may_be_empty",
            at,
            "The expressions may give nobody, and nobody is named to be asked instead; an incident would be raised.",
            "Add a `fallback`, or `access.administrators`.",
        )


def _clock(
    stage: ApprovalStep,
    at: str,
    chain: ApprovalChain,
    places: Iterable[Node],
    definition: WorkflowDefinition,
    tree: Tree,
    findings: Findings,
) -> None:
    if stage.requirements.timeout_minutes is None:
        if stage.on_timeout != "none":
            findings.error(
                "timeout_missing",
                at + "/onTimeout",
                f"`onTimeout: {stage.on_timeout}` never happens: the stage has no clock.",
                "Add `requirements.timeoutMinutes`.",
            )
        return
    if stage.on_timeout == "fallback" and not (
        definition.access.administrators or any(approver.fallback for approver in stage.approvers)
    ):
        findings.error(
            "fallback_missing",
            at + "/onTimeout",
            "When the time is up the fallbacks are asked, and there are none.",
            "Give an approver a `fallback`, or add `access.administrators`.",
        )
    trigger = f"timeout.{chain.id}.{stage.id}"
    if stage.on_timeout == "none" and not any(tree.may_handle(node, trigger) for node in places):
        findings.warning(
            "timeout_unhandled",
            at + "/requirements/timeoutMinutes",
            f"When the time is up, `{trigger}` is raised, and no transition waits for it.",
            "Set `onTimeout`, or add a transition with that trigger.",
        )
