"""Read a document: decoded JSON in; the definition, and everything that is wrong with it, out.

`read` raises for no JSON value whatever. It looks at limits first, then at the shape, then at the meaning. Where the
shape does not hold, the meaning of the rest is checked (`mending`), and what may only follow from the broken part is not
told: it would not be the author's fault.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from .checks import check_meaning
from .checks.unsupported import check_unsupported
from .document import WorkflowDefinition
from .findings import FINDINGS_MAX, Finding, Findings
from .limits import check_counts, check_limits
from .mending import mend
from .names import check_name
from .shape import check_shape


class Reading(msgspec.Struct, frozen=True):
    """What reading a document came to."""

    #: set when there is no error; warnings may be there all the same
    definition: WorkflowDefinition | None
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep the document from being used."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def read(document: object, *, only_warn: Collection[str] = ()) -> Reading:
    """
    Read a document of decoded JSON.

    Codes in `only_warn` are warnings here, so that a document runs that nobody would publish; they must be among
    `findings.RUNNABLE`, which the interpreter can live with.

    >>> reading = read({"name": "leave", "version": "1.0", "title": "Leave"})
    >>> [(finding.pointer, finding.code) for finding in reading.findings]
    [('/version', 'bad_format'), ('/stateMachine', 'missing')]
    """
    findings = Findings(only_warn=only_warn)
    if not isinstance(document, Mapping):
        findings.error("wrong_type", "", "A workflow definition is a JSON object.", 'Begin with `{"name": …}`.')
        return Reading(None, tuple(findings.all))
    check_limits(document, findings)
    if not findings.errors:
        check_counts(document, findings)
    if findings.errors:
        return Reading(None, tuple(findings.all))
    definition = check_shape(document, findings)
    check_unsupported(document, findings)
    name = document.get("name")
    if isinstance(name, str) and (finding := check_name(name)) and finding.code == "reserved_name":
        findings.all.append(finding)
    if definition is not None:
        check_meaning(definition, findings)
    elif len(findings.all) < FINDINGS_MAX:
        mended = mend(document)
        if mended.definition is not None:
            others = Findings(only_warn=only_warn)
            check_meaning(mended.definition, others, whole=mended.whole)
            findings.all.extend(mended.told(others.all))
    return Reading(None if findings.errors else definition, tuple(findings.all))
