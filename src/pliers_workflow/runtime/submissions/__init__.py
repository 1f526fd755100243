"""Submitted forms, and the bindings by which they start workflows.

A submission and the starts it owes are written in one statement: a row, and a job for each binding that matches. Then the
starts are made at once, and their jobs are dropped. Whatever dies in between leaves the jobs, and `run_pending_starts`
makes what they owe. No start is made twice, because the instance's id follows from submission, revision and binding, and
its command's id from that: the second start finds the first.

A start that is refused (the workflow is not published, a mapping gives an error, the data does not fit) takes nothing
from the submission: it stays as a dead job, which an operator can see and retry when the cause is gone.

What happens to a submission is an event, too, kept in the same statement or transaction (`events`).

`bindings` are the standing orders, `mapping` what comes of one for a submission, `starts` makes what they owe from the `jobs` it is written down in, and `forms` keeps
what was submitted.
"""

from __future__ import annotations

from .bindings import Bindings
from .forms import Forms

__all__ = ["Submissions"]


class Submissions(Forms, Bindings):
    """Keeps submissions and bindings, and makes the starts they owe."""
