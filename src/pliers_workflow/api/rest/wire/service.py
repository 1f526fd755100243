"""The service itself over the wire."""

from __future__ import annotations

from typing import Literal

from .base import Json, View


class HealthView(View, frozen=True, kw_only=True):
    """Whether this node can work. `details` is for operators, auditors and administrators."""

    status: Literal["up", "down"]
    details: Json | None = None


class ProblemKindView(View, frozen=True, kw_only=True):
    """What a problem's code means."""

    code: str
    status: int
    error_code: str
    title: str
    detail: str
