"""Whether a document makes sense: one module a theme, each adding its findings.

An *error* is what would certainly hurt an instance: a name that leads nowhere, a state nobody can leave. Whatever SCXML
allows and some author may mean (states nobody reaches, events nobody handles) is a *warning*. Where a chart has no final
state of its own its instances are not meant to complete, and standing still is no error there.
"""

from __future__ import annotations

from ..document import WorkflowDefinition
from ..findings import Findings
from ..step_walking import StepWalk
from ..tree import Tree
from . import approvals, clocks, data_schema, expressions, flow, hooks, names, states, steps, transitions

__all__ = ["check_meaning"]


def check_meaning(definition: WorkflowDefinition, findings: Findings, *, whole: bool = True) -> None:
    """Run every check on a document whose shape holds; nothing follows the transitions if it is not `whole`."""
    tree = Tree(definition.state_machine)
    walk = StepWalk(definition, tree)
    names.check(definition, tree, walk, findings)
    states.check(definition, tree, findings)
    transitions.check(definition, tree, findings)
    approvals.check(definition, tree, findings)
    steps.check(definition, tree, walk, findings)
    clocks.check(definition, tree, findings)
    schema_holds = data_schema.check(definition, walk, findings)
    expressions.check(definition, tree, walk, findings, schema_holds=schema_holds)
    hooks.check(definition, tree, walk, findings, schema_holds=schema_holds)
    if whole and not findings.errors:
        # These follow the transitions, and would blame the author for what a wrong name has cut off.
        flow.check(tree, findings)
