"""What became of one seed."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Verdict(Struct):
    """What is wrong with one seed (nothing: it is green), what was counted, and what helps to understand it."""

    seed: str
    faults: list[str] = []
    counts: dict[str, Any] = {}
    #: histories of the instances concerned, for the folder of a failed seed
    evidence: list[str] = []
