"""Reading: everything that is shown of instances, work items and history, each for a `Viewer`.

Commands never come this way; they read their instances with the batch that writes them.
"""

from __future__ import annotations

from ..paging import BadCursor, Page
from .approvals import InboxItem, WorkItemView, inbox, pending_approvals
from .health import JOB_KINDS, DueJobs, RunningSteps, dead_jobs, due_jobs, health, running_steps
from .history import HistoryEntry, Timeline, TimelineEntry, history, timeline
from .incidents import IncidentFilter, IncidentGroup, IncidentRow, incident_groups, incidents, incidents_of
from .instances import InstanceView, get_instance, is_visible, list_instances
from .steps import StepAtWork, StepEntry, steps, steps_at_work
from .viewer import Reader, Viewer

__all__ = [
    "JOB_KINDS",
    "BadCursor",
    "DueJobs",
    "HistoryEntry",
    "InboxItem",
    "IncidentFilter",
    "IncidentGroup",
    "IncidentRow",
    "InstanceView",
    "Page",
    "Reader",
    "RunningSteps",
    "StepAtWork",
    "StepEntry",
    "Timeline",
    "TimelineEntry",
    "Viewer",
    "WorkItemView",
    "dead_jobs",
    "due_jobs",
    "get_instance",
    "health",
    "history",
    "inbox",
    "incident_groups",
    "incidents",
    "incidents_of",
    "is_visible",
    "list_instances",
    "pending_approvals",
    "running_steps",
    "steps",
    "steps_at_work",
    "timeline",
]
