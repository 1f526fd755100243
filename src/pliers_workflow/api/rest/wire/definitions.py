"""Definitions over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from ...problems import FindingView
from .base import Input, Json, PageQuery, View


class DefinitionSummaryView(View, frozen=True, kw_only=True):
    """One version of a workflow, as lists show it."""

    id: str
    name: str
    version: str
    title: str
    description: str | None
    status: Literal["draft", "active", "deprecated", "archived"]
    #: for If-Match
    revision: int
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None
    archived_at: datetime | None
    created_by: str | None
    updated_by: str | None


class DefinitionView(DefinitionSummaryView, frozen=True, kw_only=True):
    """One version of a workflow with its document."""

    #: the document as its author wrote it
    definition: Json
    #: the document's stateMachine
    state_machine: Json
    #: the document's approvalChains
    approval_chains: Any
    #: the document's eventHooks
    event_hooks: Any
    #: the document's timeoutConfig
    timeout_config: Any
    #: the document's metadata
    metadata: Any
    #: warnings, in the answer to the request that wrote it
    findings: list[FindingView]


class DefinitionsQuery(PageQuery, frozen=True, kw_only=True):
    """Which definitions to list."""

    status: Literal["draft", "active", "deprecated", "archived"] | None = None
    #: names that begin with this
    name: Annotated[str, Meta(max_length=255)] | None = None


class PublishInput(Input, frozen=True, kw_only=True):
    """Which version to publish; by default the draft."""

    version: Annotated[str, Meta(max_length=100)] | None = None


class ValidationView(View, frozen=True, kw_only=True):
    """What checking a document came to."""

    #: there is no finding of severity error
    valid: bool
    findings: list[FindingView]


class ArchivedView(View, frozen=True, kw_only=True):
    """What was archived."""

    archived: list[DefinitionSummaryView]
